"""Databases of fleets, and their content in a form that two of them can be compared by."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from reclaim.database.merge import Merged, merge
from tests import records
from tests.records import EPOCH, document, row

NOW = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
WEEK = timedelta(weeks=1)
#: tables without the numbers of rows, the names in their place
VIEWS = {
    "latest": "SELECT * FROM latest",
    "gone": "SELECT requirement, guest, disk, backup, verdict, broke FROM judged WHERE gone IS NOT NULL",
    "turns": "SELECT * FROM turns",
    "changes": "SELECT * FROM changes",
    "disks": "SELECT * FROM disks",
    "guests": "SELECT hypervisor.name, guest.name, standing, run.name, road FROM guest "
    "JOIN hypervisor ON hypervisor.id = guest.hypervisor JOIN run ON run.id = stood",
    "hypervisors": "SELECT hypervisor.name, place, run.name, heard, hypervisor.guests, hypervisor.open, failing, "
    "hypervisor.errors, hypervisor.reclaimable FROM hypervisor JOIN run ON run.id = newest",
    "tallies": "SELECT run.name, requirement, verdict, rows FROM tally JOIN run ON run.id = run",
    "weeks": "SELECT * FROM week",
    "week tallies": "SELECT * FROM week_tally",
}


def bus(verdict: str, guest: str = "web", disk: str = "sda", **more: Any) -> dict[str, Any]:
    return row("disk-bus", verdict, guest, disk, **more)


def run(week: int, *rows: dict[str, Any], hypervisor: str = "kvm1", **more: Any) -> dict[str, Any]:
    """A run that began in *week*."""
    return document(rows or [bus("compliant")], hypervisor=hypervisor, started=EPOCH + week * WEEK, **more)


def put(reports: Path, *every: dict[str, Any]) -> Path:
    """Put documents where runs would have left them."""
    for each in every:
        records.archive(reports, each)
    return reports


def into(database: Path, *places: Path, said: list[str] | None = None) -> Merged:
    lines: list[str] = []
    merged = merge(places, database, NOW, lines.append)
    if said is None:
        assert lines == []
    else:
        said += lines
    return merged


def rows(database: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database)
    try:
        return [tuple(each) for each in connection.execute(sql, values)]
    finally:
        connection.close()


def content(database: Path) -> dict[str, list[str]]:
    return {name: sorted(json.dumps(each) for each in rows(database, sql)) for name, sql in VIEWS.items()}
