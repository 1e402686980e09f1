"""Geometry of the pages' pictures: bars of bytes, the fullness of a filesystem, lines over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reclaim.record.record import HostFilesystem, Storage
from reclaim.report import summary

#: units of width of a bar
WIDE = 400
#: points of a line: more of them are one picture all the same
_POINTS = 120


@dataclass(frozen=True)
class Glass:
    """The disks of one guest as a glass as wide as their virtual size. Widths of `WIDE`, bytes; None if not known.

    The host holds `held`: `needed` by the guest and `spare`, which a trim frees. `freed` was held before the run.
    `used` is the guest's own count, which can be more than the host holds.
    """

    guest: str
    virtual: int | None
    before: int | None
    after: int | None
    counted: int | None
    freed_bytes: int | None
    spare_bytes: int | None
    held: float
    needed: float
    freed: float
    used: float | None

    @property
    def weight(self) -> int:
        """The bytes that came back or can come back."""
        return (self.freed_bytes or 0) + (self.spare_bytes or 0)

    @property
    def is_unwritten(self) -> bool:
        """True if the guest counts more than the host holds."""
        if self.after is None or self.counted is None:
            return False
        return self.counted > self.after


def _total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of *counts*; None if one of them is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def glass(guest: str, disks: Sequence[Storage]) -> Glass | None:
    """Return the picture of the *disks* of one guest; None if no size is known."""
    virtual = _total(disk.virtual for disk in disks)
    before = _total(disk.allocated_before for disk in disks)
    after = _total(disk.allocated_after for disk in disks)
    counted = _total(disk.used for disk in disks)
    spare = _total(map(summary.reclaimable, disks))
    freed = _total(map(summary.came_back, disks))
    held = before if after is None else after
    sizes = summary.known((virtual, before, after, counted))
    widest = max(sizes, default=0)
    if not widest:
        return None

    def width(count: int | None) -> float:
        return round(WIDE * (count or 0) / widest, 1)

    needed = (held or 0) - min(spare or 0, held or 0)
    used = None if counted is None else width(counted)
    return Glass(
        guest,
        virtual,
        before,
        after,
        counted,
        freed,
        spare,
        width(held),
        width(needed),
        width(max(0, (before or 0) - (held or 0))),
        used,
    )


# The host's filesystems -----------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """How full one filesystem of the host is: parts of a hundred, as df(1) counts them; None if not known."""

    space: HostFilesystem
    before: float | None
    after: float | None

    @property
    def freed(self) -> int | None:
        """Return the bytes that are free now and were not before; negative if it filled up."""
        if self.space.free_before is None or self.space.free_after is None:
            return None
        return self.space.free_after - self.space.free_before


def level(space: HostFilesystem) -> Level:
    return Level(
        space,
        percent(space.used_before, space.free_before),
        percent(space.used_after, space.free_after),
    )


def percent(used: int | None, free: int | None) -> float | None:
    """Return the fullness in percent as df(1) counts it, without the blocks that are kept for root."""
    if used is None or free is None or used + free == 0:
        return None
    return 100 * used / (used + free)


# Lines over time ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """A line over time, in a picture of `width` by `height`."""

    points: str
    first: float
    last: float
    count: int
    low: float
    high: float
    width: int
    height: int

    @property
    def end(self) -> tuple[str, str]:
        """The place of the last point."""
        across, _, down = self.points.rpartition(" ")[2].partition(",")
        return across, down


def line(
    values: Sequence[float],
    *,
    width: int = 120,
    height: int = 24,
    high: float | None = None,
) -> Trace | None:
    """Return the line of *values*, oldest first, from 0 to *high* or their largest; None if there are none."""
    if not values:
        return None
    shown = thinned(values)
    top = high or max(*values, 0) or 1
    step = (width - 4) / max(len(shown) - 1, 1)
    points = " ".join(
        f"{2 + number * step:.1f},{height - 2 - (height - 4) * value / top:.1f}"
        for number, value in enumerate(shown)
    )
    return Trace(
        points,
        values[0],
        values[-1],
        len(values),
        min(values),
        max(values),
        width,
        height,
    )


def thinned(values: Sequence[float]) -> list[float]:
    """Return at most `_POINTS` of *values*, evenly spread, the first and the last among them."""
    if len(values) <= _POINTS:
        return list(values)
    last = len(values) - 1
    return [values[round(number * last / (_POINTS - 1))] for number in range(_POINTS)]
