"""The page of a fleet: one file without a script, of sums and of links to each hypervisor's own report."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from reclaim.base.text import counted, size
from reclaim.database import questions
from reclaim.database.questions import Given, PassRate, Row
from reclaim.files import whole
from reclaim.report import page, pictures
from reclaim.report.pictures import Trace

#: hypervisors, newly broken rows, waivers and silent hypervisors that the page has: `reclaim ask` has them all
MOST_HOSTS, MOST_BROKEN, MOST_WAIVERS, MOST_SILENT = 1500, 100, 50, 300
#: silent hypervisors that are not folded
_SHOWN = 10
#: rows of one table that a browser lays out at a time
_CHUNK = 100
#: width and height of a line in a card, and of one in a table
_CARD, _CELL = (360, 48), (120, 24)


class HostRow(NamedTuple):
    """One hypervisor. `link` leads to the report of its newest run; empty if that is not there."""

    name: str
    started: str
    mode: str
    bad: int
    good: int
    others: int
    failing: int
    errors: int
    reclaimable: int | None
    reclaimed: int
    link: str


class WeekRow(NamedTuple):
    """The sums of the runs that count in one week."""

    week: str
    hypervisors: int
    guests: int
    good: int
    bad: int
    reclaimable: int | None
    allocated: int | None
    reclaimed: int


@dataclass(frozen=True)
class RateRow:
    """The pass rate of one requirement in the newest week, and in all weeks as a line."""

    now: PassRate
    before: float | None
    line: Trace | None


@dataclass(frozen=True)
class FleetView:
    """The values that the template reads."""

    now: datetime
    weeks: Sequence[WeekRow]
    rates: Sequence[PassRate]
    hosts: Sequence[HostRow]
    silent: Sequence[Row]
    broken: Sequence[Row]
    waivers: Sequence[Row]
    wrong: Sequence[Row]
    #: True if it is known which hypervisors there should be
    is_expected: bool
    #: hypervisors that are libvirt's test driver
    samples: int

    @property
    def never(self) -> int:
        return sum(row[1] == "never" for row in self.silent)

    @cached_property
    def sums(self) -> Counter[str]:
        sums: Counter[str] = Counter()
        for host in self.hosts:
            for name in ("bad", "good", "others", "errors", "reclaimed"):
                sums[name] += getattr(host, name)
        return sums

    @property
    def guests(self) -> int:
        return self.sums["bad"] + self.sums["good"] + self.sums["others"]

    @cached_property
    def reclaimable(self) -> int | None:
        known = [
            host.reclaimable for host in self.hosts if host.reclaimable is not None
        ]
        return sum(known) if known else None

    @property
    def state(self) -> str:
        """The colour of the sentence, as on the page of a run."""
        if self.sums["bad"]:
            return "bad"
        return (
            "good"
            if self.guests and not (self.sums["others"] or self.silent)
            else "unknown"
        )

    @property
    def sentence(self) -> str:
        """The result in one sentence, by the newest runs of each hypervisor."""
        bad, good, others = (self.sums[name] for name in ("bad", "good", "others"))
        of = f"of {counted(self.guests, 'guest')} on {counted(len(self.hosts), 'hypervisor')}"
        parts = [f"{bad} {of} {'does' if bad == 1 else 'do'} not return freed space"]
        parts.append(f"{good} {'does' if good == 1 else 'do'}")
        if others:
            parts.append(
                f"{others} {'was' if others == 1 else 'were'} only partly checked, or waived in part"
            )
        if self.reclaimable:
            parts.append(f"{size(self.reclaimable)} can be freed now")
        return "; ".join(parts) + "."

    @cached_property
    def by_requirement(self) -> list[RateRow]:
        """The requirements of the newest week, the lowest pass rate first."""
        lives: dict[str, list[PassRate]] = {}
        for rate in self.rates:
            lives.setdefault(rate.requirement, []).append(rate)
        newest = self.weeks[0].week if self.weeks else ""
        rows = [_rate_row(life) for life in lives.values() if life[0].week == newest]
        return sorted(rows, key=lambda row: (row.now.rate is None, row.now.rate or 0.0))

    @cached_property
    def rate_of_weeks(self) -> list[float]:
        """The pass rate of all requirements together, the oldest week first."""
        holds: Counter[str] = Counter()
        judged: Counter[str] = Counter()
        for rate in self.rates:
            holds[rate.week] += rate.holds
            judged[rate.week] += rate.holds + rate.fails
        weeks = sorted(week for week, rows in judged.items() if rows)
        return [100 * holds[week] / judged[week] for week in weeks]

    @cached_property
    def lines(self) -> dict[str, Trace]:
        """Guests, bytes and the pass rate, week by week."""
        old_first = self.weeks[::-1]
        values: dict[str, Sequence[float]] = {
            "bad": [week.bad for week in old_first],
            "spare": [
                week.reclaimable for week in old_first if week.reclaimable is not None
            ],
            "rate": self.rate_of_weeks,
            "heard": [week.hypervisors for week in old_first],
        }
        drawn = {}
        for name, points in values.items():
            width, height = _CARD
            high = 100 if name == "rate" else None
            line = pictures.line(points, width=width, height=height, high=high)
            if line is not None:
                drawn[name] = line
        return drawn

    @cached_property
    def broken_by_requirement(self) -> list[tuple[str, int]]:
        """The requirements of the newly broken rows, the most first."""
        return Counter(row[5] for row in self.broken).most_common()


def _rate_row(life: Sequence[PassRate]) -> RateRow:
    """Return the row of one requirement, whose weeks come with the newest first."""
    known = [rate.rate for rate in reversed(life) if rate.rate is not None]
    width, height = _CELL
    before = life[1].rate if len(life) > 1 else None
    return RateRow(
        life[0], before, pictures.line(known, width=width, height=height, high=100)
    )


_HOSTS = """
SELECT hypervisor.name, run.started, run.mode, hypervisor.open + hypervisor.pending, hypervisor.returns,
       hypervisor.unknown + hypervisor.waived, failing, hypervisor.errors, hypervisor.reclaimable, hypervisor.reclaimed,
       run.path
FROM hypervisor JOIN run ON run.id = newest
ORDER BY 4 DESC, failing DESC, coalesce(hypervisor.reclaimable, 0) DESC, hypervisor.name
"""
_WEEKS = """
SELECT week, hypervisors, guests, returns, open + pending, reclaimable, allocated, reclaimed FROM week
WHERE hypervisors ORDER BY week DESC
"""


def _hosts(connection: sqlite3.Connection, folder: Path) -> Iterator[HostRow]:
    """Yield the hypervisors, the worst first, with links from a page in *folder*."""
    for number, (*values, path) in enumerate(connection.execute(_HOSTS)):
        link = _link(path, folder) if number < MOST_HOSTS else ""
        yield HostRow._make([*values, link])


def _link(path: str, folder: Path) -> str:
    """Return the way from *folder* to the report beside the record at *path*, or "" if there is none."""
    report = os.path.join(os.path.dirname(path), page.NAME)  # noqa: PTH118, PTH120 - of many
    if not os.path.isfile(report):  # noqa: PTH113
        return ""
    return quote(os.path.relpath(report, folder))


def _view(connection: sqlite3.Connection, folder: Path, given: Given) -> FleetView:
    def rows(name: str) -> list[Row]:
        return [*questions.BY_NAME[name].answer(connection, given)]

    (named,) = connection.execute("SELECT count(*) FROM expected").fetchone()
    (samples,) = connection.execute(
        "SELECT count(*) FROM hypervisor WHERE uri LIKE 'test:%'"
    ).fetchone()
    return FleetView(
        now=given.now,
        weeks=[WeekRow(*row) for row in connection.execute(_WEEKS)],
        rates=[*questions.pass_rates(connection)],
        hosts=[*_hosts(connection, folder)],
        silent=rows("silent"),
        broken=rows("newly-broken"),
        waivers=rows("waivers"),
        wrong=rows("went-wrong"),
        is_expected=given.expected is not None or bool(named),
        samples=samples,
    )


def write(connection: sqlite3.Connection, path: Path, given: Given) -> None:
    """Write the page to *path*, whole or not at all, for whom the umask lets read it. Raises OSError."""
    style = page.asset("style.css")
    view = _view(connection, path.absolute().parent, given)
    pieces = (
        page.environment()
        .get_template("fleet.html.jinja")
        .generate(
            view=view,
            style=style,
            policy=page.content_security_policy([style], []),
            hosts=_chunked(islice(view.hosts, MOST_HOSTS)),
            most=(MOST_HOSTS, MOST_BROKEN, MOST_WAIVERS, MOST_SILENT),
            shown=_SHOWN,
            silent_days=questions.SILENT_DAYS,
            waiver_days=questions.WAIVER_DAYS,
        )
    )
    whole.write(path, pieces, mode=whole.BY_UMASK)


def _chunked(hosts: Iterable[HostRow]) -> list[Sequence[HostRow]]:
    return [*page.chunks([*hosts], _CHUNK)]
