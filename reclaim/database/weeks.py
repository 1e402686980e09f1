"""The roll-up of a week: rows by requirement and verdict, and the sums of the runs that count in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_TALLY = """
INSERT INTO week_tally
    SELECT run.week, requirement, verdict, sum(rows) FROM run JOIN tally ON tally.run = run.id
    WHERE run.week = ? AND counts GROUP BY requirement, verdict
"""
# the bytes that runs freed are those of all runs, for each freed its own. sum() raises at an overflow, which many runs
# with wrong sizes would come to; total() is exact up to 2**53
_SUMS = """
INSERT INTO week
    SELECT week, sum(counts), sum(guests * counts), sum(returns * counts), sum(open * counts),
           sum(pending * counts), sum(unknown * counts), sum(waived * counts),
           iif(count(spare), CAST(total(spare) AS INTEGER), NULL), iif(count(held), CAST(total(held) AS INTEGER), NULL),
           CAST(total(reclaimed) AS INTEGER)
    FROM (SELECT *, iif(counts, reclaimable, NULL) AS spare, iif(counts, allocated, NULL) AS held FROM run)
    WHERE week = ? GROUP BY week
"""


def renew(connection: sqlite3.Connection, weeks: Iterable[str]) -> None:
    """Make the roll-up of *weeks* anew from the tallies of their runs."""
    for week in sorted(weeks):
        for table in ("week", "week_tally"):
            connection.execute(f"DELETE FROM {table} WHERE week = ?", (week,))  # noqa: S608 - ours
        connection.execute(_TALLY, (week,))
        connection.execute(_SUMS, (week,))
