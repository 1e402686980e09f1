"""Image files that may come from anywhere: their format, and the answers of qemu-img about them.

A header may name any file of the machine as backing or data file. reclaim reads the header itself, and
hands qemu-img the format, the file that is open already, and no backing file: no file that a header
names is ever opened. qemu-img is limited in time and output.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.base.strict import number, objects
from reclaim.files import holes
from reclaim.files.beneath import File
from reclaim.processes import child
from reclaim.storage import block_node, qcow2
from reclaim.storage.qcow2 import Qcow2

Format = Literal["raw", "qcow2"]
#: formats that are no copy of a disk as it is; bytes at the start of the file
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"KDMV": "vmdk",
    b"vhdxfile": "vhdx",
    b"QED\x00": "qed",
}

QEMU_IMG_SECONDS: float = 300
#: bytes of JSON that are read: a map of 400 000 pieces
_MAX_OUTPUT = 48 * 1024 * 1024


@dataclass(frozen=True)
class Image:
    """An image file: its format, and its header if it has one."""

    format: Format
    qcow2: Qcow2 | None = None


def is_called_qcow2(path: str) -> bool:
    return path.endswith((".qcow2", ".qcow"))


def identify(descriptor: int, path: str, *, declared: str | None = None) -> Image:
    """Return the format of the open file: as *declared* ("raw", "qcow2"), else by its first bytes, never by probing.

    Raises NotAssessable for a broken header, or a file that is packed by another program.
    """
    head = os.pread(descriptor, qcow2.HEAD, 0)
    if declared == "raw":
        return Image("raw")
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            raise NotAssessable(
                f"{path}: it is a {name} file: no image as it is, nothing to punch"
            )
    if head.startswith(qcow2.MAGIC):
        read = partial(_read, descriptor)
        return Image("qcow2", qcow2.parse(read, os.fstat(descriptor).st_size, path))
    if declared == "qcow2" or is_called_qcow2(path):
        raise NotAssessable(f"{path}: it is named a qcow2 and does not begin like one")
    return Image("raw")


def _read(descriptor: int, offset: int, length: int) -> bytes:
    return os.pread(descriptor, length, offset)


def named_files(descriptor: int, image: Image, path: str) -> qcow2.Named:
    """Return the files that the header of an image names. Raises NotAssessable for a broken one."""
    return (
        qcow2.named(partial(_read, descriptor), image.qcow2, path)
        if image.qcow2
        else qcow2.Named()
    )


def node(
    descriptor: int, image: Image, backing: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the open file as a block node for qemu-img, with its format and the backing file *backing* or none."""
    block = block_node.of_file(f"/proc/self/fd/{descriptor}", image.format, backing)
    block["file"]["read-only"] = True
    block["read-only"] = True
    return block


def qemu_img(
    arguments: list[str],
    descriptors: tuple[int, ...],
    path: str,
    *,
    seconds: float | None = None,
    watch: Callable[[], None] = lambda: None,
) -> tuple[int, str, str]:
    """Run qemu-img and return its exit status, output and errors.

    *watch* is called every second, and raises to stop it.

    Raises ProbeError if it is absent, is too slow or prints too much.
    """
    if shutil.which("qemu-img") is None:
        raise ProbeError("qemu-img is not installed (Debian and Ubuntu: qemu-utils)")
    limit = QEMU_IMG_SECONDS if seconds is None else seconds
    asked = f"{path}: qemu-img {arguments[0]}"
    try:
        status, stdout, stderr = child.run_limited(
            ["qemu-img", *arguments],
            limit,
            _MAX_OUTPUT,
            descriptors=descriptors,
            watch=watch,
        )
    except TimeoutError as exc:
        raise ProbeError(f"{asked}: no answer within {limit:g} s") from exc
    except OverflowError as exc:
        raise ProbeError(f"{asked}: more than {_MAX_OUTPUT} bytes of output") from exc
    errors = stderr.decode("utf-8", errors="replace")
    for descriptor in descriptors:
        errors = errors.replace(f"/proc/self/fd/{descriptor}", path)
    output = stdout.decode("utf-8", errors="replace")
    return status, output, " ".join(errors.split())[:500]


def mapped(descriptor: int, image: Image, path: str) -> int | None:
    """Return the bytes of the file that hold the disk's data now, by `qemu-img map`;

    None if the map cannot show them.

    Internal snapshots hold clusters that the map does not show, and compressed clusters have no place in it. The
    header is read again while no other process can write to the file: qemu-img would open the data file that a new
    header names.
    Raises NotAssessable, ProbeError.
    """
    with holes.unwritten(descriptor, path) as still_ours:
        image = identify(descriptor, path, declared=image.format)
        header = image.qcow2
        if header is None or not header.is_plain:
            return None
        asked = ["map", "--output=json", block_node.filename(node(descriptor, image))]
        status, output, errors = qemu_img(asked, (descriptor,), path, watch=still_ours)
    if status != 0:
        raise NotAssessable(
            f"{path}: qemu-img does not read it: {errors.removeprefix('qemu-img: ')}"
        )
    try:
        return _placed_bytes(json.loads(output))
    except (ValueError, KeyError, RecursionError) as exc:
        raise ProbeError(f"{path}: qemu-img map: its output cannot be parsed") from exc


def _placed_bytes(pieces: Any) -> int | None:
    """Return the bytes of the file that *pieces* of a map have, None if a piece has data and no place.

    Raises ValueError or KeyError if it is no map.
    """
    total = 0
    for piece in objects(pieces):
        if piece.get("compressed"):
            return None
        holds_data = piece["data"]
        if "offset" in piece:
            if holds_data or piece["zero"]:
                total += number(piece, "length")
        elif holds_data:
            return None
    return total


def open_image(path: str | File, declared: str | None = None) -> tuple[int, Image]:
    """Return the file open for reading, and its format: as *declared*, if it is. Raises NotAssessable, ProbeError."""
    descriptor = holes.open_file(path)
    label = path.path if isinstance(path, File) else path
    try:
        return descriptor, identify(descriptor, label, declared=declared)
    except OSError as exc:
        os.close(descriptor)
        raise ProbeError(f"{label}: {exc.strerror}") from exc
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def opened_image(
    path: str | File, declared: str | None = None
) -> Iterator[tuple[int, Image]]:
    """`open_image`, closed at the end."""
    descriptor, image = open_image(path, declared)
    try:
        yield descriptor, image
    finally:
        os.close(descriptor)
