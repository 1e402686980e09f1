"""Standard output for one document: everything else that this process prints goes to standard error meanwhile."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress

from reclaim.base.errors import ReclaimError

_OUT, _ERR = 1, 2
#: standard output as it was given to this process, once it is reserved
_RESERVED: list[int] = []
#: true if standard output was closed when this process began, and leads nowhere now
_CLOSED: list[bool] = []


def was_closed() -> None:
    """Note that standard output was closed, and leads nowhere now: a document would be lost there."""
    _CLOSED.append(True)


def is_reserved() -> bool:
    return bool(_RESERVED)


def reserve() -> None:
    """From now on only `write` reaches standard output: pytest, libvirt and programs that are started print elsewhere.

    Raises ReclaimError if standard output is closed.
    """
    if _RESERVED:
        return
    if sys.stdout is None or _CLOSED:
        raise ReclaimError("standard output is closed")
    sys.stdout.flush()
    try:
        # no other program inherits it, and it does not take the place of standard error if that is closed
        _RESERVED.append(fcntl.fcntl(_OUT, fcntl.F_DUPFD_CLOEXEC, _ERR + 1))
    except OSError as exc:
        raise ReclaimError(f"standard output: {exc.strerror}") from exc
    try:
        os.dup2(_ERR, _OUT)
    except OSError:  # standard error is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), _OUT)


def write(text: str) -> None:
    """Write *text* to standard output, and close it: its reader need not wait for the end of this process.

    A reader that is gone, as head(1) is after its lines, is no trouble. Raises OSError for any other failure.
    """
    descriptor = _RESERVED[0]
    os.set_blocking(descriptor, True)
    with suppress(BrokenPipeError), os.fdopen(os.dup(descriptor), "wb", 0) as stream:
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        while data:
            data = data[stream.write(data) :]
    _close(descriptor)


def _close(descriptor: int) -> None:
    # the number stays taken: no other file may get it
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)
