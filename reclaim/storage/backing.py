"""What the header of an image names: the file that it stands on, and the one that holds its data. Nothing is opened.

QEMU's docs/interop/qcow2.rst, qed_spec.rst; block/qcow.c, block/vmdk.c; block.c (path_has_protocol, path_combine,
json: and file: names).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from reclaim.base.errors import NotAssessable

#: formats whose header can name another file; libvirt's names
CHAINING = frozenset(("qcow2", "qcow", "qed", "vmdk"))
#: bytes of an image that `names` is given first
HEAD = 4096
_MAGIC, _QED, _VMDK = b"QFI\xfb", b"QED\0", b"KDMV"
_BACKING_FORMAT, _DATA_FILE = 0xE2792ACA, 0x44415441
_MAX_NAME = 1023

#: the bytes at an offset, of a length; fewer where the file ends
Read = Callable[[int, int], bytes]


class Names(NamedTuple):
    """What a header names. `format` is that of `backing`, None where QEMU would look for itself."""

    backing: str | None = None
    format: str | None = None
    data: str | None = None


def names(read: Read, format: str | None, path: str) -> Names:  # noqa: A002
    """What the header of the image at *path* names; *format* is what it is said to be, None where nobody says.

    Raises NotAssessable where the header cannot be read or is none of that format.
    """
    if format is not None and format not in CHAINING:
        return Names()
    head = read(0, HEAD)
    if head.startswith(_MAGIC) and len(head) >= 24:
        return (
            _of_qcow2(read, head, path) if head[4:8] != b"\0\0\0\1" else Names(_at(read, *_PLACE.unpack_from(head, 8)))
        )
    if head.startswith(_QED) and len(head) >= 64:
        return _of_qed(read, head)
    if head.startswith((_VMDK, b"# Disk DescriptorFile")):
        found = re.search(rb'^\s*parentFileNameHint\s*=\s*"([^"\n]{1,1023})"', head, re.MULTILINE)
        return Names(_text(found[1]) if found else None, "vmdk")
    if format is None and head:
        return Names()  # QEMU takes it for a raw one
    raise NotAssessable(f"{path}: its header cannot be read as that of a {format or 'disk image'}")


#: offset and length of the name in a qcow and a qcow2
_PLACE = struct.Struct(">QI")


def _at(read: Read, offset: int, length: int) -> str | None:
    return _text(read(offset, min(length, _MAX_NAME))) if offset and length else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _of_qcow2(read: Read, head: bytes, path: str) -> Names:
    version = int.from_bytes(head[4:8], "big")
    if version not in (2, 3) or len(head) < 104:
        raise NotAssessable(f"{path}: a qcow2 of version {version}, or one that ends in its header")
    at = 72 if version == 2 else int.from_bytes(head[100:104], "big")
    found: dict[int, str] = {}
    while at + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == 0:
            break
        found.setdefault(kind, _text(head[at + 8 : at + 8 + length]))
        at += 8 + -(-length // 8) * 8
    return Names(_at(read, *_PLACE.unpack_from(head, 8)), found.get(_BACKING_FORMAT), found.get(_DATA_FILE))


def _of_qed(read: Read, head: bytes) -> Names:
    features = int.from_bytes(head[16:24], "little")
    offset, length = struct.unpack_from("<II", head, 56)
    if not features & 1:
        return Names()
    return Names(_at(read, offset, length), "raw" if features & 4 else None)


# Where a name leads ---------------------------------------------------------------------------


def location(name: str, folder: str) -> str:
    """The path that *name* (in the header of an image in *folder*) means, or `protocol:…` of what is no file here."""
    if name.startswith("json:"):
        return _of_json(name, folder)
    if re.match(r"(file|host_device):", name):
        return location(name.partition(":")[2].removeprefix("//"), folder)
    if ":" in name.partition("/")[0]:
        return network(name)
    return str(PurePosixPath(folder) / name)


def network(name: str) -> str:
    """`rbd:pool/image` of what QEMU and libvirt write in several ways: without options, monitors and secrets."""
    protocol, _, rest = name.partition(":")
    protocol = protocol.partition("+")[0]
    if protocol in ("gluster", "iscsi", "sheepdog") and rest.startswith("//"):
        return f"{protocol}:{rest[2:].partition('/')[2]}"  # of one cluster, whichever host is asked
    if protocol == "rbd":
        return f"rbd:{re.split(r'[:@]', rest)[0]}"
    return f"{protocol}:{rest}"


def _of_json(name: str, folder: str) -> str:
    """The innermost file of a `json:` name."""
    try:
        found: Any = json.loads(name.removeprefix("json:"))
    except (ValueError, RecursionError):
        return f"json:{name[:200]}"
    for _ in range(32):
        if not isinstance(found, dict):
            break
        inner = {key.removeprefix("file."): value for key, value in found.items() if key.startswith("file.")}
        found = found.get("file", inner or found)
        if isinstance(found, dict) and "file" not in found and not any(key.startswith("file.") for key in found):
            break
    if isinstance(found, str):
        return location(found, folder)
    if isinstance(found, dict) and "filename" in found:
        return str(PurePosixPath(folder) / str(found["filename"]))
    if isinstance(found, dict) and found.get("driver") == "rbd":
        return f"rbd:{found.get('pool')}/{found.get('image')}"
    return f"json:{json.dumps(found, sort_keys=True)[:500]}"
