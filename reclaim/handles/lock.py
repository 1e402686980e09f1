"""One writer for each hypervisor: a lock that no other process can take.

Root's lies in a folder of root's, any other user's in a folder of their own: in one for all, such as /run/lock,
another user could hold it first (CWE-412).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Container, Iterator
from contextlib import ExitStack
from pathlib import Path

from reclaim.base.errors import ReclaimError
from reclaim.handles.node import Node

_ROOTS = Path("/run/reclaim")
#: systemd's folder with each user's runtime folder (file-hierarchy(7))
_USERS = Path("/run/user")


class LockHeld(ReclaimError):
    """Another run of the same user has the lock."""


def lock(hypervisor: Node) -> ExitStack:
    """Return the lock of one hypervisor, held until the stack is closed.

    Raises LockHeld, or ReclaimError if there is none.
    """
    path = _folder() / _name(hypervisor)
    try:
        descriptor = _opened(path)
    except OSError as exc:
        raise ReclaimError(f"{path}: cannot be opened: {exc.strerror}") from exc
    stack = ExitStack()
    stack.callback(os.close, descriptor)
    if not _takes(descriptor):
        stack.close()
        raise LockHeld(
            f"{hypervisor.uri}: another --fix is under way there, or a --boot-stopped (lock {path}); wait for it"
        )
    return stack


def others_at_work(hypervisor: Node, users: Container[int] | None = None) -> list[str]:
    """Return the locks that other users hold of the same hypervisor, those of *users* alone if they are given.

    Only root sees them. They do not keep this run out.
    """
    if os.geteuid() != 0:
        return []
    held = []
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for path in sorted(_USERS.glob(f"*/reclaim/{_name(hypervisor)}")):
        try:
            descriptor = os.open(path, flags)
        except OSError:
            continue
        try:
            owner = os.fstat(descriptor).st_uid
            if owner == 0 or (users is not None and owner not in users):
                continue
            if not _takes(descriptor):
                held.append(f"{path}, of the user {path.parts[-3]}")
        finally:
            os.close(descriptor)
    return held


def _name(hypervisor: Node) -> str:
    return f"{hashlib.sha256(hypervisor.identity.encode()).hexdigest()[:16]}.lock"


def _takes(descriptor: int) -> bool:
    """True if the lock is ours from now on."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(path: Path) -> int:
    """Open the file of the lock. One that another user made, in a folder that was once his, is replaced."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    for attempt in (path, path):
        descriptor = os.open(attempt, flags, 0o600)
        if os.fstat(descriptor).st_uid == os.geteuid():
            return descriptor
        os.close(descriptor)
        attempt.unlink()
    raise ReclaimError(
        f"{path}: it belongs to another user, and is back after its removal: find out who creates it"
    )


def _folder() -> Path:
    """Return a folder that is ours alone, made if it is missing. Raises ReclaimError if there is none."""
    troubles = []
    for folder in _folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.lstat()
        except OSError as exc:
            troubles.append(f"{folder}: {exc.strerror}")
            continue
        if (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and not status.st_mode & 0o022
        ):
            return folder
        troubles.append(
            f"{folder}: it is not a folder that only this user can write to (user {os.geteuid()}, mode 0700)"
        )
    raise ReclaimError(f"there is no place for a lock: {'; '.join(troubles)}")


def _folders() -> Iterator[Path]:
    if os.geteuid() == 0:
        yield _ROOTS
    elif runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "reclaim"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reclaim"
