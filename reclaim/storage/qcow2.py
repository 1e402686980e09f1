"""What a qcow2 header and its snapshot table say (QEMU's docs/interop/qcow2.rst). Nothing that they name is opened."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from reclaim.base.errors import NotAssessable

MAGIC = b"QFI\xfb"
#: the header up to snapshots_offset, and what version 3 adds
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_FEATURES = struct.Struct(">QQQII")
#: bytes that `parse` has to be given
HEAD = _HEADER.size + _FEATURES.size
_CORRUPT, _EXTERNAL_DATA, _EXTENDED_L2 = 1 << 1, 1 << 2, 1 << 4
#: what qemu-img itself accepts (block/qcow2.c: MIN_CLUSTER_BITS, MAX_CLUSTER_BITS, QCOW_MAX_L1_SIZE)
_CLUSTER_BITS = range(9, 22)
_MAX_L1_BYTES = 32 * 1024 * 1024
_MAX_BACKING_NAME = 1023
#: block/qcow2-snapshot.c: QCOW_MAX_SNAPSHOTS
_MAX_SNAPSHOTS = 65_536
#: block/qcow2-refcount.c: refcounts of 64 bits
_MAX_REFCOUNT_ORDER = 6
#: an offset that every system call takes, with a table behind it
_MAX_OFFSET = (1 << 62) - 1
#: header extensions: type and length, padded to 8 bytes
_EXTENSION = struct.Struct(">II")
_BACKING_FORMAT, _DATA_FILE = 0xE2792ACA, 0x44415441
_MAX_EXTENSIONS = 65_536
#: an entry of the snapshot table up to the size of its extra data
_SNAPSHOT = struct.Struct(">QIHHIIQII")

#: the bytes at an offset, of a length; fewer where the file ends
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Qcow2:
    """What the header of a qcow2 says. Sizes in bytes; `backing` is a name that nobody opens."""

    version: int
    virtual: int
    cluster: int
    l1_end: int
    snapshots: int
    backing: str | None
    encrypted: bool
    external_data: bool
    extended_l2: bool = False
    corrupt: bool = False
    snapshots_at: int = 0
    #: the bytes in which header extensions lie
    extensions_at: int = 0
    extensions_end: int = 0

    @property
    def tables(self) -> int:
        """The most that its own tables take: 8 bytes for a cluster's place (16 with extended_l2), 2 to count it,
        and the tables of those."""
        clusters = -(-self.virtual // self.cluster)
        return clusters * (18 if self.extended_l2 else 10) + 16 * self.cluster


def parse(read: Read, length: int | None, path: str) -> Qcow2:
    """The header of the image at *path*, of *length* bytes (None: a block device's, which says nothing).

    Raises NotAssessable where it is broken.
    """
    broken = f"{path}: broken qcow2 header"
    head = read(0, HEAD)
    if len(head) < _HEADER.size:
        raise NotAssessable(f"{broken}: the file ends within it")
    (
        _,
        version,
        backing_at,
        backing_size,
        bits,
        virtual,
        crypt,
        l1_count,
        l1_at,
        *_rest,
        snapshots,
        snapshots_at,
    ) = _HEADER.unpack_from(head)
    if version not in (2, 3):
        raise NotAssessable(f"{broken}: version {version}")
    if bits not in _CLUSTER_BITS:
        raise NotAssessable(f"{broken}: clusters of 2^{bits} bytes")
    cluster = 1 << bits
    if (
        l1_count * 8 > _MAX_L1_BYTES
        or backing_size > _MAX_BACKING_NAME
        or snapshots > _MAX_SNAPSHOTS
    ):
        raise NotAssessable(f"{broken}: a table larger than any")
    if length is not None and l1_at + l1_count * 8 > length:
        raise NotAssessable(f"{path}: truncated: its tables lie behind its end")
    if (backing_at and backing_at + backing_size > cluster) or max(
        l1_at, snapshots_at
    ) > _MAX_OFFSET:
        raise NotAssessable(f"{broken}: it points behind any file")
    incompatible, header_length = 0, _HEADER.size
    if version == 3:
        if len(head) < HEAD:
            raise NotAssessable(f"{broken}: the file ends within it")
        incompatible, *_others, order, header_length = _FEATURES.unpack_from(
            head, _HEADER.size
        )
        if order > _MAX_REFCOUNT_ORDER or not HEAD <= header_length <= cluster:
            raise NotAssessable(
                f"{broken}: refcounts of 2^{order} bits, a header of {header_length} bytes"
            )
    # an entry of an L2 table has 8 bytes, with extended_l2 16
    if l1_count << (2 * bits - (4 if incompatible & _EXTENDED_L2 else 3)) < virtual:
        raise NotAssessable(f"{broken}: its tables are too short for {virtual} bytes")
    name = read(backing_at, backing_size) if backing_at else b""
    if len(name) < (backing_size if backing_at else 0):
        raise NotAssessable(f"{broken}: the file ends within it")
    return Qcow2(
        version,
        virtual,
        cluster,
        l1_at + l1_count * 8,
        snapshots,
        _text(name) or None,
        crypt != 0,
        bool(incompatible & _EXTERNAL_DATA),
        bool(incompatible & _EXTENDED_L2),
        bool(incompatible & _CORRUPT),
        snapshots_at,
        header_length,
        backing_at or cluster,
    )


def _text(data: bytes) -> str:
    """A name as the kernel is given it: it ends with a NUL, and may be of any bytes."""
    return data.partition(b"\0")[0].decode("utf-8", errors="surrogateescape")


@dataclass(frozen=True)
class Named:
    """The files that a header names, and the format of the backing file; "" where it does not say that."""

    backing: str | None = None
    backing_format: str = ""
    data: str | None = None


def named(read: Read, header: Qcow2, path: str) -> Named:
    """What the header extensions of an image add to *header*. Raises NotAssessable where they are broken.

    Read up to 64 KiB; what lies behind that nobody writes.
    """
    length = min(header.extensions_end - header.extensions_at, _MAX_EXTENSIONS)
    table = read(header.extensions_at, length) if length > 0 else b""
    found: dict[int, str] = {}
    at = 0
    while at + _EXTENSION.size <= len(table):
        kind, size = _EXTENSION.unpack_from(table, at)
        if kind == 0:
            break
        start = at + _EXTENSION.size
        if size > len(table) - start:
            raise NotAssessable(
                f"{path}: broken qcow2 header: an extension is longer than the header"
            )
        if kind in (_BACKING_FORMAT, _DATA_FILE):
            found.setdefault(
                kind, _text(table[start : start + min(size, _MAX_BACKING_NAME)])
            )
        at = start + -(-size // 8) * 8
    data = found.get(_DATA_FILE) if header.external_data else None
    return Named(header.backing, found.get(_BACKING_FORMAT, ""), data or None)


def snapshot_names(header: Qcow2, table: bytes, most: int) -> list[str]:
    """The names of the first *most* internal snapshots, read from *table*: the bytes from `snapshots_at` on.

    Fewer where the table is broken off.
    """
    names: list[str] = []
    at = 0
    for _ in range(min(header.snapshots, most, _MAX_SNAPSHOTS)):
        if at + _SNAPSHOT.size > len(table):
            break
        _, _, id_size, name_size, *_times, extra = _SNAPSHOT.unpack_from(table, at)
        start = at + _SNAPSHOT.size + extra + id_size
        name = table[start : start + name_size]
        if len(name) < name_size:
            break
        names.append(name.decode("utf-8", errors="backslashreplace"))
        at = -(-(start + name_size) // 8) * 8
    return names
