"""The fleet as the archive knows it: each hypervisor by its newest runs, all of them together, and both over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from reclaim.base.text import counted, size
from reclaim.report import pictures
from reclaim.report.archived import ArchivedRun
from reclaim.report.pictures import Trace
from reclaim.report.summary import Standing, is_sample

#: guests whose lines the index has; their number is limited, and the page names it
MOST_GUESTS = 2000
#: width and height of a picture of the whole fleet
_WIDE, _HIGH = 360, 48


@dataclass(frozen=True)
class Trend:
    """The allocated bytes of a guest over time; `key` is the newest run that counted them."""

    guest: str
    line: Trace
    key: str


@dataclass(frozen=True)
class MountTrend:
    """The fullness of one filesystem of a hypervisor over time, in percent."""

    mount: str
    line: Trace


@dataclass
class Site:
    """One hypervisor in the archive, by its runs, the newest first."""

    runs: Sequence[tuple[str, ArchivedRun]]
    #: the standing of each guest by the newest run that knows it
    standings: dict[str, Standing] = field(default_factory=dict)
    #: bytes that can be freed of each guest, if they are known
    spare: dict[str, int] = field(default_factory=dict)
    #: False if no run judged enough to know whether a guest returns freed space
    is_whole: bool = True

    @property
    def key(self) -> str:
        return self.runs[0][0]

    @property
    def newest(self) -> ArchivedRun:
        return self.runs[0][1]

    @property
    def name(self) -> str:
        return self.newest.hypervisor

    @property
    def is_sample(self) -> bool:
        """True if its guests are definitions of libvirt's test driver."""
        return is_sample(self.newest.uri)

    @cached_property
    def counts(self) -> Counter[Standing]:
        return Counter(self.standings.values())

    @property
    def bad(self) -> int:
        return self.counts[Standing.OPEN] + self.counts[Standing.PENDING]

    @property
    def good(self) -> int:
        return self.counts[Standing.RETURNS]

    @property
    def others(self) -> int:
        return len(self.standings) - self.bad - self.good

    @cached_property
    def freed(self) -> int:
        return sum(entry.reclaimed for _, entry in self.runs)

    @cached_property
    def can_be_freed(self) -> int | None:
        return sum(self.spare.values()) if self.spare else None

    @cached_property
    def mounts(self) -> list[MountTrend]:
        """The filesystems that hold its images, the fullest first."""
        levels: dict[str, list[float]] = {}
        for _, entry in reversed(self.runs):
            for mount, (used, free) in entry.filesystems.items():
                level = pictures.percent(used, free)
                if level is not None:
                    levels.setdefault(mount, []).append(level)
        drawn = []
        for mount, values in levels.items():
            line = pictures.line(values, high=100)
            if line is not None:
                drawn.append(MountTrend(mount, line))
        return sorted(drawn, key=lambda mount: -mount.line.last)

    @cached_property
    def trends(self) -> list[Trend]:
        """The guests with their allocated bytes over time, by name."""
        points: dict[str, list[int]] = {}
        newest: dict[str, str] = {}
        for key, entry in reversed(self.runs):
            for guest, count in (entry.allocated or {}).items():
                points.setdefault(guest, []).append(count)
                newest[guest] = key
        drawn = []
        for guest, counts in sorted(points.items()):
            line = pictures.line(counts)
            if line is not None:
                drawn.append(Trend(guest, line, newest[guest]))
        return drawn


def sites(runs: Iterable[tuple[str, ArchivedRun]]) -> list[Site]:
    """Return the hypervisors of *runs*, which come with the newest first. The worst hypervisor is the first."""
    lives: dict[tuple[str, str], list[tuple[str, ArchivedRun]]] = {}
    for key, entry in runs:
        if entry.trouble is None:
            home = key.partition("/")[0]
            lives.setdefault((home, entry.uri), []).append((key, entry))
    every = [_site(life) for life in lives.values()]
    return sorted(every, key=lambda site: (-site.bad, -(site.can_be_freed or 0)))


def _site(life: Sequence[tuple[str, ArchivedRun]]) -> Site:
    """Return the hypervisor of *life*: each guest by the newest run that judged all that decides about it."""
    site = Site(life)
    for _, entry in life:
        if entry.whole_road:
            _add(site, entry)
            if not entry.narrow:
                break
    if not site.standings:
        site.is_whole = False
        _add(site, site.newest)
    return site


def _add(site: Site, entry: ArchivedRun) -> None:
    """Add the guests of *entry* that no newer run knows."""
    new = []
    for name, guests in (entry.standings or {}).items():
        for guest in guests:
            if guest not in site.standings:
                new.append((guest, Standing[name]))
    site.standings.update(new)
    spare = entry.spare or {}
    site.spare.update({guest: spare[guest] for guest, _ in new if guest in spare})


@dataclass(frozen=True)
class Fleet:
    """All hypervisors together. Samples are left out if there are others."""

    sites: Sequence[Site]

    @cached_property
    def counted(self) -> list[Site]:
        real = [site for site in self.sites if not site.is_sample]
        return real or list(self.sites)

    @property
    def guests(self) -> int:
        return sum(len(site.standings) for site in self.counted)

    @property
    def bad(self) -> int:
        return sum(site.bad for site in self.counted)

    @property
    def good(self) -> int:
        return sum(site.good for site in self.counted)

    @property
    def others(self) -> int:
        return self.guests - self.bad - self.good

    @cached_property
    def freed(self) -> int:
        return sum(site.freed for site in self.counted)

    @cached_property
    def can_be_freed(self) -> int | None:
        known = [site.can_be_freed for site in self.counted]
        sums = [count for count in known if count is not None]
        return sum(sums) if sums else None

    @property
    def is_whole(self) -> bool:
        return all(site.is_whole for site in self.counted)

    @property
    def state(self) -> str:
        """The colour of the sentence, as on the page of a run."""
        if self.bad:
            return "bad"
        return "good" if self.guests and not self.others else "unknown"

    @property
    def sentence(self) -> str:
        """The result of the newest runs in one sentence. Good, bad and unknown guests are counted apart."""
        if not self.guests:
            return "No guest was judged."
        place = counted(len(self.counted), "hypervisor")
        guests = f"of {counted(self.guests, 'guest')} on {place}"
        thing = "freed space" if self.is_whole else "the checks that ran"
        verbs = ("returns", "return") if self.is_whole else ("passes", "pass")
        if self.bad:
            does = "does" if self.bad == 1 else "do"
            parts = [f"{self.bad} {guests} {does} not {verbs[1]} {thing}"]
            parts.append(f"{self.good} {'does' if self.good == 1 else 'do'}")
        else:
            parts = [f"{self.good} {guests} {verbs[self.good != 1]} {thing}"]
        if self.others:
            was = "was" if self.others == 1 else "were"
            parts.append(f"{self.others} {was} only partly checked, or waived in part")
        if self.can_be_freed:
            parts.append(f"{size(self.can_be_freed)} can be freed now")
        return "; ".join(parts) + "."

    @property
    def lines(self) -> Mapping[str, Trace]:
        """The fleet over time: guests that do not return space, and bytes that can be freed."""
        bad, spare = _history(self.counted)
        drawn = {}
        for name, values in (("bad", bad), ("spare", spare)):
            line = pictures.line(values, width=_WIDE, height=_HIGH)
            if line is not None:
                drawn[name] = line
        return drawn


def _history(every: Iterable[Site]) -> tuple[list[int], list[int]]:
    """Return the sums over all hypervisors after each whole run: bad guests, and bytes that can be freed."""
    runs = []
    for number, site in enumerate(every):
        for _, entry in site.runs:
            if entry.whole_road and not entry.narrow:
                runs.append((entry.started, number, entry))
    bad: list[int] = []
    spare: list[int] = []
    last: dict[int, tuple[int, int]] = {}
    sums = [0, 0]
    for _, number, entry in sorted(runs, key=lambda run: run[:2]):
        now = entry.bad, entry.reclaimable or 0
        before = last.get(number, (0, 0))
        sums = [sums[0] + now[0] - before[0], sums[1] + now[1] - before[1]]
        last[number] = now
        bad.append(sums[0])
        spare.append(sums[1])
    return bad, spare
