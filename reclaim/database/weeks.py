"""The roll-up of a week: rows by requirement and verdict, and the sums of the runs that count in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_TALLY = """
INSERT INTO week_tally
    SELECT run.week, requirement, verdict, sum(rows) FROM run JOIN tally ON tally.run = run.id
    WHERE run.week = ? AND counts GROUP BY requirement, verdict
"""
# the bytes that runs freed are those of all runs, for each freed its own
_SUMS = """
INSERT INTO week
    SELECT week, sum(counts), sum(guests * counts), sum(returns * counts), sum(open * counts),
           sum(pending * counts), sum(unknown * counts), sum(waived * counts),
           sum(reclaimable) FILTER (WHERE counts),
           sum(allocated) FILTER (WHERE counts), sum(reclaimed)
    FROM run WHERE week = ? GROUP BY week
"""


def renew(connection: sqlite3.Connection, weeks: Iterable[str]) -> None:
    """Make the roll-up of *weeks* anew from the tallies of their runs."""
    for week in sorted(weeks):
        for table in ("week", "week_tally"):
            connection.execute(f"DELETE FROM {table} WHERE week = ?", (week,))  # noqa: S608 - ours
        connection.execute(_TALLY, (week,))
        connection.execute(_SUMS, (week,))
