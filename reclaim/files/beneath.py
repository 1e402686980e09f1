"""Files in folders that others may write in: opened from the folder's own descriptor, through no symbolic link.

A name means whatever lies there at that moment. So a folder is opened once, files below it are opened from
that descriptor (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), and an open file stays the one that it is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reclaim.base.errors import NotAssessable, ProbeError

#: st_dev and st_ino
FileId = tuple[int, int]

#: linux/openat2.h
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
#: the number of openat2 on every architecture that libvirt knows QEMU for
_OPENAT2 = 437
#: links in one path; the kernel's MAXSYMLINKS
_MOST_LINKS = 40
#: times that a name and its file are looked at together
_LOOKS = 16
_TO_LOOK = os.O_PATH | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


def file_id(status: os.stat_result) -> FileId:
    return status.st_dev, status.st_ino


def others_may_write(status: os.stat_result) -> bool:
    """True if others than root and ourselves may write there. An access list shows in the group's bits (acl(5))."""
    return status.st_uid not in (0, os.geteuid()) or bool(status.st_mode & 0o022)


# Below a descriptor ---------------------------------------------------------------------------


class _How(ctypes.Structure):
    """struct open_how"""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(folder: int, name: str, flags: int, mode: int = 0) -> int:
    """Open *name* below the descriptor *folder*, through no symbolic link. Raises OSError."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    try:
        return _openat2(folder, "/".join(parts) or ".", flags | os.O_CLOEXEC, mode)
    except OSError as exc:
        # EPERM: so says a filter of system calls that does not know this one
        if exc.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return _open_by_steps(folder, parts or ["."], flags | os.O_CLOEXEC, mode)


def _openat2(folder: int, name: str, flags: int, mode: int) -> int:
    how = _How(flags, mode, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    number = ctypes.c_long(_OPENAT2)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    descriptor = _libc.syscall(
        number, ctypes.c_int(folder), os.fsencode(name), ctypes.byref(how), size
    )
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return int(descriptor)


def _open_by_steps(folder: int, parts: list[str], flags: int, mode: int) -> int:
    """Do the same for a kernel before 5.6: no step follows a link."""
    here = os.dup(folder)
    try:
        for part in parts[:-1]:
            below = os.open(
                part, _TO_LOOK | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here
            )
            os.close(here)
            here = below
        return os.open(parts[-1], flags | os.O_NOFOLLOW, mode, dir_fd=here)
    finally:
        os.close(here)


# The way to a folder --------------------------------------------------------------------------


@contextmanager
def _resolved(path: str) -> Iterator[tuple[str, int]]:
    """Yield the end of *path*: its path without links, and a descriptor (O_PATH). Raises OSError.

    A link is the administrator's word if only root or ourselves can have made it. Others are refused.
    """
    here, real, links = os.open("/", _TO_LOOK | os.O_DIRECTORY), list[str](), 0
    waiting = _parts(os.path.join(os.getcwd(), path))
    try:
        while waiting:
            part = waiting.pop()
            following = os.open(part, _TO_LOOK | os.O_NOFOLLOW, dir_fd=here)
            if stat.S_ISLNK(os.fstat(following).st_mode):
                try:
                    target = _trusted_target(here, following, path)
                finally:
                    os.close(following)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                waiting += _parts(target)
                if not target.startswith("/"):
                    continue
                following, part, real = os.open("/", _TO_LOOK | os.O_DIRECTORY), "", []
            elif stat.S_ISDIR(os.fstat(following).st_mode):
                os.close(following)
                # an automount is set off by who wants a directory; a link that is there by now is refused
                following = os.open(
                    part, _TO_LOOK | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here
                )
            os.close(here)
            here = following
            real = real[:-1] if part == ".." else [*real, *([part] if part else [])]
        yield "/" + "/".join(real), here
    finally:
        os.close(here)


def _parts(path: str) -> list[str]:
    """Return the names in *path*, the first one last."""
    return [part for part in path.split("/") if part not in ("", ".")][::-1]


def _trusted_target(folder: int, link: int, path: str) -> str:
    """Return the target of the link. Raises OSError if others than root and ourselves can have made it."""
    where, own = os.fstat(folder), os.fstat(link)
    # in a folder like /tmp nobody else replaces it
    fixed = where.st_uid in (0, os.geteuid()) and bool(where.st_mode & stat.S_ISVTX)
    if own.st_uid not in (0, os.geteuid()) or (others_may_write(where) and not fixed):
        why = "its path has a symbolic link that another user could have made: not followed; declare its target"
        raise OSError(errno.ELOOP, why, path)
    return os.readlink("", dir_fd=link)


# Folders and files ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """A folder, and which one it was (st_dev, st_ino) when it was first opened."""

    path: str
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> Folder:
        """Return the folder at *path*. Raises OSError."""
        with _resolved(path) as (_, descriptor):
            status = os.fstat(descriptor)
            if not stat.S_ISDIR(status.st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return cls(path, *file_id(status))

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Yield a descriptor of this very folder. Raises ProbeError if another has its place."""
        try:
            with _resolved(self.path) as (_, place):
                descriptor = os.open(".", _FOLDER, dir_fd=place)
        except OSError as exc:
            raise ProbeError(f"{self.path}: {exc.strerror}") from exc
        try:
            if file_id(os.fstat(descriptor)) != (self.device, self.inode):
                raise ProbeError(f"{self.path}: another folder has taken its place")
            yield descriptor
        finally:
            os.close(descriptor)

    def files(
        self, below: str = "", unread: list[str] | None = None
    ) -> Iterator[tuple[File, os.stat_result]]:
        """Yield every regular file below, in order. Links and unreadable folders are passed over.

        *unread* gets each unreadable folder, with the reason: one on a disk that fails, a mount of another user's.
        """
        waiting = [below]
        with self.opened() as top:
            while waiting:
                here = waiting.pop()
                try:
                    folders, files = _listed(top, here)
                except OSError as exc:
                    if unread is not None and exc.errno not in _GONE:
                        unread.append(f"{os.path.join(self.path, here)}: {_words(exc)}")
                    continue
                waiting += [os.path.join(here, name) for name in reversed(folders)]
                for name, status in files:
                    yield File(self, os.path.join(here, name)), status


#: what says that something else, or nothing, is there by now
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


def _listed(top: int, below: str) -> tuple[list[str], list[tuple[str, os.stat_result]]]:
    """Return the folders and the regular files in the folder *below*, sorted. Raises OSError."""
    folders: list[str] = []
    files: list[tuple[str, os.stat_result]] = []
    descriptor = open_beneath(top, below, _FOLDER)
    try:
        for name in sorted(os.listdir(descriptor)):
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue  # gone by now
            if stat.S_ISDIR(status.st_mode):
                folders.append(name)
            elif stat.S_ISREG(status.st_mode):
                files.append((name, status))
    finally:
        os.close(descriptor)
    return folders, files


@dataclass(frozen=True)
class File:
    """A file by its name below a folder. The name may come to mean another file: see `FileId`."""

    folder: Folder
    name: str

    @classmethod
    def at(cls, path: str) -> File:
        """Return the file at *path*, in the folder that it lies in. Raises OSError."""
        with _resolved(path) as (real, _):
            folder, name = os.path.split(real)
        return cls(Folder.at(folder), name or ".")

    @property
    def path(self) -> str:
        return os.path.join(self.folder.path, self.name)

    @contextmanager
    def parent(self) -> Iterator[tuple[int, str]]:
        """Yield a descriptor of the folder it lies in, and its name there. Raises ProbeError."""
        above, name = os.path.split(self.name)
        with self.folder.opened() as top:
            try:
                descriptor = open_beneath(top, above, _FOLDER)
            except OSError as exc:
                raise ProbeError(f"{self.path}: {_words(exc)}") from exc
            try:
                yield descriptor, name
            finally:
                os.close(descriptor)

    def open(
        self, flags: int = os.O_RDONLY, label: str = "", known: FileId | None = None
    ) -> int:
        """Return a descriptor of the regular file. Raises as `open_in`. *label* is its name in messages."""
        with self.parent() as (folder, name):
            return open_in(folder, name, label or self.path, flags, known)


def open_in(
    folder: int,
    name: str,
    label: str,
    flags: int = os.O_RDONLY,
    known: FileId | None = None,
) -> int:
    """Open the regular file *name* in the descriptor *folder*, and nothing else. *known*: which file it has to be.

    Raises NotAssessable if it is no regular file, or may be another user's. Raises ProbeError if it is gone, forbidden,
    or another file than the *known* one.
    """
    try:
        looked_at = open_beneath(folder, name, _TO_LOOK | os.O_NOFOLLOW)
    except OSError as exc:
        raise ProbeError(f"{label}: {_words(exc)}") from exc
    try:
        status = os.fstat(looked_at)
        if known is not None and file_id(status) != known:
            raise ProbeError(f"{label}: another file has replaced it; run again")
        _expect_own(folder, name, status, label)
        return reopened(looked_at, label, flags)
    finally:
        os.close(looked_at)


def _expect_own(folder: int, name: str, status: os.stat_result, label: str) -> None:
    """Raise NotAssessable if the file has several names and others can have given it this one.

    An attacker who takes the other name away at the right moment leaves one. One call returns the file of a name and
    its number of names at once, and no attacker is in time again and again. Raises ProbeError if the name is gone or
    another file's.
    """
    where = os.fstat(folder)
    if not stat.S_ISREG(status.st_mode) or (
        where.st_uid in (0, os.geteuid(), status.st_uid) and not where.st_mode & 0o022
    ):
        return
    for _ in range(_LOOKS):
        try:
            now = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as exc:
            raise ProbeError(f"{label}: {_words(exc)}") from exc
        if file_id(now) != file_id(status):
            raise ProbeError(f"{label}: another file has replaced it; run again")
        if now.st_nlink > 1:
            raise NotAssessable(
                f"{label}: it has several names (hard links), in a folder that other users can write to: "
                "it may be another user's file, and is left alone"
            )


def reopened(descriptor: int, label: str, flags: int) -> int:
    """Open the regular file of *descriptor* (O_PATH). Raises NotAssessable, ProbeError."""
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        raise NotAssessable(
            f"{label}: {_KINDS.get(kind, 'something that is no file')}, not a file"
        )
    flags |= os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        return _open_quietly(f"/proc/self/fd/{descriptor}", flags)
    except OSError as exc:
        raise ProbeError(f"{label}: {exc.strerror}") from exc


def _open_quietly(path: str, flags: int) -> int:
    """Open without a new access time if the file is ours: a look leaves no trace."""
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)


def _words(exc: OSError) -> str:
    if exc.errno == errno.ELOOP:
        return "its path has a symbolic link: not followed"
    return str(exc.strerror)
