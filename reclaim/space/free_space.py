"""The free extents of a guest's filesystems, as each filesystem's own map has them: a trim gives back no others.

The tools that read the maps come with mkfs and fsck of the same filesystem: dumpe2fs, xfs_io, btrfs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reclaim.base.errors import ProbeError
from reclaim.files.holes import Span
from reclaim.handles.guest import Guest
from reclaim.inside.disk_layout import Area
from reclaim.processes import shell_script

#: filesystems whose map the script reads
MAPPED = frozenset(("ext3", "ext4", "xfs", "btrfs"))
#: bytes of the smallest extent that is listed: smaller ones are counted together
SMALLEST = 16 * 1024
#: seconds for the maps of one disk
_SECONDS = 60
_EXTENT = re.compile(r"(\d{1,18}) (\d{1,18})", re.ASCII)
_COUNT = re.compile(r"(small|more) (\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class FreeSpace:
    """The free extents of one filesystem, in bytes of its device.

    `small` counts those that are smaller than any that is listed, and `more` those that were too many to be listed.
    """

    spans: tuple[Span, ...]
    small: int = 0
    more: int = 0


def free_space(guest: Guest, areas: Sequence[Area], grain: int) -> dict[str, FreeSpace]:
    """Return the free extents of the filesystems among *areas*, by their devices; none for one that cannot be read.

    Extents smaller than *grain* bytes are not listed. The answer is kept until a change inside.
    """
    wanted = {
        area.device: area for area in areas if area.device and area.fstype in MAPPED
    }
    key = f"free-space {grain} {' '.join(sorted(wanted))}"
    if wanted and key not in guest.learned:
        guest.hypervisor.progress(f"{guest.name}: reading the maps of its free space")
        try:
            guest.learned[key] = _read(guest, list(wanted.values()), grain)
        finally:
            guest.hypervisor.progress("")
    known: dict[str, FreeSpace] = guest.learned.get(key, {})
    return known


def _read(guest: Guest, areas: Sequence[Area], grain: int) -> dict[str, FreeSpace]:
    given = [str(max(grain, SMALLEST))]
    for area in areas:
        given += [area.fstype, area.device, area.mount]
    command = shell_script.command(len(given))
    try:
        result = guest.shell.run(command, script(), *given, seconds=_SECONDS)
    except ProbeError:
        return {}  # it is counted without a map
    pieces = str(result.stdout).split("filesystem\n")[1:]
    known = {}
    for area, piece in zip(areas, pieces, strict=False):
        free = parsed(piece)
        if free is not None:
            known[area.device] = free
    return known


def script() -> str:
    """Return the shell script that reads the maps in the guest."""
    return shell_script.load("reclaim.space", "free_space.sh")


def parsed(piece: str) -> FreeSpace | None:
    """Return the extents of one filesystem; None if its map was not read to the end, or makes no sense."""
    lines = piece.splitlines()
    if not lines or lines[-1] != "end":
        return None
    spans = []
    counts = {"small": 0, "more": 0}
    for line in lines[:-1]:
        if extent := _EXTENT.fullmatch(line):
            start, length = int(extent[1]), int(extent[2])
            spans.append((start, start + length))
        elif count := _COUNT.fullmatch(line):
            counts[count[1]] = int(count[2])
        else:
            return None
    return FreeSpace(tuple(_apart(sorted(spans))), **counts)


def _apart(spans: Sequence[Span]) -> Iterator[Span]:
    """Yield *spans*, which are in order, without the parts of each that the ones before it have.

    Neighbours stay apart: each extent is trimmed by a call of its own.
    """
    reached = 0
    for start, end in spans:
        first = max(start, reached)
        if first < end:
            yield first, end
            reached = end


def whole_grains(spans: Sequence[Span], grain: int) -> Iterator[Span]:
    """Yield the parts of *spans* that are whole grains of an image, *grain* bytes each from its beginning."""
    for start, end in spans:
        first, last = -(-start // grain) * grain, end // grain * grain
        if first < last:
            yield first, last
