"""The fields of a qcow2 header and its snapshot table (QEMU's docs/interop/qcow2.rst).

No file that they name is opened.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from reclaim.base.errors import NotAssessable

MAGIC = b"QFI\xfb"
#: the header up to snapshots_offset, and the fields that version 3 adds
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_FEATURES = struct.Struct(">QQQII")
#: bytes that `parse` has to be given
HEAD = _HEADER.size + _FEATURES.size
_CORRUPT, _EXTERNAL_DATA, _EXTENDED_L2 = 1 << 1, 1 << 2, 1 << 4
#: the limits of qemu-img itself (block/qcow2.c: MIN_CLUSTER_BITS, MAX_CLUSTER_BITS, QCOW_MAX_L1_SIZE)
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

#: the bytes at an offset, of a length; fewer if the file ends
Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Qcow2:
    """The fields of a qcow2 header. Sizes in bytes; `backing` is a name, and is never opened."""

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
    def is_plain(self) -> bool:
        """True if the file holds the whole disk, unencrypted, and no internal snapshots."""
        return not (self.snapshots or self.encrypted or self.external_data)

    @property
    def tables(self) -> int:
        """The most that its own tables take: 8 bytes for a cluster's place (16 with extended_l2), 2 to count it,
        and the tables of those."""
        clusters = -(-self.virtual // self.cluster)
        return clusters * (18 if self.extended_l2 else 10) + 16 * self.cluster


def parse(read: Read, length: int | None, path: str) -> Qcow2:
    """Return the header of the image at *path*, of *length* bytes (None for a block device, which is not compared).

    Raises NotAssessable if it is broken.
    """
    broken = f"{path}: broken qcow2 header"
    head = read(0, HEAD)
    if len(head) < _HEADER.size:
        raise NotAssessable(f"{broken}: the file ends within it")
    fields = _Fields._make(_HEADER.unpack_from(head))
    _expect_sane(fields, length, path)
    cluster = 1 << fields.cluster_bits
    incompatible, header_length = 0, _HEADER.size
    if fields.version == 3:
        incompatible, header_length = _features(head, cluster, broken)
    # an entry of an L2 table has 8 bytes, with extended_l2 16
    entry_bits = 4 if incompatible & _EXTENDED_L2 else 3
    if fields.l1_count << (2 * fields.cluster_bits - entry_bits) < fields.virtual:
        raise NotAssessable(
            f"{broken}: its tables are too short for {fields.virtual} bytes"
        )
    backing_at = fields.backing_at
    name = read(backing_at, fields.backing_size) if backing_at else b""
    if backing_at and len(name) < fields.backing_size:
        raise NotAssessable(f"{broken}: the file ends within it")
    return Qcow2(
        fields.version,
        fields.virtual,
        cluster,
        fields.l1_at + fields.l1_count * 8,
        fields.snapshots,
        _text(name) or None,
        fields.crypt != 0,
        bool(incompatible & _EXTERNAL_DATA),
        bool(incompatible & _EXTENDED_L2),
        bool(incompatible & _CORRUPT),
        fields.snapshots_at,
        header_length,
        backing_at or cluster,
    )


class _Fields(NamedTuple):
    """The fields of `_HEADER`, in their order."""

    magic: bytes
    version: int
    backing_at: int
    backing_size: int
    cluster_bits: int
    virtual: int
    crypt: int
    l1_count: int
    l1_at: int
    refcounts_at: int
    refcount_clusters: int
    snapshots: int
    snapshots_at: int


def _expect_sane(fields: _Fields, length: int | None, path: str) -> None:
    """Raise NotAssessable if the header is broken, or its tables lie behind the *length* of the file."""
    broken = f"{path}: broken qcow2 header"
    if fields.version not in (2, 3):
        raise NotAssessable(f"{broken}: version {fields.version}")
    if fields.cluster_bits not in _CLUSTER_BITS:
        raise NotAssessable(f"{broken}: clusters of 2^{fields.cluster_bits} bytes")
    l1_bytes = fields.l1_count * 8
    if (
        l1_bytes > _MAX_L1_BYTES
        or fields.backing_size > _MAX_BACKING_NAME
        or fields.snapshots > _MAX_SNAPSHOTS
    ):
        raise NotAssessable(f"{broken}: a table larger than any")
    if length is not None and fields.l1_at + l1_bytes > length:
        raise NotAssessable(f"{path}: truncated: its tables lie behind its end")
    name_end = fields.backing_at + fields.backing_size if fields.backing_at else 0
    last_table = max(fields.l1_at, fields.snapshots_at)
    if name_end > 1 << fields.cluster_bits or last_table > _MAX_OFFSET:
        raise NotAssessable(f"{broken}: it points behind any file")


def _features(head: bytes, cluster: int, broken: str) -> tuple[int, int]:
    """Return the incompatible features of a version 3 and the length of its header. Raises NotAssessable."""
    if len(head) < HEAD:
        raise NotAssessable(f"{broken}: the file ends within it")
    incompatible, *_others, order, length = _FEATURES.unpack_from(head, _HEADER.size)
    if order > _MAX_REFCOUNT_ORDER or not HEAD <= length <= cluster:
        raise NotAssessable(
            f"{broken}: refcounts of 2^{order} bits, a header of {length} bytes"
        )
    return incompatible, length


def _text(data: bytes) -> str:
    """Return a name as the kernel is given it: it ends with a NUL, and may be of any bytes."""
    return data.partition(b"\0")[0].decode("utf-8", errors="surrogateescape")


@dataclass(frozen=True)
class Named:
    """The files that a header names, and the format of the backing file; "" if the header does not name it."""

    backing: str | None = None
    backing_format: str = ""
    data: str | None = None


def named(read: Read, header: Qcow2, path: str) -> Named:
    """Return the names in *header* and in its extensions. Raises NotAssessable if they are broken.

    They are read up to 64 KiB; no program writes them behind that.
    """
    length = min(header.extensions_end - header.extensions_at, _MAX_EXTENSIONS)
    table = read(header.extensions_at, length) if length > 0 else b""
    names: dict[int, str] = {}
    offset = 0
    while offset + _EXTENSION.size <= len(table):
        kind, size = _EXTENSION.unpack_from(table, offset)
        if kind == 0:
            break
        start = offset + _EXTENSION.size
        if size > len(table) - start:
            raise NotAssessable(
                f"{path}: broken qcow2 header: an extension is longer than the header"
            )
        if kind in (_BACKING_FORMAT, _DATA_FILE):
            names.setdefault(
                kind, _text(table[start : start + min(size, _MAX_BACKING_NAME)])
            )
        offset = start + -(-size // 8) * 8
    data = names.get(_DATA_FILE) if header.external_data else None
    return Named(header.backing, names.get(_BACKING_FORMAT, ""), data or None)


def snapshot_names(header: Qcow2, table: bytes, most: int) -> list[str]:
    """Return the names of the first *most* internal snapshots, read from *table*: the bytes from `snapshots_at` on.

    They are fewer if the table is broken off.
    """
    names: list[str] = []
    entry = 0
    for _ in range(min(header.snapshots, most, _MAX_SNAPSHOTS)):
        if entry + _SNAPSHOT.size > len(table):
            break
        _, _, id_size, name_size, *_times, extra = _SNAPSHOT.unpack_from(table, entry)
        start = entry + _SNAPSHOT.size + extra + id_size
        name = table[start : start + name_size]
        if len(name) < name_size:
            break
        names.append(name.decode("utf-8", errors="backslashreplace"))
        entry = -(-(start + name_size) // 8) * 8
    return names
