"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: for root alone, or who runs it: an administrator may open it, and a file that is there keeps its mode
PRIVATE = 0o600
#: as the user's umask has it
BY_UMASK = None


#: bytes of a file that is read: the record of a fleet fits a hundred times
_MOST = 512 * 1024 * 1024


def read(path: Path, most: int = _MOST) -> bytes:
    """Return the content of the file at *path*. In a report's place others may have put an endless pipe, or a device.

    Raises OSError if it cannot be read, is no file, or has more than *most* bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file")
        data = stream.read(most + 1) if status.st_size <= most else b""
        if len(data) > most or status.st_size > most:
            raise OSError(
                errno.EFBIG, f"it has more than the {most} bytes that are read"
            )
        return data


def write(
    path: Path,
    pieces: Iterable[str],
    *,
    durable: bool = False,
    mode: int | None = PRIVATE,
) -> None:
    """Write *pieces* of text to *path*, beside and renamed; *durable*: it is on the disk before it has its name.

    The new file has *mode*, whatever the umask. Raises OSError, also for a device or a pipe that the user named (any
    mode but PRIVATE): no file is put in its place. At a name of ours it is replaced.
    """
    if mode != PRIVATE:
        expect_file(path)
    temporary = path.with_name(
        f".{path.name}.{os.getpid()}.new"
    )  # of two runs each has its own
    if mode == PRIVATE:
        mode = _mode_of(path)
    try:
        with os.fdopen(_made(temporary, mode), "w", encoding="utf-8") as stream:
            stream.writelines(pieces)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        drop(temporary)


def expect_file(path: Path) -> None:
    """Raise OSError if *path* is there and no regular file: no file is put in its place."""
    if path.exists() and not path.is_file():
        raise OSError(
            errno.EINVAL, "no regular file, and no other is put in its place", str(path)
        )


def drop(path: Path) -> None:
    """Remove a useless file, if that can be done: a disk may have turned read-only meanwhile."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _made(path: Path, mode: int | None) -> int:
    """Make a new file at *path*, open for writing: a link there is not followed, an old file is not kept."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666 if mode is None else mode & 0o600)
    if mode is not None:
        os.fchmod(descriptor, mode)
    return descriptor


def _mode_of(path: Path) -> int:
    """Return the mode of our file at *path* if there is one, else PRIVATE."""
    with suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            return stat.S_IMODE(status.st_mode) & 0o666
    return PRIVATE
