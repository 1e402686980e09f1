"""Figures of a fleet for Prometheus' textfile collector, from the database. No label names a guest.

Those of a single hypervisor are in the file of its runs (`reclaim.report.metrics`). These take the database: who is
silent, rows by requirement and verdict, newly broken rows, waivers.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from reclaim.base.text import printable
from reclaim.base.verdict import Verdict
from reclaim.database import questions
from reclaim.database.history import REACH
from reclaim.database.questions import Given
from reclaim.files import whole
from reclaim.report.metrics import Family, Values
from reclaim.requirement import catalogue

SILENT = Family(
    "fleet_silent",
    "1 for a hypervisor that was never heard from, could not be reached, or sends no runs any more",
    ("hypervisor", "state"),
)
HYPERVISORS = Family("fleet_hypervisors", "Hypervisors of which runs were merged")
GUESTS = Family(
    "fleet_guests", "Guests by their standing in the newest runs", ("standing",)
)
ROWS = Family(
    "fleet_rows",
    "Rows of the newest runs by requirement and verdict",
    ("requirement", "verdict"),
)
BROKEN = Family(
    "fleet_newly_broken",
    "Rows that held in the run before and no longer do, by requirement",
    ("requirement",),
)
WRONG = Family(
    "fleet_went_wrong", "Hypervisors in whose newest run something went wrong"
)
RECLAIMABLE = Family(
    "fleet_reclaimable_bytes", "Bytes that can be freed, as far as they are known"
)
ALLOCATED = Family(
    "fleet_allocated_bytes", "Bytes that the images hold, as far as they are known"
)
WAIVERS = Family(
    "fleet_waivers",
    f"Rows whose waiver has ended, or ends within {questions.WAIVER_DAYS} days",
    ("state",),
)
MERGED = Family(
    "fleet_last_merge_timestamp_seconds",
    "When `reclaim merge` last wrote these figures",
)
#: the label of requirements that this reclaim does not have, such as those of a newer one
OTHER = "other"
_EVERY = (
    SILENT,
    HYPERVISORS,
    GUESTS,
    ROWS,
    BROKEN,
    WRONG,
    RECLAIMABLE,
    ALLOCATED,
    WAIVERS,
    MERGED,
)
FAMILIES = {family.name: family for family in _EVERY}
Sample = tuple[Family, Values, float]


def write(connection: sqlite3.Connection, path: Path, given: Given) -> None:
    """Write the figures to *path*, whole or not at all, with mode 0644 as node_exporter needs it. Raises OSError."""
    from prometheus_client import (  # noqa: PLC0415 (start-up)
        CollectorRegistry,
        Gauge,
        generate_latest,
    )

    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for family, values, value in _samples(connection, given):
        gauge = gauges.get(family.name)
        if gauge is None:
            gauge = gauges[family.name] = Gauge(
                f"reclaim_{family.name}", family.help, family.labels, registry=registry
            )
        (gauge.labels(*values) if values else gauge).set(value)
    whole.write(path, [generate_latest(registry).decode()], mode=0o644)


_SUMS = """
SELECT count(*), sum(returns), sum(open), sum(pending), sum(unknown), sum(waived),
       iif(count(reclaimable), total(reclaimable), NULL), iif(count(allocated), total(allocated), NULL)
FROM hypervisor
"""
_TALLY = "SELECT requirement, verdict, count(*) FROM judged WHERE gone IS NULL GROUP BY requirement, verdict"
_STANDINGS = ("returns", "open", "pending", "unknown", "waived")


def _samples(connection: sqlite3.Connection, given: Given) -> Iterator[Sample]:
    hosts, *standings, spare, held = connection.execute(_SUMS).fetchone()
    yield MERGED, (), given.now.timestamp()
    yield HYPERVISORS, (), hosts
    for standing, guests in zip(_STANDINGS, standings, strict=True):
        yield GUESTS, (standing,), guests or 0
    if spare is not None:
        yield RECLAIMABLE, (), spare
    if held is not None:
        yield ALLOCATED, (), held
    yield from _of_rows(connection)
    yield from _of_questions(connection, given)


def _of_rows(connection: sqlite3.Connection) -> Iterator[Sample]:
    """Yield the rows of each requirement by verdict, also those that there are none of: they are parts of a whole."""
    counts: dict[str, Counter[str]] = {}
    for requirement, verdict, rows in connection.execute(_TALLY):
        counts.setdefault(_known(requirement), Counter())[verdict] += rows
    for requirement, rows_of in counts.items():
        for verdict in Verdict:
            yield ROWS, (requirement, str(verdict)), rows_of[str(verdict)]


def _known(requirement: str) -> str:
    """Return the label of *requirement*: those of records are any words, and each would be a series for ever."""
    return requirement if requirement in _labels() else OTHER


@cache
def _labels() -> frozenset[str]:
    return frozenset({*catalogue(), REACH})


def _of_questions(connection: sqlite3.Connection, given: Given) -> Iterator[Sample]:
    for name, state, *_ in questions.BY_NAME["silent"].answer(connection, given):
        yield SILENT, (printable(name), state), 1
    broken = Counter(
        {
            _known(slug): 0
            for (slug,) in connection.execute(
                "SELECT DISTINCT requirement FROM week_tally"
            )
        }
    )
    broken.update(
        _known(row[5])
        for row in questions.BY_NAME["newly-broken"].answer(connection, given)
    )
    for requirement, rows in broken.items():
        yield BROKEN, (requirement,), rows
    yield (
        WRONG,
        (),
        sum(1 for _ in questions.BY_NAME["went-wrong"].answer(connection, given)),
    )
    waivers = Counter(
        "ended" if row[1] < 0 else "ends"
        for row in questions.BY_NAME["waivers"].answer(connection, given)
    )
    for state in ("ends", "ended"):
        yield WAIVERS, (state,), waivers[state]
