"""The first bytes of images, made by hand: each field can have any number."""

from __future__ import annotations

import struct
from typing import Any

#: a qcow2 of version 3 with a disk of 64 MiB, by the names of its fields in QEMU's docs/interop/qcow2.rst
FIELDS: dict[str, Any] = {
    "magic": b"QFI\xfb",
    "version": 3,
    "backing_at": 0,
    "backing_size": 0,
    "cluster_bits": 16,
    "virtual": 64 * 1024**2,
    "crypt": 0,
    "l1_count": 1,
    "l1_at": 196_608,
    "refcounts_at": 65_536,
    "refcount_clusters": 1,
    "snapshots": 0,
    "snapshots_at": 0,
    "incompatible": 0,
    "compatible": 0,
    "autoclear": 0,
    "refcount_order": 4,
    "header_length": 104,
}
_FORM = struct.Struct(">4sIQIIQIIQQIIQQQQII")


def qcow2_header(**fields: int) -> bytes:
    """The header of a qcow2, 104 bytes long, with other *fields*."""
    return _FORM.pack(*{**FIELDS, **fields}.values())
