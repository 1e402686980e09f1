"""All that the database has of one hypervisor, in memory while its runs are merged."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from reclaim.base.errors import ReclaimError
from reclaim.base.text import LIMIT
from reclaim.base.verdict import Verdict
from reclaim.database import history
from reclaim.database.facts import RunValues
from reclaim.database.guests import Guests
from reclaim.database.history import RunVerdicts, Scope, Turned
from reclaim.database.lines import Lines
from reclaim.database.numbers import Numbers
from reclaim.record import runs as archive_runs
from reclaim.record.record import Record
from reclaim.report import summary
from reclaim.report.summary import Standing


class Residence(NamedTuple):
    """The folder of a hypervisor's runs, and the host of its URI ("" if it was audited on the machine itself)."""

    folder: str
    place: str


class Stamp(NamedTuple):
    """The file that a run was read from: its path, and its time and size then."""

    path: str
    mtime: int
    size: int


@dataclass
class KnownRun:
    """A run that is in the database."""

    number: int
    name: str
    started: str
    week: str
    scope: Scope
    reached: bool
    path: str
    digest: str
    undone: int

    @cached_property
    def order(self) -> tuple[str, int, str]:
        """By the hypervisor's clock. Of two that began in one second the later has a number behind its name."""
        match = archive_runs.NAME.fullmatch(self.name)
        number = match[2] if match else None
        return self.started, int(number or 1), self.name


class Ledger:
    """One hypervisor. `add` takes a run in, and `write` writes the rows, guests and figures that changed."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        numbers: Numbers,
        identity: Residence,
        uri: str,
    ) -> None:
        self._base = connection
        self._numbers = numbers
        self.number = _number(connection, numbers, identity, uri)
        self._runs = {run.name: run for run in self._read_runs()}
        self._by_number = {run.number: run for run in self._runs.values()}
        self._by_digest = {run.digest: run for run in self._runs.values()}
        self._newest = max(self._runs.values(), key=lambda run: run.order, default=None)
        self._lines = Lines(connection, self.number)
        self._guests = Guests(connection, self.number)
        self.weeks: set[str] = set()

    def _read_runs(self) -> Iterator[KnownRun]:
        for number, name, started, week, scope, reached, *rest in self._base.execute(
            "SELECT id, name, started, week, scope, reached, path, digest, undone FROM run WHERE hypervisor = ?",
            (self.number,),
        ):
            yield KnownRun(
                number, name, started, week, Scope(scope), bool(reached), *rest
            )

    def add(self, record: Record, values: RunValues, stamp: Stamp) -> list[str] | None:
        """Take *record* in. Return None if it was there, else notes for the user.

        Raises ReclaimError if another run of this name was merged.
        """
        known = self._known(values)
        if known is not None:
            self._add_again(known, record, values, stamp)
            return None
        notes = [*self._notes(values)]
        run = KnownRun(
            self._numbers.next("run"),
            values.name,
            values.started,
            values.week,
            values.scope,
            values.reached,
            stamp.path,
            values.digest,
            values.undone,
        )
        rows = self._lines.numbered(record, self._numbers)
        verdicts = {number: row.verdict for number, row in rows.items()}
        self._insert(run, values, stamp, verdicts)
        self._turn(run, verdicts)
        self._lines.reword(rows, run.number, record)
        self._insert_changes(run.number, record)
        self._guests.take(run.number, record, values.standings, self._is_newer)
        self.weeks.add(values.week)
        return notes

    def _known(self, values: RunValues) -> KnownRun | None:
        """Return the run if it is in the database. Raises ReclaimError if its name is that of another run."""
        run = self._by_digest.get(values.digest)
        if run is not None:
            return run
        other = self._runs.get(values.name)
        if other is not None:
            raise ReclaimError(
                f"another run of this name was merged from {other.path}: if it is of another hypervisor, rename the "
                "folder of one"
            )
        return None

    def _add_again(
        self, known: KnownRun, record: Record, values: RunValues, stamp: Stamp
    ) -> None:
        """Take in that changes of a known run were taken back since. Of several copies the last in that counts."""
        if known.undone < values.undone:
            self._base.execute("DELETE FROM change WHERE run = ?", (known.number,))
            self._insert_changes(known.number, record)
            known.undone = values.undone
        elif known.path != stamp.path or known.undone > values.undone:
            return
        self._base.execute(
            "UPDATE run SET path = ?, mtime = ?, size = ?, undone = ? WHERE id = ?",
            (*stamp, values.undone, known.number),
        )

    def _notes(self, values: RunValues) -> Iterator[str]:
        newest = self._newest
        if newest is None:
            return
        if values.started < newest.started:
            yield (
                f"it began before {newest.name}, which was merged earlier, by the clock of the hypervisor: "
                "it counts as the older run"
            )
        before = self._guests.every.keys()
        is_narrow = values.scope is Scope.NARROW
        if (
            before
            and values.standings
            and not is_narrow
            and before.isdisjoint(values.standings)
        ):
            yield (
                "it has no guest in common with the runs before: if these are two hypervisors of one name, "
                "rename the folder of one, and merge into a new file"
            )

    def _is_newer(self, number: int, other: int) -> bool:
        return self._by_number[number].order > self._by_number[other].order

    # The tables of a run ----------------------------------------------------------------------

    def _insert(
        self,
        run: KnownRun,
        values: RunValues,
        stamp: Stamp,
        verdicts: dict[int, Verdict],
    ) -> None:
        standings = Counter(values.standings.values())
        columns = {
            "id": run.number,
            "hypervisor": self.number,
            "name": values.name,
            "mode": values.mode,
            "started": values.started,
            "ended": values.ended,
            "week": values.week,
            "version": values.version,
            "scope": int(values.scope),
            "reached": values.reached,
            **_by_standing(standings),
            "reclaimable": values.reclaimable,
            "allocated": values.allocated,
            "reclaimed": values.reclaimed,
            "status": values.outcome.status,
            "went_wrong": values.outcome.went_wrong,
            "rolled_back": values.outcome.rolled_back,
            "left_off": values.outcome.left_off,
            "failed": values.outcome.failed,
            "errors": values.outcome.errors,
            "applied": values.outcome.applied,
            "path": stamp.path,
            "mtime": stamp.mtime,
            "size": stamp.size,
            "digest": values.digest,
            "undone": values.undone,
            "verdicts": history.packed(verdicts),
        }
        marks = ", ".join("?" * len(columns))
        self._base.execute(
            f"INSERT INTO run ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608 - ours
            [*columns.values()],
        )
        self._base.executemany(
            "INSERT INTO tally VALUES (?, ?, ?, ?)",
            [
                (run.number, slug, str(verdict), rows)
                for (slug, verdict), rows in values.tally.items()
            ],
        )

    def _turn(self, run: KnownRun, verdicts: dict[int, Verdict]) -> None:
        """Bring the states of the rows up to date: by one step, or from the first run on if *run* is not the newest."""
        self._runs[run.name] = self._by_number[run.number] = run
        self._by_digest[run.digest] = run
        subjects = self._lines.subjects
        if self._newest is None or run.order > self._newest.order:
            self._newest = run
            judged = RunVerdicts(run.number, run.scope, run.reached, verdicts)
            self._insert_turned(history.step(self._lines.states, judged, subjects))
            return
        self._lines.states, turned = history.fold(self._every_judged(), subjects)
        self._base.execute(
            "DELETE FROM turn WHERE run IN (SELECT id FROM run WHERE hypervisor = ?)",
            (self.number,),
        )
        self._insert_turned(turned)

    def _every_judged(self) -> Iterator[RunVerdicts]:
        """Yield the verdicts of every run, the oldest first."""
        for run in sorted(self._runs.values(), key=lambda run: run.order):
            (data,) = self._base.execute(
                "SELECT verdicts FROM run WHERE id = ?", (run.number,)
            ).fetchone()
            yield RunVerdicts(
                run.number, run.scope, run.reached, history.unpacked(data)
            )

    def _insert_turned(self, turned: list[Turned]) -> None:
        self._base.executemany(
            "INSERT INTO turn VALUES (?, ?, ?, ?)",
            [(row.run, row.row, str(row.before), str(row.verdict)) for row in turned],
        )

    def _insert_changes(self, run: int, record: Record) -> None:
        changes: list[tuple[object, ...]] = []
        for row in record.results:
            for change in row.changes:
                if change.applied:
                    names = row.requirement, row.guest, row.disk, row.backup
                    words = change.kind[:LIMIT], change.target[:LIMIT]
                    changes.append((run, len(changes), *names, *words, change.undone))
        self._base.executemany(
            "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", changes
        )

    # The end ----------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the rows, the guests and the figures of the hypervisor, and choose the run that counts in each week."""
        alive = {
            line.guest for line, _ in self._lines.current() if line.guest is not None
        }
        self._guests.keep(alive)
        self._lines.write()
        self._guests.write()
        for week in self.weeks:
            self._choose(week)
        self._write_figures()

    def _choose(self, week: str) -> None:
        """Let one run count in *week*: the last of those that judged the most."""
        runs = [
            run
            for run in self._runs.values()
            if run.week == week and run.scope is not Scope.NARROW
        ]
        chosen = max(runs, key=lambda run: (run.scope, run.order), default=None)
        self._base.execute(
            "UPDATE run SET counts = (id IS ?) WHERE hypervisor = ? AND week = ?",
            (chosen.number if chosen else None, self.number, week),
        )

    def _write_figures(self) -> None:
        verdicts = Counter(state.verdict for _, state in self._lines.current())
        disks = self._guests.disks.values()
        spare = summary.known(disk.reclaimable for disk in disks)
        held = summary.known(disk.allocated for disk in disks)
        columns = {
            **_by_standing(
                Counter(guest.standing for guest in self._guests.every.values())
            ),
            "failing": verdicts[Verdict.NONCOMPLIANT] + verdicts[Verdict.PENDING],
            "errors": verdicts[Verdict.ERROR],
            "reclaimable": sum(spare) if spare else None,
            "allocated": sum(held) if held else None,
            "newest": self._newest.number if self._newest else None,
        }
        assigned = ", ".join(f"{name} = :{name}" for name in columns)
        self._base.execute(
            f"UPDATE hypervisor SET {assigned}, "  # noqa: S608 - ours
            "heard = (SELECT max(ended) FROM run WHERE hypervisor = :id AND reached), "
            "reclaimed = (SELECT sum(reclaimed) FROM run WHERE hypervisor = :id) WHERE id = :id",
            {**columns, "id": self.number},
        )


def _by_standing(standings: Counter[Standing]) -> dict[str, int]:
    """Return the columns of the number of guests with each standing."""
    return {
        "guests": standings.total(),
        "returns": standings[Standing.RETURNS],
        "open": standings[Standing.OPEN],
        "pending": standings[Standing.PENDING],
        "unknown": standings[Standing.UNKNOWN],
        "waived": standings[Standing.WAIVED],
    }


def _number(
    connection: sqlite3.Connection, numbers: Numbers, identity: Residence, uri: str
) -> int:
    """Return the number of the hypervisor, which is added if it is not there."""
    known = connection.execute(
        "SELECT id FROM hypervisor WHERE folder = ? AND place = ?", identity
    ).fetchone()
    if known is not None:
        return int(known[0])
    number = numbers.next("hypervisor")
    connection.execute(
        "INSERT INTO hypervisor (id, folder, place, name, uri) VALUES (?, ?, ?, ?, ?)",
        (number, *identity, identity.folder, uri),
    )
    # two of one name are told apart by their places
    connection.execute(
        "UPDATE hypervisor SET name = folder || ' (' || iif(place = '', 'local', place) || ')' "
        "WHERE folder = ?1 AND (SELECT count(*) FROM hypervisor WHERE folder = ?1) > 1",
        (identity.folder,),
    )
    return number
