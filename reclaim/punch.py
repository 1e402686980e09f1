"""Changes to copies of disk images on the hypervisor: holes punched in place, or a sparse rewrite beside."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from reclaim import backup, holes
from reclaim.errors import ChangeFailed, NotAssessable, ProbeError
from reclaim.holes import Identity, Scan
from reclaim.text import printable, size

if TYPE_CHECKING:
    from reclaim.hypervisor import Hypervisor

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class _Copy:
    """The file that was read: same inode, size and modification time. `expected` bytes are to come back."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    expected: int

    @property
    def target(self) -> str:
        return printable(self.path)

    @property
    def identity(self) -> Identity:
        return Identity(self.device, self.inode, self.size, self.mtime_ns)


@dataclass(frozen=True)
class HolePunch(_Copy):
    """The zeros and unwritten extents of one copy freed in place. Size, times and content stay."""

    kind: ClassVar[str] = "hole-punch"

    @classmethod
    def of(cls, path: str, found: Scan) -> HolePunch:
        one = found.identity
        return cls(path, one.device, one.inode, one.size, one.mtime_ns, found.excess - found.pinned)

    @property
    def diff(self) -> str:
        come = size(self.expected)
        return f"punch holes where {printable(self.path)} holds zeros: {come} come back; its content stays"

    def apply(self, hypervisor: Hypervisor) -> dict[str, str]:
        with _own(hypervisor, self.path, self.identity) as (descriptor, still_ours):
            before, free = os.fstat(descriptor), holes.free_bytes(descriptor)
            meter = holes.Meter(self.path, min(self.size, before.st_blocks * 512), hypervisor.progress)
            try:
                holes.punch_out(descriptor, still_ours, _asking(still_ours, meter))
            except ProbeError as exc:
                raise ChangeFailed(f"{self.path}: {exc}") from exc
            freed = (before.st_blocks - os.fstat(descriptor).st_blocks) * 512
            came = holes.free_bytes(descriptor) - free
        note = f"{size(freed)} ({freed} bytes) came back"
        if came < freed // 2:
            # btrfs frees an extent when nothing of it is in use any more
            note += f", of which the filesystem has {size(max(0, came))} free: the rest lies in extents in use in part"
        return {"freed": str(freed), "note": note}

    def undo(self, hypervisor: Hypervisor, outcome: dict[str, str]) -> str:
        return f"{self.path}: what was punched stays punched: its content is the same"


@dataclass(frozen=True)
class SparseRewrite(_Copy):
    """One copy written anew beside itself, with holes for zeros, compared, and put in its place.

    For filesystems without punch, and for btrfs, which frees an extent when nothing of it is in use any
    more: a hole in the middle of one frees nothing. The new file has owner, mode, times and extended
    attributes of the old.
    """

    kind: ClassVar[str] = "sparse-rewrite"

    @classmethod
    def of(cls, path: str, found: Scan) -> SparseRewrite:
        one = found.identity
        return cls(path, one.device, one.inode, one.size, one.mtime_ns, found.excess)

    @property
    def diff(self) -> str:
        return f"write {printable(self.path)} anew with holes, beside and renamed: {size(self.expected)} come back"

    def apply(self, hypervisor: Hypervisor) -> dict[str, str]:
        with _own(hypervisor, self.path, self.identity) as (descriptor, still_ours):
            before = os.fstat(descriptor)
            meter = holes.Meter(self.path, 2 * min(self.size, before.st_blocks * 512), hypervisor.progress)
            path = os.path.realpath(self.path)  # a symbolic link stays, and leads to the new file
            folder, name = os.path.split(path)
            new, beside = tempfile.mkstemp(prefix=f".{name[:100]}.reclaim-", dir=folder)
            try:
                _keep_flags(descriptor, new)
                _write_sparsely(descriptor, new, before, still_ours, meter)
                _take_over(descriptor, new, before)
                os.fsync(new)
                if not same_content(descriptor, new, self.size, still_ours):
                    raise ChangeFailed(f"{self.path}: the new file does not read as the old; the old one stays")
                freed = (before.st_blocks - os.fstat(new).st_blocks) * 512
                if freed <= 0:
                    raise ChangeFailed(f"{self.path}: this filesystem keeps no holes: a rewrite takes as much")
                put_in_place(beside, path, still_ours)
            finally:
                os.close(new)
                with suppress(FileNotFoundError):  # renamed
                    os.unlink(beside)
            _sync_folder(folder)
        return {"freed": str(freed), "note": f"{size(freed)} ({freed} bytes) came back"}

    def undo(self, hypervisor: Hypervisor, outcome: dict[str, str]) -> str:
        return f"{self.path}: it stays sparse: its content is the same"


@contextmanager
def _own(hypervisor: Hypervisor, path: str, expected: Identity) -> Iterator[tuple[int, holes.StillOurs]]:
    """The file open for writing while nothing else has it open. Raises ChangeFailed where that may not be."""
    try:
        descriptor = holes.open_file(path, os.O_RDWR)
    except (ProbeError, NotAssessable) as exc:
        raise ChangeFailed(f"{exc}; nothing was changed") from exc
    try:
        with holes.alone_with(descriptor, path) as still_ours:
            status = os.fstat(descriptor)
            if Identity.of(status) != expected:
                raise ChangeFailed(f"{path}: it has changed since it was read; run again")
            if guest := backup.users(hypervisor).get((status.st_dev, status.st_ino)):
                raise ChangeFailed(f"{path}: the guest {guest} uses it: nothing was changed")
            yield descriptor, still_ours
    except OSError as exc:
        raise ChangeFailed(f"{path}: {exc.strerror}; its content is as it was") from exc
    finally:
        os.close(descriptor)


#: linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NOCOW_FL
_GET_FLAGS, _SET_FLAGS, _NOCOW = 0x80086601, 0x40086602, 0x00800000


def _keep_flags(old: int, new: int) -> None:
    """Let *new*, still empty, be without copy on write where *old* is (chattr +C)."""
    try:
        flags = struct.unpack("=l", fcntl.ioctl(old, _GET_FLAGS, bytes(8))[:4])[0]
        if flags & _NOCOW:
            mine = struct.unpack("=l", fcntl.ioctl(new, _GET_FLAGS, bytes(8))[:4])[0]
            fcntl.ioctl(new, _SET_FLAGS, struct.pack("=q", mine | _NOCOW))
    except OSError as exc:
        if exc.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):
            raise


def _asking(still_ours: holes.StillOurs, meter: holes.Meter) -> Callable[[int], None]:
    """*meter* that asks first: whoever opens the file waits for us, however long there is nothing to change in it."""

    def read(count: int) -> None:
        still_ours()
        meter(count)

    return read


def _write_sparsely(
    old: int, new: int, before: os.stat_result, still_ours: holes.StillOurs, meter: holes.Meter
) -> None:
    """Write what of *old* is not zeros into *new*. Constant memory."""
    os.ftruncate(new, before.st_size)
    zeros = holes.Overlap(holes.zero_spans(old, before.st_size, _asking(still_ours, meter)))
    for start, end in holes.data_spans(old, before.st_size):
        position = start
        for first, last in zeros.parts(start, end):
            _copy(old, new, position, first, still_ours)
            position = last
        _copy(old, new, position, end, still_ours)


def _copy(old: int, new: int, start: int, end: int, still_ours: holes.StillOurs) -> None:
    position = start
    while position < end:
        still_ours()
        data = os.pread(old, min(_CHUNK, end - position), position)
        if not data:
            raise ChangeFailed("it was truncated while it was read")
        position += os.pwrite(new, data, position)


def _take_over(old: int, new: int, before: os.stat_result) -> None:
    """Give *new* owner, mode, extended attributes and times of *old*."""
    os.fchown(new, before.st_uid, before.st_gid)
    os.fchmod(new, stat.S_IMODE(before.st_mode))
    for name in os.listxattr(old):
        os.setxattr(new, name, os.getxattr(old, name))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_in_place(beside: str, path: str, still_ours: holes.StillOurs) -> None:
    """Rename *beside* to *path*; who asks for the old file meanwhile finds it in its place again."""
    kept = f"{beside}.old"
    try:
        os.link(path, kept)
        still_ours()
        try:
            os.rename(beside, path)
            still_ours()
        except BaseException:
            # at once over whatever is there: at no moment is the name without a file
            os.rename(kept, path)
            raise
    finally:
        with suppress(FileNotFoundError):
            os.unlink(kept)


def same_content(one: int, other: int, length: int, still_ours: holes.StillOurs) -> bool:
    """Do both read alike over *length* bytes? Constant memory."""
    for position in range(0, length, _CHUNK):
        still_ours()
        if os.pread(one, _CHUNK, position) != os.pread(other, _CHUNK, position):
            return False
    return os.fstat(other).st_size == length


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
