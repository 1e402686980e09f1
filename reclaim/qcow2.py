"""What a qcow2 header and its snapshot table say (QEMU's docs/interop/qcow2.rst). Nothing that they name is opened."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from reclaim.errors import NotAssessable

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
    (_, version, backing_at, backing_size, bits, virtual, crypt, l1_count, l1_at, *_rest, snapshots, snapshots_at) = (
        _HEADER.unpack_from(head)
    )
    if version not in (2, 3):
        raise NotAssessable(f"{broken}: version {version}")
    if bits not in _CLUSTER_BITS:
        raise NotAssessable(f"{broken}: clusters of 2^{bits} bytes")
    if l1_count * 8 > _MAX_L1_BYTES or backing_size > _MAX_BACKING_NAME:
        raise NotAssessable(f"{broken}: a table larger than any")
    if length is not None and l1_at + l1_count * 8 > length:
        raise NotAssessable(f"{path}: truncated: its tables lie behind its end")
    incompatible = 0
    if version == 3:
        if len(head) < HEAD:
            raise NotAssessable(f"{broken}: the file ends within it")
        incompatible = _FEATURES.unpack_from(head, _HEADER.size)[0]
    # an entry of an L2 table has 8 bytes, with extended_l2 16
    if l1_count << (2 * bits - (4 if incompatible & _EXTENDED_L2 else 3)) < virtual:
        raise NotAssessable(f"{broken}: its tables are too short for {virtual} bytes")
    name = read(backing_at, backing_size) if backing_at else b""
    return Qcow2(
        version,
        virtual,
        1 << bits,
        l1_at + l1_count * 8,
        snapshots,
        name.decode("utf-8", errors="backslashreplace") or None,
        crypt != 0,
        bool(incompatible & _EXTERNAL_DATA),
        bool(incompatible & _EXTENDED_L2),
        bool(incompatible & _CORRUPT),
        snapshots_at,
    )


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
