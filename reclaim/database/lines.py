"""The rows of one hypervisor, each under one number from run to run, in the table `judged`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from reclaim.base.text import LIMIT
from reclaim.base.verdict import Verdict
from reclaim.database.history import RowNames, RowState
from reclaim.database.numbers import Numbers
from reclaim.record.record import Record, Row
from reclaim.report import compare
from reclaim.requirement import catalogue

#: by a copy's path, by a disk's image, by its target, by a guest's only disk: the best match first
_KINDS = ("backup", "path", "disk", "only")


class JudgedLine(NamedTuple):
    """The names and words of one row, by the newest run that judged it."""

    requirement: str
    guest: str | None
    disk: str | None
    backup: str | None
    image: str | None = None
    reason: str | None = None
    evidence: str | None = None
    waiver: str | None = None
    until: str | None = None

    @property
    def names(self) -> tuple[str | None, ...]:
        return self.requirement, self.guest, self.disk, self.backup


class _Written(NamedTuple):
    """The columns of a state as the database has them."""

    verdict: str
    run: int
    before: str | None
    since: int | None
    broke: bool
    gone: int | None


class Lines:
    """The lines of one hypervisor with their states. `write` writes those that changed."""

    def __init__(self, connection: sqlite3.Connection, hypervisor: int) -> None:
        self._base = connection
        self._hypervisor = hypervisor
        self.every: dict[int, JudgedLine] = {}
        self.states: dict[int, RowState] = {}
        self._written: dict[int, _Written] = {}
        self._reworded: set[int] = set()
        self._read()

    def _read(self) -> None:
        verdicts: dict[str | None, Verdict] = {
            str(verdict): verdict for verdict in Verdict
        }
        for number, *words, verdict, run, before, since, gone in self._base.execute(
            "SELECT id, requirement, guest, disk, backup, image, reason, evidence, waiver, until, "
            "verdict, run, before, since, gone FROM judged WHERE hypervisor = ?",
            (self._hypervisor,),
        ):
            self.every[number] = JudgedLine(*words)
            state = RowState(verdicts[verdict], run, verdicts.get(before), since, gone)
            self.states[number] = state
            self._written[number] = _columns(state)

    @property
    def subjects(self) -> Mapping[int, RowNames]:
        optional = {slug for slug, known in catalogue().items() if known.option}
        return {
            number: RowNames(line.requirement, line.guest, line.requirement in optional)
            for number, line in self.every.items()
        }

    def current(self) -> Iterator[tuple[JudgedLine, RowState]]:
        """Yield the lines that are not gone."""
        for number, state in self.states.items():
            if state.gone is None:
                yield self.every[number], state

    def numbered(self, record: Record, numbers: Numbers) -> dict[int, Row]:
        """Return the rows of *record* by the numbers of their lines. A row that fits none becomes a new line."""
        paths = compare.paths_of(record)
        rows: dict[int, Row] = {}
        strange = []
        known = {line.names: number for number, line in self.every.items()}
        for row in record.results:
            number = known.get((row.requirement, row.guest, row.disk, row.backup))
            if number is not None and _fits(self.every[number], row, paths):
                rows[number] = row
            else:
                strange.append(row)
        if strange:
            moved = self._moved(record, strange, rows.keys(), paths)
            rows.update(self._placed(moved, paths, numbers))
        return rows

    def _placed(
        self,
        moved: Iterable[tuple[Row, int | None]],
        paths: dict[tuple[str, str], str],
        numbers: Numbers,
    ) -> Iterator[tuple[int, Row]]:
        """Yield rows with the lines that they continue. Those that continue none become new lines."""
        for row, number in moved:
            if number is not None:
                yield number, row
                continue
            new = numbers.next("judged")
            image = paths.get((row.guest or "", row.disk or ""))
            self.every[new] = JudgedLine(
                row.requirement, row.guest, row.disk, row.backup, image
            )
            yield new, row

    def _moved(
        self,
        record: Record,
        strange: list[Row],
        taken: Iterable[int],
        paths: dict[tuple[str, str], str],
    ) -> Iterator[tuple[Row, int | None]]:
        """Yield *strange* rows with the lines that they continue, each line once: mending moves disks."""
        free = self._free(set(taken))
        alone = compare.alone_in(record.results)
        waiting = [(row, [*compare.keys_of(row, paths, alone)]) for row in strange]
        claimed: set[int] = set()
        for kind in _KINDS:
            left = []
            for row, keys in waiting:
                numbers = [free[key] for key in keys if key[2] == kind and key in free]
                if numbers and numbers[0] not in claimed:
                    claimed.add(numbers[0])
                    yield row, numbers[0]
                else:
                    left.append((row, keys))
            waiting = left
        yield from ((row, None) for row, _ in waiting)

    def _free(self, taken: set[int]) -> dict[compare.Key, int]:
        """Return the lines that are not *taken*, by every key that a row may be found by again."""
        alone = compare.alone_in(line for line, _ in self.current())
        keys: dict[compare.Key, int] = {}
        for number, line in self.every.items():
            if number not in taken:
                disk = line.guest or "", line.disk or ""
                image = {disk: line.image} if line.image else {}
                for key in compare.keys_of(line, image, alone):
                    keys[key] = number
        return keys

    def reword(self, rows: Mapping[int, Row], run: int, record: Record) -> None:
        """Give the *rows* the words of *run*, if no newer run judged them."""
        paths = compare.paths_of(record)
        for number, row in rows.items():
            before = self.every[number]
            image = paths.get((row.guest or "", row.disk or ""))
            if self.states[number].run == run:
                line = _line(row, image or before.image)
            else:
                line = before._replace(image=before.image or image)
            if line != before:
                self.every[number] = line
                self._reworded.add(number)

    def write(self) -> None:
        """Write the lines that are new or changed. Most differ in the number of the run alone."""
        new, changed, turned, judged = [], [], [], []
        for number, state in self.states.items():
            columns = _columns(state)
            before = self._written.get(number)
            if before is None:
                new.append((number, self._hypervisor, *self.every[number], *columns))
            elif number in self._reworded:
                changed.append((*self.every[number], *columns, number))
            elif before[:1] + before[2:] != columns[:1] + columns[2:]:
                turned.append((*columns, number))
            elif before.run != state.run:
                judged.append((state.run, number))
        many = self._base.executemany
        many(_INSERT, new)
        many(f"UPDATE judged SET {_WORDS}, {_STATE} WHERE id = ?", changed)  # noqa: S608 - ours
        many(f"UPDATE judged SET {_STATE} WHERE id = ?", turned)  # noqa: S608 - ours
        many("UPDATE judged SET run = ? WHERE id = ?", judged)


_WORD_COLUMNS = (
    "requirement",
    "guest",
    "disk",
    "backup",
    "image",
    "reason",
    "evidence",
    "waiver",
    "until",
)
_WORDS = ", ".join(f"{name} = ?" for name in _WORD_COLUMNS)
_STATE = ", ".join(f"{name} = ?" for name in _Written._fields)
_COLUMNS = ("id", "hypervisor", *_WORD_COLUMNS, *_Written._fields)
_INSERT = f"INSERT INTO judged ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - ours


def _columns(state: RowState) -> _Written:
    before = str(state.before) if state.before is not None else None
    return _Written(
        str(state.verdict), state.run, before, state.since, state.broke, state.gone
    )


def _fits(line: JudgedLine, row: Row, paths: dict[tuple[str, str], str]) -> bool:
    """True unless the disk of *row* has another image than that of *line*."""
    if row.guest is None or row.disk is None or line.image is None:
        return True
    return paths.get((row.guest, row.disk)) in (None, line.image)


def _line(row: Row, image: str | None) -> JudgedLine:
    waiver = row.waiver
    until = waiver.until.isoformat() if waiver and waiver.until else None
    return JudgedLine(
        row.requirement,
        row.guest,
        row.disk,
        row.backup,
        image,
        _clipped(row.reason),
        _clipped(row.evidence),
        _clipped(waiver.reason) if waiver else None,
        until,
    )


def _clipped(text: str | None) -> str | None:
    return text[:LIMIT] if text else None
