"""Which parts of a guest's disk the host holds bytes for. Offsets are those that the guest sees.

Read beside a running QEMU, of which the newest tables may not be written yet: good for counting, for nothing else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from reclaim.base.strict import number, objects
from reclaim.files.holes import Span
from reclaim.handles.node import Node
from reclaim.processes import limited
from reclaim.storage import block_node
from reclaim.storage.host_image import HostImage
from reclaim.storage.qcow2 import Qcow2

_SECONDS = 60
_MAX_BYTES = 48 * 1024 * 1024
#: bytes that the map and the count of the host may differ by: a guest writes between the two
_SLACK = 4 * 1024 * 1024
#: filesystems that share extents between files: a snapshot or a reflink keeps the blocks that the image gives back
SHARING = ("btrfs", "xfs", "bcachefs", "ocfs2")
_EXTENT = re.compile(
    r"\s*\d+:\s+(\d{1,15})\.\.\s*(\d{1,15}):\s+\d+\.\.\s*\d+:\s+\d+:(?:\s+\d+:)?\s*([a-z_,]*)\s*",
    re.ASCII,
)


@dataclass(frozen=True)
class HostMap:
    """The held parts of a disk in order, and the bytes of the file that snapshots or reflinks share."""

    spans: tuple[Span, ...]
    shared: int

    @property
    def held(self) -> int:
        return sum(end - start for start, end in self.spans)


_kept: WeakKeyDictionary[Node, dict[str, tuple[int | None, HostMap | None]]] = (
    WeakKeyDictionary()
)


def host_map(
    hypervisor: Node, image: HostImage, kind: str, head: Qcow2 | None
) -> HostMap | None:
    """Return the map of *image*; None if it cannot be read, or only in more than a minute.

    It is kept as long as the host holds as much as it did.
    """
    known = _kept.setdefault(hypervisor, {})
    if image.path not in known or known[image.path][0] != image.allocated:
        hypervisor.progress(f"{image.path}: reading its allocation map")
        known[image.path] = image.allocated, _read(hypervisor, image, kind, head)
    return known[image.path][1]


def _read(
    hypervisor: Node, image: HostImage, kind: str, head: Qcow2 | None
) -> HostMap | None:
    if image.is_device or kind not in ("raw", "qcow2"):
        return None
    if head is not None and (head.encrypted or head.external_data):
        return None
    may_share = image.filesystem in SHARING
    shared = 0
    if kind == "raw" or may_share:
        extents = _extents(hypervisor, image.path)
        if extents is not None:
            shared = sum(extent.length for extent in extents if extent.is_shared)
            if kind == "raw":
                return HostMap(tuple(extent.span for extent in extents), shared)
        elif may_share:
            return None
    spans = _mapped(hypervisor, image.path, kind)
    if spans is None or (kind == "raw" and _lacks_blocks(spans, image)):
        return None
    return HostMap(tuple(spans), shared)


def _lacks_blocks(spans: list[Span], image: HostImage) -> bool:
    """True if *spans* cover less than the host holds: blocks that fallocate(2) set aside are no data (lseek(2))."""
    held = image.allocated or 0
    return sum(end - start for start, end in spans) + _SLACK < held


class _Extent(NamedTuple):
    span: Span
    is_shared: bool

    @property
    def length(self) -> int:
        return self.span[1] - self.span[0]


def _extents(hypervisor: Node, path: str) -> list[_Extent] | None:
    """Return the extents of a file, as filefrag(8) prints them; None if it cannot."""
    output = _run(hypervisor, "filefrag -v -b512 %s", path)
    if output is None or not re.search(r"\d+ extents? found\n\Z", output):
        return None  # tmpfs has none of it, and filefrag succeeds
    extents = []
    for line in output.splitlines():
        match = _EXTENT.fullmatch(line)
        if match is not None:
            span = int(match[1]) * 512, (int(match[2]) + 1) * 512
            extents.append(_Extent(span, "shared" in match[3].split(",")))
    return extents


def _mapped(hypervisor: Node, path: str, kind: str) -> list[Span] | None:
    """Return the parts of the disk that have data in this file, or None.

    `qemu-img map` reports them, and opens no file that a header names.
    """
    name = block_node.filename(block_node.of_file(path, kind))
    output = _run(hypervisor, "qemu-img map -U --output=json %s", name)
    spans: list[Span] = []
    try:
        for piece in objects(json.loads(output or "")):
            # a cluster that reads as zeros may keep its place in the file, and hold nothing there
            if piece["data"] and not piece["zero"] and "offset" in piece:
                start = number(piece, "start")
                spans.append((start, start + number(piece, "length")))
    except (ValueError, KeyError, RecursionError):
        return None  # it was cut short, or no answer
    return spans


def _run(hypervisor: Node, command: str, *arguments: str) -> str | None:
    """Return the output of *command*; None if there is none, or it prints more than is read."""
    return limited.output(hypervisor.shell, _SECONDS, _MAX_BYTES, command, *arguments)
