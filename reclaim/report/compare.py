"""What is different between one run and those before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from reclaim.base.text import printable, size
from reclaim.base.verdict import Verdict
from reclaim.record.record import Record, Row

#: with one of these a run does not judge everything, and what it has not got is not gone
_NARROW = (
    "--exitfirst",
    "--maxfail",
    "--guests",
    "--lf",
    "--last-failed",
    "--sw",
    "--stepwise",
    "--deselect",
    "--ignore",
    "--ignore-glob",
)
#: -k, -m or -x, behind flags that take no value, and with their value behind them
_NARROW_SHORT = re.compile(r"-[vqsl]*[kmx].*", re.DOTALL)
_BROKEN = (Verdict.NONCOMPLIANT, Verdict.PENDING, Verdict.ERROR)

_Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Turn:
    """A row whose verdict is another than before."""

    row: Row
    before: Verdict | None

    def __str__(self) -> str:
        what = " ".join(
            filter(
                None,
                (self.row.guest, self.row.disk, self.row.backup, self.row.requirement),
            )
        )
        return f"{printable(what)}: {self.before or 'not judged'} → {self.row.verdict}"


@dataclass
class Comparison:
    """What changed since the run before."""

    broken: list[Turn] = field(default_factory=list)
    mended: list[Turn] = field(default_factory=list)
    otherwise: list[Turn] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    bytes: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not any(vars(self).values())


def is_narrow(record: Record) -> bool:
    """Was the run asked for less than everything, or stopped before?"""
    return record.run.cut_short or any(
        argument.partition("=")[0] in _NARROW
        or _NARROW_SHORT.fullmatch(argument)
        or "::" in argument
        or argument.endswith(".py")
        for argument in record.run.arguments
    )


def compare(earlier: Sequence[Record], now: Record) -> Comparison:
    """Hold *now* against *earlier* records of the same hypervisor, the newest of them first.

    More than one is needed where those before were narrow: each row is held against its newest.
    """
    found = Comparison()
    if not earlier:
        found.mended = [
            Turn(row, None) for row in now.results if row.verdict is Verdict.FIXED
        ]
        return found
    before = _verdicts(earlier)
    paths = _paths(now)
    alone = _alone(now)
    for row in now.results:
        was = next(
            (before[key] for key in _keys(row, paths, alone) if key in before), None
        )
        turn = Turn(row, was)
        if row.verdict is Verdict.FIXED or (
            row.verdict is Verdict.COMPLIANT and was in _BROKEN
        ):
            found.mended.append(turn)
        elif (
            row.verdict in _BROKEN
            and row.verdict is not Verdict.PENDING
            and was is not None
            and was.holds
        ):
            found.broken.append(turn)
        elif (
            was is not None
            and was is not row.verdict
            and not (was.holds and row.verdict.holds)
        ):
            found.otherwise.append(turn)
    known = list(dict.fromkeys(guest for record in earlier for guest in record.guests))
    knew, judged = set(known), set(now.guests)
    if not is_narrow(now):
        found.gone = [guest for guest in known if guest not in judged]
    if not all(map(is_narrow, earlier)):
        found.new = [guest for guest in now.guests if guest not in knew]
    found.bytes = list(_bytes(earlier[0], now))
    return found


def _verdicts(records: Sequence[Record]) -> dict[_Key, Verdict]:
    found: dict[_Key, Verdict] = {}
    for record in records:
        paths, alone = _paths(record), _alone(record)
        for row in record.results:
            for key in _keys(row, paths, alone):
                found.setdefault(key, row.verdict)
    return found


def _keys(
    row: Row, paths: dict[tuple[str, str], str], alone: set[str]
) -> Iterator[_Key]:
    """Under what a row is found again: a copy by its path, a disk by its image, for mending renames its target."""
    if row.guest is not None and row.disk is not None and row.backup is None:
        if path := paths.get((row.guest, row.disk)):
            yield row.requirement, row.guest, "path", path
        yield row.requirement, row.guest, "disk", row.disk
        if row.guest in alone:
            yield row.requirement, row.guest, "only"
    else:
        yield row.requirement, row.guest, "backup", row.backup


def _paths(record: Record) -> dict[tuple[str, str], str]:
    return {(disk.guest, disk.disk): disk.path for disk in record.storage if disk.path}


def _alone(record: Record) -> set[str]:
    """The guests with one disk."""
    disks: dict[str, set[str]] = {}
    for row in record.results:
        if row.guest is not None and row.disk is not None:
            disks.setdefault(row.guest, set()).add(row.disk)
    return {guest for guest, names in disks.items() if len(names) == 1}


def _bytes(before: Record, now: Record) -> Iterator[str]:
    held = {(disk.guest, disk.path): disk.allocated_after for disk in before.storage}
    for disk in now.storage:
        was = held.get((disk.guest, disk.path))
        if was is None or disk.allocated_after is None or was == disk.allocated_after:
            continue
        change = disk.allocated_after - was
        sign = "+" if change > 0 else "−"
        yield (
            f"{printable(disk.guest)} {printable(disk.disk)}: {size(was)} → {size(disk.allocated_after)} "
            f"({sign}{size(abs(change))})"
        )


def lines(found: Comparison) -> Iterator[str]:
    """*found* as the terminal shows it."""
    for title, texts in (
        ("newly broken", [str(turn) for turn in found.broken]),
        ("newly mended", [str(turn) for turn in found.mended]),
        ("otherwise changed", [str(turn) for turn in found.otherwise]),
        ("guests that are gone", [printable(guest) for guest in found.gone]),
        ("new guests", [printable(guest) for guest in found.new]),
        ("allocated on the host", found.bytes),
    ):
        if texts:
            yield f"{title}: {len(texts)}"
            yield from (f"  {text}" for text in texts)
    if found.is_empty:
        yield "no difference"
