"""The numbers of new rows of the tables."""

from __future__ import annotations

import sqlite3


class Numbers:
    """Counts on from the last number of each table: one transaction writes at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._last: dict[str, int] = {}
        for table in ("hypervisor", "run", "judged"):
            (last,) = connection.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608 - ours
            self._last[table] = last or 0

    def next(self, table: str) -> int:
        self._last[table] += 1
        return self._last[table]
