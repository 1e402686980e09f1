"""Walks the points of a run: at each of them it dies, and what comes after is judged."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.home import Home
from tests.faults.nursery import Done, Nursery
from tests.faults.points import Cut

#: as many as this walk at a time, each in a folder of its own
_WALKERS = 2
#: where time is short every so many-th cut is walked
_STEP = 8


@dataclass(frozen=True)
class Scenario:
    """What was done before, and the run that is walked."""

    name: str
    before: Callable[[Home], None]
    run: Callable[[Home, Cut | None], Done]
    #: a pattern of the points that are walked where time is short; the others are those of another scenario
    own: str = ""

    def chosen(self, points: list[tuple[str, int]], *, thorough: bool) -> list[Cut]:
        """The cuts at *points*; where time is short some of them, the same each time."""
        if thorough:
            return cuts_of(points, thorough=True)
        return sampled(cuts_of([one for one in points if re.search(self.own, one[0])], thorough=False))


@dataclass
class Tally:
    """What a walk has counted, and what was not as it must be."""

    points: int = 0
    cuts: int = 0
    runs: int = 0
    states: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def counts(self) -> dict[str, int]:
        found = {"points": self.points, "cuts": self.cuts, "states": len(self.states), "runs": self.runs}
        return {**found, **dict(sorted(self.seen.items()))}


def cuts_of(points: list[tuple[str, int]], *, thorough: bool, act: str = "kill") -> list[Cut]:
    """The cuts at *points*: before each, in the half of a write, after it where that is not before the next.

    A state after one point is that before the next, unless a program runs beside; thorough walks go to both.
    """
    found = []
    for label, number in points:
        found.append(Cut(label, number, "before", act))
        if label.startswith(("write", "pwrite")):
            found.append(Cut(label, number, "half", act))
        if thorough or label.startswith(("libvirt", "run", "rename", "replace", "fallocate")):
            found.append(Cut(label, number, "after", act))
    return found


def sampled(cuts: list[Cut]) -> list[Cut]:
    """One at least of each label, and every so many-th of the others."""
    known: set[str] = set()
    found = []
    for number, cut in enumerate(cuts):
        if cut.label not in known or number % _STEP == 0:
            found.append(cut)
        known.add(cut.label)
    return found


def walk(
    folder: Path,
    scenario: Scenario,
    choose: Callable[[list[tuple[str, int]]], list[Cut]],
    make: Callable[[Home], None],
    judge: Callable[[Home, Tally, Cut, Done], None],
) -> Tally:
    """Walk *scenario*; *judge* is called after each cut, once for each state that a cut left."""
    tally = Tally()
    with ExitStack() as stack:
        homes = []
        for number in range(_WALKERS):
            nursery = stack.enter_context(Nursery(folder / f"nursery-{number}"))
            home = Home(folder / f"home-{number}", nursery)
            make(home)
            scenario.before(home)
            home.keep()
            homes.append(home)
        counted = scenario.run(homes[0], None)
        assert counted.points, counted.said
        tally.points = len(counted.points)
        waiting = iter(choose(counted.points))
        with ThreadPoolExecutor(_WALKERS) as pool:
            for future in [pool.submit(_walk, home, scenario, waiting, tally, judge) for home in homes]:
                future.result()
    return tally


def _walk(
    home: Home,
    scenario: Scenario,
    waiting: Iterator[Cut],
    tally: Tally,
    judge: Callable[[Home, Tally, Cut, Done], None],
) -> None:
    while (cut := _next(waiting, tally)) is not None:
        home.put_back()
        done = scenario.run(home, cut)
        judge(home, tally, cut, done)


def _next(waiting: Iterator[Cut], tally: Tally) -> Cut | None:
    with tally.lock:
        cut = next(waiting, None)
        tally.cuts += cut is not None
        return cut


def is_new(home: Home, tally: Tally, *, pages: bool) -> bool:
    """Has no cut left this state before? What comes after it is known otherwise."""
    mark = home.mark(pages=pages)
    with tally.lock:
        if mark in tally.states:
            return False
        tally.states.add(mark)
        return True
