"""Which parts of a guest's disk the host holds bytes for. Offsets are those that the guest sees.

Read beside a running QEMU, of which the newest tables may not be written yet: good for counting, for nothing else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from reclaim.files.holes import Span
from reclaim.handles.node import Node
from reclaim.storage.host_image import HostImage
from reclaim.storage.qcow2 import Qcow2

_SECONDS = 60
_MAX_BYTES = 48 * 1024 * 1024
#: filesystems that share extents between files: a snapshot or a reflink keeps what the image gives back
SHARING = ("btrfs", "xfs", "bcachefs", "ocfs2")
_EXTENT = re.compile(
    r"\s*\d+:\s+(\d{1,15})\.\.\s*(\d{1,15}):\s+\d+\.\.\s*\d+:\s+\d+:(?:\s+\d+:)?\s*([a-z_,]*)\s*",
    re.ASCII,
)


@dataclass(frozen=True)
class HostMap:
    """The held parts of a disk in order, and what of the file snapshots or reflinks share (bytes)."""

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
    """The map of *image*; None where it cannot be had, or only in more than a minute.

    Kept as long as the host holds as much as it did.
    """
    known = _kept.setdefault(hypervisor, {})
    if image.path not in known or known[image.path][0] != image.allocated:
        hypervisor.progress(f"{image.path}: reading where it holds what")
        known[image.path] = image.allocated, _read(hypervisor, image, kind, head)
    return known[image.path][1]


def _read(
    hypervisor: Node, image: HostImage, kind: str, head: Qcow2 | None
) -> HostMap | None:
    if (
        image.is_device
        or kind not in ("raw", "qcow2")
        or (head is not None and (head.encrypted or head.external_data))
    ):
        return None
    extents = (
        _extents(hypervisor, image.path)
        if kind == "raw" or image.filesystem in SHARING
        else None
    )
    if extents is None and image.filesystem in SHARING:
        return None
    shared = sum(
        end - start for start, end, flags in extents or () if "shared" in flags
    )
    if kind == "raw" and extents is not None:
        return HostMap(tuple((start, end) for start, end, _ in extents), shared)
    spans = _mapped(hypervisor, image.path, kind)
    return None if spans is None else HostMap(tuple(spans), shared)


def _extents(hypervisor: Node, path: str) -> list[tuple[int, int, list[str]]] | None:
    """The extents of a file with their flags, as filefrag(8) tells; None where it cannot."""
    output = _run(hypervisor, "filefrag -v -b512 %s", path)
    if output is None or not re.search(r"\d+ extents? found\n\Z", output):
        return None  # tmpfs has none of it, and filefrag succeeds
    matches = [
        match for line in output.splitlines() if (match := _EXTENT.fullmatch(line))
    ]
    return [
        (int(one[1]) * 512, (int(one[2]) + 1) * 512, one[3].split(","))
        for one in matches
    ]


def _mapped(hypervisor: Node, path: str, kind: str) -> list[Span] | None:
    """What of the disk has data in this file, as `qemu-img map` tells; nothing that a header names is opened."""
    node = {"driver": kind, "file": {"driver": "file", "filename": path}}
    name = "json:" + json.dumps({**node, "backing": None} if kind == "qcow2" else node)
    output = _run(hypervisor, "qemu-img map -U --output=json %s", name)
    try:
        pieces = json.loads(output or "")
        if not isinstance(pieces, list):
            return None
        # a cluster that reads as zeros may keep its place in the file, and hold nothing there
        return [
            (int(one["start"]), int(one["start"]) + int(one["length"]))
            for one in pieces
            if one["data"] and not one["zero"] and "offset" in one
        ]
    except (ValueError, KeyError, TypeError):
        return None  # it was cut short, or no answer


def _run(hypervisor: Node, command: str, *arguments: str) -> str | None:
    """What *command* prints; None where it fails, takes too long, or says more than is read."""
    limited = f"timeout -k 5 {_SECONDS} {command}"
    result = hypervisor.shell.run(
        f"LC_ALL=C; export LC_ALL; {limited} 2>/dev/null | head -c {_MAX_BYTES}",
        *arguments,
    )
    return (
        result.stdout
        if result.rc == 0 and 0 < len(result.stdout) < _MAX_BYTES
        else None
    )
