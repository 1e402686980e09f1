"""Changes to copies of disk images on the hypervisor: holes punched in place, or a sparse rewrite beside."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import TYPE_CHECKING, ClassVar

from reclaim.base.errors import ChangeFailed, NotAssessable, ProbeError
from reclaim.base.text import printable, size
from reclaim.files import holes, replace
from reclaim.files.beneath import File, Folder, file_id, open_in
from reclaim.files.holes import Identity, Scan
from reclaim.files.replace import HeldFile
from reclaim.handles.hypervisor import Hypervisor
from reclaim.storage import image_users

if TYPE_CHECKING:
    from typing_extensions import Self

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class _Copy:
    """The file that was read: same folder, inode, size and modification time. `expected` bytes are to come back."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    expected: int
    #: the folder that was declared, and which one it was; journals of earlier versions have none
    folder: str = ""
    folder_device: int = 0
    folder_inode: int = 0

    @property
    def target(self) -> str:
        return printable(self.path)

    @property
    def identity(self) -> Identity:
        return Identity(self.device, self.inode, self.size, self.mtime_ns)

    @property
    def file(self) -> File:
        """The file by its name below the folder. Raises ChangeFailed."""
        if self.folder:
            top = Folder(self.folder, self.folder_device, self.folder_inode)
            return File(top, os.path.relpath(self.path, self.folder))
        return _file_at(self.path)

    @classmethod
    def _of(cls, path: str | File, scan: Scan, expected: int) -> Self:
        file = path if isinstance(path, File) else _file_at(path)
        identity = scan.identity
        top = file.folder
        read = (identity.device, identity.inode, identity.size, identity.mtime_ns)
        return cls(file.path, *read, expected, top.path, top.device, top.inode)


def _file_at(path: str) -> File:
    try:
        return File.at(path)
    except OSError as exc:
        raise ChangeFailed(f"{path}: {exc.strerror}; nothing was changed") from exc


@dataclass(frozen=True)
class HolePunch(_Copy):
    """The zeros and unwritten extents of one copy freed in place. Size, times and content stay."""

    kind: ClassVar[str] = "hole-punch"

    @classmethod
    def of(cls, path: str | File, scan: Scan) -> HolePunch:
        return cls._of(path, scan, scan.excess - scan.pinned)

    @property
    def diff(self) -> str:
        come = size(self.expected)
        return f"punch holes into the zeros of {printable(self.path)}: {come} come back; its content stays the same"

    def apply(self, hypervisor: Hypervisor) -> dict[str, str]:
        with _own(hypervisor, self) as copy:
            before, free = os.fstat(copy.descriptor), holes.free_bytes(copy.descriptor)
            meter = holes.Meter(
                self.path, min(self.size, before.st_blocks * 512), hypervisor.progress
            )
            try:
                holes.punch_out(
                    copy.descriptor, copy.still_ours, _asking(copy.still_ours, meter)
                )
            except ProbeError as exc:
                raise ChangeFailed(f"{self.path}: {exc}") from exc
            freed = (before.st_blocks - os.fstat(copy.descriptor).st_blocks) * 512
            came = holes.free_bytes(copy.descriptor) - free
        note = f"{size(freed)} ({freed} bytes) came back"
        if came < freed // 2:
            # btrfs frees an extent when nothing of it is in use any more
            note += (
                f", of which the filesystem has {size(max(0, came))} free: "
                "the rest lies in extents that are still partly in use"
            )
        return {"freed": str(freed), "note": note}

    def undo(self, hypervisor: Hypervisor, outcome: dict[str, str]) -> str:
        return f"{self.path}: the holes stay: its content is the same"


@dataclass(frozen=True)
class SparseRewrite(_Copy):
    """One copy written anew beside itself, with holes for zeros, compared, and put in its place.

    For filesystems without punch, and for btrfs, which frees an extent when nothing of it is in use any
    more: a hole in the middle of one frees nothing. The new file has owner, mode, times and extended
    attributes of the old.
    """

    kind: ClassVar[str] = "sparse-rewrite"
    #: the snapshots that share the copy's extents, in words: what was written before comes back when they are gone
    held_by: str = ""

    @classmethod
    def of(cls, path: str | File, scan: Scan, held_by: str = "") -> SparseRewrite:
        return replaced(cls._of(path, scan, scan.excess), held_by=held_by)

    @property
    def diff(self) -> str:
        when = (
            f" when {self.held_by} are gone; until then it takes more"
            if self.held_by
            else ""
        )
        come = f"{size(self.expected)} come back{when}"
        return f"write {printable(self.path)} again, with holes, as a new file that replaces it: {come}"

    @property
    def spare(self) -> str:
        """The name of the new file for a moment, beside the copy."""
        return replace.beside(os.path.basename(self.path), self.inode)

    def apply(self, hypervisor: Hypervisor) -> dict[str, str]:
        with _own(hypervisor, self) as copy:
            if replace.called(copy.folder, self.spare) is not None:
                raise ChangeFailed(f"{self.path}: {self.spare} {replace.IN_THE_WAY}")
            before = os.fstat(copy.descriptor)
            meter = holes.Meter(
                self.path,
                2 * min(self.size, before.st_blocks * 512),
                hypervisor.progress,
            )
            new = replace.made_beside(copy.folder, self.spare)
            try:
                _write_anew(copy, new, before, meter)
                if not same_content(copy.descriptor, new, self.size, copy.still_ours):
                    raise ChangeFailed(
                        "the new file's content differs from the old one's; the old file stays"
                    )
                freed = (before.st_blocks - os.fstat(new).st_blocks) * 512
                if freed <= 0:
                    raise ChangeFailed(
                        "this filesystem does not support holes: a rewrite takes as much space"
                    )
                replace.put_in_place(copy, new, self.spare)
                from reclaim.backups import backup  # noqa: PLC0415 (start-up)

                backup.rewritten(hypervisor, file_id(before), file_id(os.fstat(new)))
            except ChangeFailed as exc:
                raise ChangeFailed(
                    f"{self.path}: {str(exc).removeprefix(f'{self.path}: ')}"
                ) from exc
            finally:
                replace.drop(new, copy.folder, self.spare)
                os.close(new)
        if self.held_by:
            note = f"it takes {size(freed)} less, which come back when the snapshots that share them are gone"
            return {"freed": "0", "note": f"{note}: {self.held_by}"}
        return {"freed": str(freed), "note": f"{size(freed)} ({freed} bytes) came back"}

    def undo(self, hypervisor: Hypervisor, outcome: dict[str, str]) -> str:
        if outcome:
            return f"{self.path}: it stays sparse: its content is the same"
        try:
            with self.file.parent() as (folder, name):
                return f"{self.path}: {self._left_behind(folder, name)}"
        except (ProbeError, OSError) as exc:
            why = (
                exc.strerror
                if isinstance(exc, OSError)
                else str(exc).removeprefix(f"{self.path}: ")
            )
            raise ChangeFailed(
                f"{self.path}: whether {self.spare} was left beside it is unknown: {why}"
            ) from exc

    def _left_behind(self, folder: int, name: str) -> str:
        """Remove the file that a run left when it died. Returns the state in words. Raises ChangeFailed, OSError."""
        read = (self.device, self.inode)
        now, spare = replace.called(folder, name), replace.called(folder, self.spare)
        if now is None or (spare is not None and read not in (now, spare)):
            raise ChangeFailed(
                f"{self.path}: another file has its name now, or none, and {self.spare} beside it may be the copy: "
                "look at both"
                if spare is not None
                else f"{self.path}: it is gone"
            )
        if spare is not None:
            os.unlink(self.spare, dir_fd=folder)
        removal = (
            f", and {self.spare} that the run left beside it is removed"
            if spare is not None
            else ""
        )
        if now == read:
            return f"it was not rewritten: it is as it was{removal}"
        if spare is not None:
            return f"it stays sparse: its content is the same{removal}"
        return "another file has its name now, the rewrite or a newer copy; reclaim left it as it is"


@contextmanager
def _own(hypervisor: Hypervisor, copy: _Copy) -> Iterator[HeldFile]:
    """Open the file for writing while nothing else has it open. Raises ChangeFailed if that may not be."""
    path = copy.path
    with ExitStack() as stack:
        try:
            folder, name = stack.enter_context(copy.file.parent())
            descriptor = open_in(
                folder, name, path, os.O_RDWR, (copy.device, copy.inode)
            )
        except (ProbeError, NotAssessable) as exc:
            raise ChangeFailed(f"{exc}; nothing was changed") from exc
        stack.callback(os.close, descriptor)
        # the look opens images, which a lease on one of them would stop; a guest that starts later breaks the lease
        _expect_unused(hypervisor, os.fstat(descriptor), path)
        try:
            with holes.alone_with(descriptor, path) as still_ours:
                status = os.fstat(descriptor)
                if Identity.of(status) != copy.identity:
                    raise ChangeFailed(
                        f"{path}: it has changed since it was read; run again"
                    )
                yield HeldFile(descriptor, folder, name, still_ours)
        except OSError as exc:
            raise ChangeFailed(
                f"{path}: {exc.strerror}; its content is as it was"
            ) from exc


def _expect_unused(hypervisor: Hypervisor, status: os.stat_result, path: str) -> None:
    """Raise ChangeFailed if a guest uses the file, or that cannot be found out."""
    try:
        uses = image_users.users_of(hypervisor, status)
    except ProbeError as exc:
        raise ChangeFailed(f"{path}: {exc}; nothing was changed") from exc
    for use in uses:
        raise ChangeFailed(
            f"{path}: the guest {use.guest} uses it: nothing was changed"
        )


#: linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NOCOW_FL
_GET_FLAGS, _SET_FLAGS, _NOCOW = 0x80086601, 0x40086602, 0x00800000


def _keep_flags(old: int, new: int) -> None:
    """Let *new*, still empty, be without copy on write if *old* is (chattr +C)."""
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
    old: int,
    new: int,
    before: os.stat_result,
    still_ours: holes.StillOurs,
    meter: holes.Meter,
) -> None:
    """Write the parts of *old* that are not zeros into *new*. Constant memory."""
    os.ftruncate(new, before.st_size)
    zeros = holes.Overlap(
        holes.zero_spans(old, before.st_size, _asking(still_ours, meter))
    )
    for start, end in holes.data_spans(old, before.st_size):
        position = start
        for first, last in zeros.parts(start, end):
            _copy(old, new, position, first, still_ours)
            position = last
        _copy(old, new, position, end, still_ours)


def _copy(
    old: int, new: int, start: int, end: int, still_ours: holes.StillOurs
) -> None:
    position = start
    while position < end:
        still_ours()
        data = os.pread(old, min(_CHUNK, end - position), position)
        if not data:
            raise ChangeFailed("it was truncated while it was read")
        position += os.pwrite(new, data, position)


def _write_anew(
    copy: HeldFile, new: int, before: os.stat_result, meter: holes.Meter
) -> None:
    """Let *new*, still empty, be the same file to its users, with holes, and on the disk."""
    _keep_flags(copy.descriptor, new)
    _write_sparsely(copy.descriptor, new, before, copy.still_ours, meter)
    replace.take_over(copy.descriptor, new, before)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.fsync(new)


def same_content(old: int, new: int, length: int, still_ours: holes.StillOurs) -> bool:
    """True if both read alike over *length* bytes, and *new* ends there. Constant memory."""
    for position in range(0, length, _CHUNK):
        still_ours()
        if os.pread(old, _CHUNK, position) != os.pread(new, _CHUNK, position):
            return False
    return os.fstat(new).st_size == length
