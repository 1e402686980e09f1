"""Files that are obeyed, and whether others could have written them.

As sshd's StrictModes (sshd_config(5)) has it: the file and every folder above it belong to root or to who runs this,
and others cannot write there. A folder like /tmp, in which the sticky bit protects files from others (unlink(2)),
may lie above. A group's right to write is harmless if the group has one member, the owner: Debian's and Fedora's
umask 002 with a private group for each user, which Debian's sshd accepts too.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reclaim.base.errors import Untrusted
from reclaim.base.text import printable

#: links in one path, as the kernel counts them (path_resolution(7))
_MOST_LINKS = 40
#: POSIX ACLs, where the file system has them (acl(5))
_ACL = "system.posix_acl_access"
#: O_PATH asks for no right to read: a folder need only be passed through
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def read(path: Path, most: int) -> bytes:
    """Return the content of the file at *path*, at most *most* bytes.

    Raises Untrusted if others could have written it, OSError if it cannot be read, or is no file, or is larger.
    """
    with _reached(path) as looked_at:
        status = os.fstat(looked_at)
        if not stat.S_ISREG(status.st_mode):
            kind = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(
                kind, os.strerror(kind) if kind == errno.EISDIR else "not a file"
            )
        # the same file: what was judged is what is read
        descriptor = os.open(_name(looked_at), os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(most + 1) if status.st_size <= most else b""
        if len(data) > most or status.st_size > most:
            raise OSError(
                errno.EFBIG, f"it has more than the {most} bytes that are read"
            )
        return data


def expect(path: Path) -> None:
    """Raise Untrusted if others could write at *path*, or as far as it exists; OSError if that cannot be seen."""
    for place in (path, *path.absolute().parents):
        with suppress(FileNotFoundError), _reached(place):
            return


@contextmanager
def _reached(path: Path) -> Iterator[int]:
    """Yield a descriptor (O_PATH) of the end of *path*, if each step to it is trusted."""
    walk = _PathWalk(path)
    try:
        yield walk.to_the_end()
    finally:
        walk.close()


class _PathWalk:
    """One path, walked from the root a name at a time; links are followed by hand."""

    def __init__(self, path: Path) -> None:
        self._names = _names(
            os.fspath(path) if path.is_absolute() else f"{Path.cwd()}/{path}"
        )
        self._links = 0
        self._from_the_root()

    def _from_the_root(self) -> None:
        self._at, self._here = "/", os.open("/", _STEP | os.O_DIRECTORY)

    def close(self) -> None:
        os.close(self._here)

    def to_the_end(self) -> int:
        _judge(self._here, self._at, len(self._names))
        while self._names:
            self._step(self._names.pop())
        return self._here

    def _step(self, name: str) -> None:
        following = os.open(name, _STEP, dir_fd=self._here)
        path = f"{self._at.rstrip('/')}/{name}"
        try:
            if stat.S_ISLNK(os.fstat(following).st_mode):
                self._follow(following, path)
                return
            _judge(following, path, len(self._names))
            following, self._here, self._at = self._here, following, path
        finally:
            os.close(following)

    def _follow(self, link: int, path: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if (owner := os.fstat(link).st_uid) not in trusted_users():
            raise Untrusted(
                printable(path),
                f"is a link of {_user(owner)}",
                f"remove it: rm {_quoted(path)}",
            )
        target = os.readlink("", dir_fd=link)
        self._names += _names(target)
        if target.startswith("/"):
            self.close()
            self._from_the_root()


def _names(path: str) -> list[str]:
    """Return the names in *path*, the last first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _judge(descriptor: int, path: str, left: int) -> None:
    """Raise Untrusted if others own the file or folder at *path*, or could put another there.

    *left* names follow: a folder far above is seldom to be changed for the sake of one file.
    """
    status = os.fstat(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    copy = (
        "read it, and if it is right, copy it to a folder to which only you can write"
    )
    if status.st_uid not in trusted_users():
        wrong = f"belongs to {_user(status.st_uid)} (mode {mode:04o}), neither to root nor to you"
        chown = f"read it, and if it is right: chown -R {_user(os.geteuid())} {_quoted(path)}"
        raise Untrusted(printable(path), wrong, copy if left > 1 else chown)
    if who := _writers(descriptor, status):
        wrong = (
            f"can be written by {who} (owner {_user(status.st_uid)}, mode {mode:04o})"
        )
        chmod = f"read it, and if it is right: chmod go-w {_quoted(path)}"
        raise Untrusted(printable(path), wrong, copy if left > 1 else chmod)


def _writers(descriptor: int, status: os.stat_result) -> str:
    """Return who beside its owner can write a file, or remove others' files in a folder; "" if only the owner can."""
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if not status.st_mode & stat.S_IWGRP:
        return ""  # the group's bits are also the mask of what an ACL gives (acl(5))
    if _has_acl(descriptor):
        return "those whom its ACL names"
    return "" if _is_private(status) else f"the group {_group(status.st_gid)}"


def trusted_users() -> frozenset[int]:
    """Return root, who runs this, and the owner of this program, who could write anything into it."""
    return frozenset((0, os.geteuid(), Path(__file__).stat().st_uid))


def _is_private(status: os.stat_result) -> bool:
    """True if the file's group has no member but the file's owner."""
    try:
        owner, members = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid).gr_mem
    except KeyError:
        return False
    others = (
        user
        for user in pwd.getpwall()
        if user.pw_gid == status.st_gid and user.pw_uid != status.st_uid
    )
    return (
        owner.pw_gid == status.st_gid
        and set(members) <= {owner.pw_name}
        and next(others, None) is None
    )


def _has_acl(descriptor: int) -> bool:
    try:
        return bool(os.getxattr(_name(descriptor), _ACL))
    except OSError:
        return False  # none, or a file system without


def _name(descriptor: int) -> str:
    """Return the path by which a call reaches the file of *descriptor*, also with O_PATH (open(2))."""
    return f"/proc/self/fd/{descriptor}"


def _quoted(path: str) -> str:
    return shlex.quote(printable(path))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
