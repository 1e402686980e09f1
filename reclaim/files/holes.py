"""The blocks of a local file, and giving them back: data, zeros that were written, extents that never were.

Linux only: lseek(2) SEEK_DATA and SEEK_HOLE, the ioctl FIEMAP (Documentation/filesystems/fiemap.rst),
fallocate(2) FALLOC_FL_PUNCH_HOLE, fcntl(2) F_SETLEASE. All sizes and offsets are bytes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reclaim.base.errors import ChangeFailed, ProbeError, ReclaimError
from reclaim.base.text import size as in_words
from reclaim.files.beneath import File, others_may_write, reopened
from reclaim.files.replace import nameless

#: the unit in which zeros are looked for: the block of ext4, xfs and btrfs, the page of tmpfs
BLOCK = 4096
_CHUNK = 1024 * 1024
_ZEROS = bytes(_CHUNK)
_ZERO_BLOCK = bytes(BLOCK)
#: seconds between two progress lines, and bytes between two looks at the clock
_PROGRESS_SECONDS = 0.5
_PROGRESS_BYTES = 64 * _CHUNK

Progress = Callable[[str], None]
#: a part of a file: its start, and the byte after its end
Span = tuple[int, int]
#: raises ChangeFailed as soon as somebody waits for the file
StillOurs = Callable[[], None]


@dataclass(frozen=True)
class Identity:
    """The values by which a file is known to be still the one that was read, as it was read."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Scan:
    """The space that one file takes, and why.

    `allocated` are the bytes that the filesystem holds (`st_blocks` * 512). `needed` are the blocks that hold
    anything but zeros. The rest can come back: `zeros` that were written, `unwritten` extents (of
    fallocate, also behind the end). `pinned` are those of the zeros that lie in extents which a
    snapshot or a reflink shares: they come back only with the last of those. `packed` are zeros that
    the filesystem has compressed to next to nothing; btrfs counts them in `st_blocks` all the same.
    """

    identity: Identity
    allocated: int
    needed: int
    zeros: int
    unwritten: int
    pinned: int
    packed: int = 0

    @property
    def excess(self) -> int:
        """Bytes held beyond the need. A filesystem that counts what it compressed holds less: then 0."""
        return max(0, self.allocated - self.needed - self.packed)


# Opening --------------------------------------------------------------------------------------


def open_file(path: str | File, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of the regular file at *path*; no other kind of file is ever opened.

    A path may lead through symbolic links; a `File` is opened from its folder, through none. Raises NotAssessable
    if it is no regular file, ProbeError if it is gone or forbidden.
    """
    if isinstance(path, File):
        return path.open(flags)
    try:
        looked_at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as exc:
        raise ProbeError(f"{path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise ProbeError(f"{path}: no name that a file can have ({exc})") from exc
    try:
        return reopened(looked_at, path, flags)
    finally:
        os.close(looked_at)


@contextmanager
def opened(path: str | File, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Do as `open_file`, and close it at the end. An error of the system below becomes a ProbeError."""
    descriptor = open_file(path, flags)
    try:
        yield descriptor
    except OSError as exc:
        raise ProbeError(
            f"{path.path if isinstance(path, File) else path}: {exc.strerror}"
        ) from exc
    finally:
        os.close(descriptor)


# Extents --------------------------------------------------------------------------------------


def data_spans(descriptor: int, end: int) -> Iterator[Span]:
    """Yield the data (SEEK_DATA) up to *end*. Unwritten extents are no data."""
    position = 0
    while position < end:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            return
        position = min(end, os.lseek(descriptor, start, os.SEEK_HOLE))
        if start < position:
            yield start, position


def hole_spans(descriptor: int, end: int) -> Iterator[Span]:
    """Yield the spans between the data, up to *end*."""
    position = 0
    for start, stop in data_spans(descriptor, end):
        if position < start:
            yield position, start
        position = stop
    if position < end:
        yield position, end


@dataclass(frozen=True)
class Extent:
    """One extent of FIEMAP; `physical` is the offset on the device, on btrfs its logical address."""

    start: int
    end: int
    physical: int
    flags: int

    @property
    def is_unwritten(self) -> bool:
        return bool(self.flags & 0x0800)

    @property
    def is_encoded(self) -> bool:
        return bool(self.flags & 0x0008)

    @property
    def is_shared(self) -> bool:
        return bool(self.flags & 0x2000)


_FIEMAP = 0xC020660B
_FIEMAP_SYNC, _FIEMAP_LAST = 1, 1
_FIEMAP_HEAD, _FIEMAP_EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQ16xI12x")
_EXTENTS_AT_ONCE = 512


def extents(descriptor: int) -> Iterator[Extent]:
    """Yield the extents of a file in order, also those behind its end.

    Raises OSError with EOPNOTSUPP if the filesystem does not list them (tmpfs).
    """
    position, last = 0, False
    while not last:
        buffer = bytearray(_FIEMAP_HEAD.size + _EXTENTS_AT_ONCE * _FIEMAP_EXTENT.size)
        _FIEMAP_HEAD.pack_into(
            buffer,
            0,
            position,
            (1 << 64) - 1 - position,
            _FIEMAP_SYNC,
            0,
            _EXTENTS_AT_ONCE,
            0,
        )
        fcntl.ioctl(descriptor, _FIEMAP, buffer)
        count = _FIEMAP_HEAD.unpack_from(buffer)[3]
        for number in range(count):
            offset = _FIEMAP_HEAD.size + number * _FIEMAP_EXTENT.size
            start, physical, length, flags = _FIEMAP_EXTENT.unpack_from(buffer, offset)
            yield Extent(start, start + length, physical, flags)
            position, last = start + length, bool(flags & _FIEMAP_LAST)
        last = last or count == 0


def has_extents(descriptor: int) -> bool:
    """True if the filesystem lists the extents of this file. Raises OSError."""
    try:
        next(extents(descriptor), None)
    except OSError as exc:
        if exc.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            return False
        raise
    return True


class Overlap:
    """The overlap of spans that come in order with other spans that come in order. Constant memory."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = iter(spans)
        self._now: Span | None = next(self._spans, None)

    def parts(self, start: int, end: int) -> Iterator[Span]:
        """Yield the parts of start..end that lie in the spans."""
        while self._now is not None and self._now[0] < end:
            first, last = max(start, self._now[0]), min(end, self._now[1])
            if first < last:
                yield first, last
            if self._now[1] > end:
                return
            self._now = next(self._spans, None)


def _shared(descriptor: int, *, mapped: bool) -> Iterator[Span]:
    """Return the spans that a snapshot or reflink shares; none unless the filesystem lists extents (*mapped*)."""
    return (
        (
            (extent.start, extent.end)
            for extent in extents(descriptor)
            if extent.is_shared
        )
        if mapped
        else iter(())
    )


def shares_any(descriptor: int) -> bool:
    """True if a snapshot or reflink shares any of its extents."""
    return has_extents(descriptor) and any(
        extent.is_shared for extent in extents(descriptor)
    )


def shared_extents(descriptor: int, wanted: Iterable[Span]) -> Iterator[Extent]:
    """Yield the shared extents that hold any of *wanted* (in order)."""
    if not has_extents(descriptor):
        return
    pairs = iter(wanted)
    now = next(pairs, None)
    for extent in extents(descriptor):
        while now is not None and now[1] <= extent.start:
            now = next(pairs, None)
        if now is None:
            return
        if extent.is_shared and now[0] < extent.end:
            yield extent


# Reading --------------------------------------------------------------------------------------


def zero_spans(
    descriptor: int, end: int, read: Callable[[int], None] = lambda _count: None
) -> Iterator[Span]:
    """Yield the runs of whole zero blocks within the data of a file of *end* bytes; holes are not read.

    *read* is called with each count of bytes read. Constant memory. Raises ProbeError if the file gets
    shorter meanwhile, OSError if it cannot be read.
    """
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    run: Span | None = None
    for start, stop in data_spans(descriptor, end):
        position = start
        while position < stop:
            # whole chunks from aligned offsets: a block never lies in two of them
            wanted = min(stop, position - position % _CHUNK + _CHUNK) - position
            if os.preadv(descriptor, [view[:wanted]], position) != wanted:
                raise ProbeError("it was truncated while it was read")
            for first, last in _zero_blocks(buffer, wanted):
                here = position + first, position + last
                if run is not None and run[1] == here[0]:
                    run = run[0], here[1]
                    continue
                if run is not None:
                    yield run
                run = here
            position += wanted
            read(wanted)
    if run is not None:
        yield run


def _zero_blocks(buffer: bytearray, length: int) -> Iterator[Span]:
    """Yield the runs of zero blocks in the first *length* bytes of *buffer*."""
    if length == _CHUNK and buffer == _ZEROS:
        yield 0, length
        return
    start, stop = 0, 0
    # the first byte settles most blocks; a slice of a bytearray compares at the speed of memcmp
    for block in [
        block
        for block in range(0, length, BLOCK)
        if not buffer[block]
        and buffer[block : min(block + BLOCK, length)] == _ZERO_BLOCK[: length - block]
    ]:
        if block != stop:
            if start < stop:
                yield start, stop
            start = block
        stop = min(block + BLOCK, length)
    if start < stop:
        yield start, stop


class Meter:
    """The progress of a long read, reported now and then."""

    def __init__(self, path: str, total: int, progress: Progress) -> None:
        self._path, self._total, self._progress = path, total, progress
        self._done = self._unsaid = 0
        self._said = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        self._unsaid += count
        if self._unsaid >= _PROGRESS_BYTES:
            self._unsaid = 0
            if time.monotonic() - self._said >= _PROGRESS_SECONDS:
                self._said = time.monotonic()
                self._progress(
                    f"{self._path}: read {in_words(self._done)} of at most {in_words(self._total)}"
                )


def _blocks(start: int, end: int) -> int:
    """Return the bytes of the blocks that start..end touches."""
    return -(-end // BLOCK) * BLOCK - start // BLOCK * BLOCK


def scan(path: str | File, progress: Progress = lambda _text: None) -> Scan:
    """Do `scan_open` for the file at *path*. Raises NotAssessable if it is no file, ProbeError."""
    with opened(path) as descriptor:
        return scan_open(
            descriptor, path.path if isinstance(path, File) else path, progress
        )


def scan_open(
    descriptor: int, label: str, progress: Progress = lambda _text: None
) -> Scan:
    """Read the data of an open file and count. Nothing is changed. *label* is its name in messages.

    Raises ProbeError if it cannot be read to its end, OSError.
    """
    before = os.fstat(descriptor)
    size = before.st_size
    mapped = has_extents(descriptor)
    # what is compressed is no part of the excess, so none of it is pinned
    shared = Overlap(
        (extent.start, extent.end)
        for extent in (extents(descriptor) if mapped else ())
        if extent.is_shared and not extent.is_encoded
    )
    encoded = Overlap(
        (extent.start, extent.end)
        for extent in (extents(descriptor) if mapped else ())
        if extent.is_encoded
    )
    meter = Meter(label, min(size, before.st_blocks * 512), progress)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    zeros = pinned = packed = 0
    try:
        for start, end in zero_spans(descriptor, size, meter):
            zeros += _blocks(start, end)
            packed += sum(last - first for first, last in encoded.parts(start, end))
            pinned += sum(last - first for first, last in shared.parts(start, end))
    except ProbeError as exc:
        raise ProbeError(f"{label}: {exc}") from exc
    data = sum(_blocks(start, end) for start, end in data_spans(descriptor, size))
    after = os.fstat(descriptor)
    if Identity.of(after) != Identity.of(before):
        raise ProbeError(f"{label}: it changed while it was read")
    allocated = after.st_blocks * 512
    if mapped:
        unwritten, held = _unwritten(descriptor)
        pinned += held
    else:
        unwritten = max(0, allocated - data)
    return Scan(
        Identity.of(after), allocated, data - zeros, zeros, unwritten, pinned, packed
    )


def _unwritten(descriptor: int) -> tuple[int, int]:
    """Return the bytes in unwritten extents, and those of them that are shared."""
    total = shared = 0
    for extent in extents(descriptor):
        if extent.is_unwritten:
            total += extent.end - extent.start
            shared += extent.end - extent.start if extent.is_shared else 0
    return total, shared


# Giving back ----------------------------------------------------------------------------------

_PUNCH_HOLE, _KEEP_SIZE = 0x02, 0x01
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
#: what fallocate says where a filesystem has no holes to punch
CANNOT_PUNCH = (errno.EOPNOTSUPP, errno.ENOSYS)


def punch(descriptor: int, start: int, end: int) -> None:
    """Free the blocks of start..end; they read as zeros, the size stays. Raises OSError."""
    if _libc.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, start, end - start) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def free_bytes(descriptor: int) -> int:
    """Write all that waits, and return the free bytes of the filesystem: btrfs frees with its next commit."""
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    status = os.fstatvfs(descriptor)
    return status.f_bfree * status.f_frsize


#: statfs(2): the type of a btrfs
_BTRFS = 0x9123683E


def is_on_btrfs(descriptor: int) -> bool:
    """True if the open file or folder lies on a btrfs. Raises OSError."""
    buffer = ctypes.create_string_buffer(
        256
    )  # struct statfs has 120 bytes; the type is the first word
    if _libc.fstatfs(descriptor, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(ctypes.c_long.from_buffer(buffer).value) & 0xFFFFFFFF == _BTRFS


def can_punch(folder: int) -> bool:
    """True if the filesystem of the open *folder* can punch holes. It is tried on a file of ours without a name."""
    descriptor = nameless(folder)
    try:
        os.pwrite(descriptor, _ZERO_BLOCK, 0)
        punch(descriptor, 0, BLOCK)
    except OSError as exc:
        if exc.errno in CANNOT_PUNCH:
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def punch_out(
    descriptor: int, still_ours: StillOurs, read: Callable[[int], None]
) -> None:
    """Free every zero block and unwritten extent that nothing else shares. Size, times and content stay.

    *still_ours* is called before each punch and raises to stop. A hole punched until then
    reads as before: stopping at any point loses nothing. Raises OSError, ProbeError.
    """
    before = os.fstat(descriptor)
    mapped = has_extents(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    try:
        for start, end in _alone(
            descriptor, zero_spans(descriptor, before.st_size, read), mapped=mapped
        ):
            still_ours()
            # the last block is freed only as a whole, with what of it lies behind the end
            punch(
                descriptor,
                start,
                end if end < before.st_size else -(-end // BLOCK) * BLOCK,
            )
        for start, end in _alone(
            descriptor,
            _unwritten_spans(descriptor, before.st_size, mapped=mapped),
            mapped=mapped,
        ):
            still_ours()
            punch(descriptor, start, end)
        still_ours()
        os.ftruncate(descriptor, before.st_size)  # what was allocated behind the end
        os.fsync(descriptor)
    finally:
        os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))


def _unwritten_spans(descriptor: int, size: int, *, mapped: bool) -> Iterator[Span]:
    """Yield unwritten extents below *size*, unless data waits in the page cache to be written into them."""
    if not mapped:
        yield from hole_spans(descriptor, size)
        return
    unwritten = Overlap(
        (extent.start, extent.end)
        for extent in extents(descriptor)
        if extent.is_unwritten
    )
    for start, end in hole_spans(descriptor, size):
        yield from unwritten.parts(start, end)


def _alone(descriptor: int, spans: Iterable[Span], *, mapped: bool) -> Iterator[Span]:
    """Yield *spans* without the parts that a snapshot or reflink shares: punching those frees nothing."""
    shared = Overlap(_shared(descriptor, mapped=mapped))
    for start, end in spans:
        position = start
        for first, last in shared.parts(start, end):
            if position < first:
                yield position, first
            position = last
        if position < end:
            yield position, end


# Being alone with a file ----------------------------------------------------------------------

_F_SETSIG = 10  # Linux's fcntl.h; Python has no name for it


@contextmanager
def alone_with(descriptor: int, path: str) -> Iterator[StillOurs]:
    """Hold a write lease on the file: no other process has it open, and one that opens it waits for us to let go.

    Yields a function that raises ChangeFailed as soon as a process waits. Raises ChangeFailed if
    a process has the file open, or the filesystem gives no leases (a network filesystem: another
    machine may have it open). *descriptor* is the only one of ours, open for writing.
    """
    stopped = "another process wants to open it: stopped, nothing is lost; run again"
    with _leased(descriptor, path, fcntl.F_WRLCK, ChangeFailed, stopped) as still_ours:
        yield still_ours


@contextmanager
def unwritten(descriptor: int, path: str) -> Iterator[StillOurs]:
    """Keep others from writing to the file meanwhile: a process that opens it for that waits for us to let go.

    Yields a function that raises ProbeError as soon as a process waits. A file that only root and ourselves may write
    needs no lease. Raises ProbeError if a process has it open for writing, or the filesystem gives no leases.
    """
    status = os.fstat(descriptor)
    if not others_may_write(status):
        yield lambda: None
        return
    stopped = "another process wants to write to it: stopped; run again"
    with _leased(descriptor, path, fcntl.F_RDLCK, ProbeError, stopped) as still_ours:
        yield still_ours


@contextmanager
def _leased(
    descriptor: int, path: str, kind: int, failure: type[ReclaimError], stopped: str
) -> Iterator[StillOurs]:
    """Hold a lease of *kind*. Raises *failure* if there is none to be had; the yielded function, if a process waits."""
    try:
        # the lease's own signal ends a process that does not expect it (SIGIO); this one is ignored by default
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, kind)
    except OSError as exc:
        raise failure(f"{path}: {_why_no_lease(exc, descriptor)}") from exc

    def still_ours() -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETLEASE) != kind:
            raise failure(f"{path}: {stopped}")

    try:
        yield still_ours
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _why_no_lease(exc: OSError, descriptor: int) -> str:
    if exc.errno != errno.EAGAIN:
        return f"reclaim cannot see whether a process has it open ({exc.strerror})"
    users = openers(descriptor)
    return f"it is open in {', '.join(users[:5])}" if users else "a process has it open"


def openers(descriptor: int) -> list[str]:
    """Return the other processes that have the file open, as "name (pid)", as far as /proc shows them."""
    wanted = os.fstat(descriptor)
    others = []
    for pid in sorted(
        (name for name in os.listdir("/proc") if name.isdecimal()), key=int
    ):
        if int(pid) != os.getpid() and _has_open(pid, wanted):
            others.append(f"{_name(pid)} ({pid})")
    return others


def _has_open(pid: str, wanted: os.stat_result) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False  # gone, or not ours to see
    for number in numbers:
        try:
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):
                return True
        except OSError:
            continue
    return False


def _name(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return "a process"
