"""The bytes that the host holds for a disk, weighed against those that its guest uses."""

from __future__ import annotations

import pytest

from reclaim.inside.disk_layout import Area
from reclaim.space.backlog import HeldBytes, weighed
from reclaim.storage.allocation_map import HostMap

MIB = 1024**2


def test_shared_extents_are_not_promised() -> None:
    area = Area("filesystem", "/", 100 * MIB, ((0, 100 * MIB),), 10 * MIB, trims=True)
    whole = HostMap(((0, 100 * MIB),), 0)
    assert weighed(100 * MIB, [area], whole).reclaimable == 90 * MIB
    found = weighed(100 * MIB, [area], HostMap(whole.spans, 70 * MIB))
    assert (found.reclaimable, found.perhaps, found.most) == (20 * MIB, 70 * MIB, 90 * MIB)
    assert "70.0 MiB of the file come back with the last snapshot or reflink" in found.words
    found = weighed(100 * MIB, [area], HostMap(whole.spans, 95 * MIB))
    assert (found.reclaimable, found.perhaps) == (0, 90 * MIB)


def test_a_filesystem_that_cannot_be_trimmed_promises_nothing() -> None:
    area = Area("filesystem", "/old (reiserfs)", 100 * MIB, ((0, 100 * MIB),), 10 * MIB, trims=False)
    found = weighed(100 * MIB, [area], HostMap(((0, 100 * MIB),), 0))
    assert (found.reclaimable, found.perhaps) == (0, 0)
    assert "90.0 MiB free in /old (reiserfs), which cannot be trimmed" in found.words
    assert weighed(100 * MIB, [area], None).reclaimable == 0


@pytest.mark.parametrize("spans", [pytest.param(((0, 100 * MIB),), id="placed"), pytest.param(None, id="nowhere")])
def test_what_is_used_may_lie_below_an_overlay(spans: tuple[tuple[int, int], ...] | None) -> None:
    """An overlay that holds less than is used may hold nothing of that; one that holds more surely has more."""
    area = Area("filesystem", "/", 100 * MIB, spans, 60 * MIB, trims=True, tables=2 * MIB)
    for held, sure, most in ((20, 0, 20), (50, 0, 42), (90, 30, 42)):
        for known in (None, HostMap(((0, held * MIB),), 0)):
            found = weighed(held * MIB, [area], known, based=True)
            assert (found.reclaimable, found.perhaps, found.most) == (sure * MIB, (most - sure) * MIB, most * MIB)
    # without a base below, what is used is in what is held
    assert weighed(50 * MIB, [area], None).perhaps == 0
    read_only = Area("filesystem", "/old (reiserfs)", 100 * MIB, spans, 10 * MIB, trims=False)
    assert weighed(50 * MIB, [read_only], HostMap(((0, 50 * MIB),), 0), based=True).most == 0


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        pytest.param([(0, 10)], [(5, 15)], 5, id="partly"),
        pytest.param([(0, 10), (20, 30)], [(5, 25)], 10, id="across-a-gap"),
        pytest.param([(20, 30), (0, 10)], [(25, 40), (2, 4)], 7, id="in-any-order"),
        pytest.param([], [(0, 10)], 0, id="nothing"),
        pytest.param([(0, 10)], [(10, 20)], 0, id="side-by-side"),
    ],
)
def test_the_overlap_of_spans(first: list[tuple[int, int]], second: list[tuple[int, int]], both: int) -> None:
    assert HeldBytes.of(first).within(second) == both
    assert HeldBytes.of(second).within(first) == both
