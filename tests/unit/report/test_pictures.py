"""The geometry of the pages' pictures."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.record.record import HostFilesystem, Storage
from reclaim.report import pictures
from reclaim.report.pictures import WIDE, glass, level, line, percent, thinned
from tests import records

NOTHING = dict.fromkeys(("virtual", "allocated_before", "allocated_after", "used"))


def disk(**more: Any) -> Storage:
    return records.record([], [{**records.storage(), **NOTHING, **more}]).storage[0]


def test_a_glass_is_as_wide_as_the_virtual_size() -> None:
    mib = 1 << 20
    picture = glass(
        "a",
        [
            disk(
                virtual=4000 * mib,
                allocated_before=3000 * mib,
                allocated_after=2000 * mib,
                used=1000 * mib,
                reclaimable_after=1000 * mib,
            )
        ],
    )
    assert picture is not None
    assert (picture.held, picture.needed, picture.freed, picture.used) == (WIDE / 2, WIDE / 4, WIDE / 4, WIDE / 4)
    assert (picture.freed_bytes, picture.spare_bytes, picture.weight) == (1000 * mib, 1000 * mib, 2000 * mib)
    assert not picture.is_unwritten


def test_the_disks_of_a_guest_are_one_glass() -> None:
    gib = records.GIB
    one = disk(virtual=gib, allocated_before=gib, allocated_after=0, used=0)
    two = disk(virtual=3 * gib, allocated_before=gib, allocated_after=gib, used=gib)
    picture = glass("a", [one, two])
    assert picture is not None
    assert (picture.virtual, picture.before, picture.after) == (4 * gib, 2 * gib, gib)
    assert (picture.held, picture.freed) == (WIDE / 4, WIDE / 4)


def test_a_guest_that_counts_more_than_the_host_holds_is_drawn_inside_the_picture() -> None:
    picture = glass("a", [disk(virtual=100, allocated_before=50, allocated_after=50, used=200)])
    assert picture is not None
    assert picture.is_unwritten
    assert picture.used == WIDE
    assert picture.held == picture.needed == WIDE / 4


@pytest.mark.parametrize("sizes", [{}, {"used": 0}, {"virtual": 0}])
def test_without_a_size_there_is_no_picture(sizes: dict[str, int]) -> None:
    assert glass("a", [disk(**sizes)]) is None


def test_a_size_that_is_not_known_of_one_disk_is_not_known_of_the_guest() -> None:
    picture = glass("a", [disk(virtual=100, used=10), disk(virtual=100)])
    assert picture is not None
    assert picture.counted is picture.used is picture.freed_bytes is picture.spare_bytes is None
    assert not picture.is_unwritten


def test_a_guest_that_grew_freed_nothing() -> None:
    picture = glass("a", [disk(virtual=100, allocated_before=10, allocated_after=50)])
    assert picture is not None
    assert (picture.freed, picture.freed_bytes) == (0, 0)


def space(**more: Any) -> HostFilesystem:
    return records.record([], filesystems=[records.filesystem(**more)]).filesystems[0]


def test_fullness_is_that_of_df() -> None:
    assert percent(80, 20) == 80
    assert percent(None, 20) is percent(80, None) is percent(0, 0) is None
    full = level(space(size=100, used_before=90, free_before=5, used_after=80, free_after=15))
    assert (round(full.before or 0), round(full.after or 0), full.freed) == (95, 84, 10)
    assert level(space(free_before=None)).freed is None


def test_a_line_goes_from_its_first_to_its_last_value() -> None:
    drawn = line([8, 6, 2])
    assert drawn is not None
    assert drawn.points == "2.0,2.0 60.0,7.0 118.0,17.0"
    assert (drawn.first, drawn.last, drawn.count, drawn.low, drawn.high) == (8, 2, 3, 2, 8)
    assert line([]) is None


@pytest.mark.parametrize("values", [[0], [0, 0], [5], [-1, -2]])
def test_a_line_of_nothing_is_flat(values: list[float]) -> None:
    drawn = line(values)
    assert drawn is not None
    assert "nan" not in drawn.points


@pytest.mark.parametrize("count", [1, 2, 119, 120, 121, 5000])
def test_a_long_line_is_thinned_and_keeps_its_ends(count: int) -> None:
    values = [float(number) for number in range(count)]
    shown = thinned(values)
    assert len(shown) == min(count, pictures._POINTS)
    assert (shown[0], shown[-1]) == (values[0], values[-1])
    assert shown == sorted(shown)
