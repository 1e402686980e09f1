"""`reclaim merge`: records into the database, in one transaction, one file in memory at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path

from reclaim.base.errors import ReclaimError
from reclaim.base.secret import redacted
from reclaim.base.text import printable, size
from reclaim.database import facts, schema, sources, weeks
from reclaim.database.ledger import Ledger, Residence, Stamp
from reclaim.database.numbers import Numbers
from reclaim.database.schema import Say
from reclaim.database.sources import Source
from reclaim.record import record

#: bytes of one record: that of 28,000 guests (the merge of 5,000 on one hypervisor took 205 MB of memory)
_MOST = 128 * 1024 * 1024


@dataclass
class Merged:
    """The result of one merge: runs that came in, runs that were there, and files that were refused."""

    new: int = 0
    known: int = 0
    refused: int = 0
    hypervisors: set[int] = field(default_factory=set)


def merge(places: Sequence[Path], path: Path, now: datetime, say: Say) -> Merged:
    """Merge the records below *places* into the database at *path*. *say* gets a line for each file that is refused.

    Either all that can be read is merged, or nothing is. Raises ReclaimError if one of *places* holds no record, or the
    database cannot be written.
    """
    below = sources.below(places)
    for note in below.notes:
        say(note)
    with schema.merging(path, say) as connection:
        return _Merge(connection, now, say).every(below.every)


class _Merge:
    def __init__(self, connection: sqlite3.Connection, now: datetime, say: Say) -> None:
        self._base = connection
        self._now = now
        self._say = say
        self._numbers = Numbers(connection)
        self._weeks: set[str] = set()
        self._expected: dict[str, str] = {}
        self._merged = Merged()

    def every(self, every: Sequence[Source]) -> Merged:
        """Merge hypervisor by hypervisor: the rows of one are in memory, and are written once for all its runs."""
        for _, group in groupby(every, key=lambda source: source.folder):
            ledgers: dict[Residence, Ledger] = {}
            for source in group:
                self._one(source, ledgers)
            for ledger in ledgers.values():
                if ledger.weeks:
                    ledger.write()
                    self._weeks |= ledger.weeks
                    self._merged.hypervisors.add(ledger.number)
        weeks.renew(self._base, self._weeks)
        self._write_expected()
        return self._merged

    def _write_expected(self) -> None:
        self._base.executemany(
            "INSERT INTO expected VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET seen = max(seen, excluded.seen)",
            self._expected.items(),
        )

    def _one(self, source: Source, ledgers: dict[Residence, Ledger]) -> None:
        try:
            notes = self._add(source, ledgers)
        except ReclaimError as exc:
            self._merged.refused += 1
            why = str(exc).removeprefix(f"{source.path}: ")
            self._say(f"not merged: {printable(source.path)}: {printable(why)}")
            return
        if notes is None:
            self._merged.known += 1
            return
        self._merged.new += 1
        for note in notes:
            self._say(f"{printable(source.path)}: {note}")

    def _add(
        self, source: Source, ledgers: dict[Residence, Ledger]
    ) -> list[str] | None:
        """Add the run of *source*. Return None if it was there. Raises ReclaimError if it is no record."""
        stamp = _stamp(source.path)
        if self._is_known(stamp):
            return None
        if stamp.size > _MOST:
            raise ReclaimError(f"it has more than {size(_MOST)}")
        read = record.read(Path(source.path))
        values = facts.of_run(read, source.name_of(read.run.id), self._now)
        identity = Residence(
            source.folder or read.hypervisor.name, facts.place_of(read)
        )
        ledger = ledgers.get(identity)
        if ledger is None:
            uri = redacted(read.hypervisor.uri)
            ledger = ledgers[identity] = Ledger(
                self._base, self._numbers, identity, uri
            )
        notes = ledger.add(read, values, stamp)
        for name in values.expected if notes is not None else ():
            self._expected[name] = max(values.started, self._expected.get(name, ""))
        return notes

    def _is_known(self, stamp: Stamp) -> bool:
        found = self._base.execute(
            "SELECT 1 FROM run WHERE path = ? AND mtime = ? AND size = ?", stamp
        )
        return found.fetchone() is not None


def _stamp(path: str) -> Stamp:
    """Return the time and size of the file at *path*. Raises ReclaimError if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of many
    except OSError as exc:
        raise ReclaimError(f"{exc.strerror}") from exc
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise ReclaimError("its path is not UTF-8") from exc
    return Stamp(path, status.st_mtime_ns, status.st_size)
