"""One file put in the place of another, by descriptors: the new one has no name before it is whole.

The two names are exchanged (renameat2(2), RENAME_EXCHANGE), so that the replaced file can be looked at, and put back
if it is another file than the one that was read. All names are names in an open folder.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from reclaim.base.errors import ChangeFailed
from reclaim.files.beneath import FileId, file_id

_EXCHANGE = 2
#: open(2): what a kernel or filesystem says that knows no O_TMPFILE
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
#: bytes of the old name in the name of what lies beside it; a name has at most 255
_MOST_BYTES = 100
_BESIDE = re.compile(r"\.(.+)\.reclaim-\d+", re.DOTALL)
IN_THE_WAY = "lies beside it, left by a run that died: undo of that run removes it; nothing was changed"
_TAKEN = "another file has taken its place; nothing was changed"

_libc = ctypes.CDLL(None, use_errno=True)


def beside(name: str, inode: int) -> str:
    """Return the name of a new file for the moment in which it is put in the place of *name*.

    It is known beforehand, so that the file of a run that was killed can be told from any other.
    """
    return f".{cut(name)}.reclaim-{inode}"


def cut(name: str) -> str:
    """Cut the name of a file as `beside` does; a folder before it stays."""
    folder, last = os.path.split(name)
    return os.path.join(folder, os.fsdecode(os.fsencode(last)[:_MOST_BYTES]))


def beside_of(name: str) -> str:
    """Return the file (its `cut`) of a name that `beside` gave, "" for any other name. A folder before it stays."""
    folder, last = os.path.split(name)
    match = _BESIDE.fullmatch(last)
    return os.path.join(folder, match[1]) if match else ""


def nameless(folder: int) -> int:
    """Make a file in the open *folder*, 0600, without a name: it is gone whatever happens. Raises OSError."""
    try:
        return os.open(
            ".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=folder
        )
    except OSError as exc:
        if exc.errno not in _NO_NAMELESS:
            raise
    name = f".reclaim-{os.urandom(8).hex()}"
    descriptor = _made(folder, name)
    os.unlink(name, dir_fd=folder)
    return descriptor


def made_beside(folder: int, name: str) -> int:
    """Do as `nameless`, with the name *name* if the filesystem has no files without one. Raises OSError."""
    try:
        return os.open(
            ".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=folder
        )
    except OSError as exc:
        if exc.errno not in _NO_NAMELESS:
            raise
    return _made(folder, name)


def _made(folder: int, name: str) -> int:
    return os.open(
        name,
        os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=folder,
    )


def give_name(new: int, folder: int, name: str) -> None:
    """Let the open file *new* be called *name*; another that is called so stays. Raises ChangeFailed, OSError."""
    if _is_called(folder, name, file_id(os.fstat(new))):
        return
    try:
        os.link(f"/proc/self/fd/{new}", name, dst_dir_fd=folder, follow_symlinks=True)
    except FileExistsError as exc:
        raise ChangeFailed(f"{name} {IN_THE_WAY}") from exc


def drop(new: int, folder: int, name: str) -> None:
    """Remove the name *name* if it is that of the open file *new*."""
    if _is_called(folder, name, file_id(os.fstat(new))):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _is_called(folder: int, name: str, wanted: FileId) -> bool:
    return called(folder, name) == wanted


def called(folder: int, name: str) -> FileId | None:
    """Return which file *name* in the open *folder* is, None if there is none. A link is itself."""
    try:
        return file_id(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return None


def exchange(folder: int, name: str, other: str) -> None:
    """Let two names in the open *folder* change their files, at once. Raises OSError."""
    if not hasattr(_libc, "renameat2"):
        raise OSError(errno.ENOSYS, "this system's C library has no renameat2")
    arguments = (
        ctypes.c_int(folder),
        os.fsencode(name),
        ctypes.c_int(folder),
        os.fsencode(other),
    )
    if _libc.renameat2(*arguments, ctypes.c_uint(_EXCHANGE)) != 0:
        number = ctypes.get_errno()
        why = os.strerror(number)
        if number in (errno.EINVAL, errno.ENOSYS):
            why = "this filesystem cannot exchange two names"
        raise OSError(number, why)


@dataclass(frozen=True)
class HeldFile:
    """A file that is open, the folder in which it lies, open too, and its name there.

    `still_ours` raises ChangeFailed as soon as the file is not to be replaced any more.
    """

    descriptor: int
    folder: int
    name: str
    still_ours: Callable[[], None] = lambda: None


def put_in_place(held: HeldFile, new: int, spare: str) -> None:
    """Let the name of *held* be the open file *new*. *spare*, a name in the same folder, is free before and after.

    At no moment is the name without a file. Raises ChangeFailed if it is that of another file by now, or as
    `still_ours` does, and OSError. The name is then that of the old file.
    """
    folder, name, wanted = held.folder, held.name, file_id(os.fstat(held.descriptor))
    if called(folder, name) != wanted:
        raise ChangeFailed(_TAKEN)
    try:
        give_name(new, folder, spare)
        held.still_ours()
        exchange(folder, spare, name)
        if called(folder, spare) != wanted:
            raise ChangeFailed(_TAKEN)
        held.still_ours()
        os.fsync(folder)
    except BaseException:
        if _is_called(folder, name, file_id(os.fstat(new))):
            exchange(folder, spare, name)  # whatever *name* was
        raise
    finally:
        drop(new, folder, spare)
        drop(held.descriptor, folder, spare)


def take_over(old: int, new: int, before: os.stat_result) -> None:
    """Give *new* owner, mode and extended attributes (access lists and labels among them) of *old*. Raises OSError."""
    os.fchown(new, before.st_uid, before.st_gid)
    os.fchmod(new, before.st_mode & 0o7777)
    for name in os.listxattr(old):
        os.setxattr(new, name, os.getxattr(old, name))
