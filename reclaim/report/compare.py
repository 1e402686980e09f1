"""The differences between one run and those before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reclaim.base.text import printable, size
from reclaim.base.verdict import Verdict
from reclaim.record.record import Record, Row
from reclaim.requirement import REACH_SLUG

#: with one of these a run does not judge everything, so a guest that it lacks is not gone
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

Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Turn:
    """A row with its verdict in the run before."""

    row: Row
    before: Verdict | None

    def __str__(self) -> str:
        names = " ".join(
            filter(
                None,
                (self.row.guest, self.row.disk, self.row.backup, self.row.requirement),
            )
        )
        return f"{printable(names)}: {self.before or 'not judged'} → {self.row.verdict}"


@dataclass
class Comparison:
    """The changes since the run before."""

    broken: list[Turn] = field(default_factory=list)
    mended: list[Turn] = field(default_factory=list)
    otherwise: list[Turn] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    bytes: list[str] = field(default_factory=list)

    def add(self, turn: Turn) -> None:
        """Put *turn* into the list that it belongs to; into none if its verdict is as good as before."""
        before, now = turn.before, turn.row.verdict
        if now is Verdict.FIXED or (now is Verdict.COMPLIANT and before in _BROKEN):
            self.mended.append(turn)
        elif before is None or before is now or (before.holds and now.holds):
            return
        elif before.holds and now in (Verdict.NONCOMPLIANT, Verdict.ERROR):
            self.broken.append(turn)
        else:
            self.otherwise.append(turn)

    @property
    def is_empty(self) -> bool:
        return not any(vars(self).values())


def is_narrow(record: Record) -> bool:
    """True if the run was asked for less than everything, was stopped early, or did not reach its hypervisor."""
    if record.run.cut_short or record.run.chosen or not record.hypervisor.reached:
        return True
    return any(map(_narrows, record.run.arguments))


def _narrows(argument: str) -> bool:
    """True if a run with *argument* may judge less than everything."""
    option = argument.partition("=")[0]
    if option in _NARROW or _NARROW_SHORT.fullmatch(argument):
        return True
    return "::" in argument or argument.endswith(".py")


def compare(earlier: Sequence[Record], now: Record) -> Comparison:
    """Compare *now* with *earlier* records of the same hypervisor, the newest of them first.

    More than one is needed if the last ones were narrow: each row is compared with its newest.
    """
    comparison = Comparison()
    verdicts = _verdicts(earlier)
    paths = paths_of(now)
    alone = alone_in(now.results)
    for row in now.results:
        keys = keys_of(row, paths, alone)
        before = next((verdicts[key] for key in keys if key in verdicts), None)
        if row.requirement == REACH_SLUG and earlier and earlier[0].hypervisor.reached:
            before = Verdict.COMPLIANT  # which has no row
        comparison.add(Turn(row, before))
    if not earlier:
        return comparison
    known: dict[str, None] = {}
    for record in earlier:
        known.update(dict.fromkeys(record.guests))
    judged = dict.fromkeys(now.guests)
    if not is_narrow(now):
        comparison.gone = [guest for guest in known if guest not in judged]
    if not all(map(is_narrow, earlier)):
        comparison.new = [guest for guest in judged if guest not in known]
    comparison.bytes = list(_bytes(earlier[0], now))
    return comparison


def _verdicts(records: Sequence[Record]) -> dict[Key, Verdict]:
    """The newest verdict for each row, under every key that the row may be found by again."""
    verdicts: dict[Key, Verdict] = {}
    for record in records:
        paths, alone = paths_of(record), alone_in(record.results)
        for row in record.results:
            for key in keys_of(row, paths, alone):
                verdicts.setdefault(key, row.verdict)
    return verdicts


class NamedRow(Protocol):
    """A row, here or in a database: the names that it is known by."""

    @property
    def requirement(self) -> str: ...

    @property
    def guest(self) -> str | None: ...

    @property
    def disk(self) -> str | None: ...

    @property
    def backup(self) -> str | None: ...


def keys_of(
    row: NamedRow, paths: dict[tuple[str, str], str], alone: set[str]
) -> Iterator[Key]:
    """Yield the keys of a row, the best first: a copy's path, a disk's image, since mending renames its target."""
    if row.guest is None or row.disk is None or row.backup is not None:
        yield row.requirement, row.guest, "backup", row.backup
        return
    path = paths.get((row.guest, row.disk))
    if path:
        yield row.requirement, row.guest, "path", path
    yield row.requirement, row.guest, "disk", row.disk
    if row.guest in alone:
        yield row.requirement, row.guest, "only"


def paths_of(record: Record) -> dict[tuple[str, str], str]:
    return {(disk.guest, disk.disk): disk.path for disk in record.storage if disk.path}


def alone_in(rows: Iterable[NamedRow]) -> set[str]:
    """Return the guests with one disk."""
    disks: dict[str, set[str]] = {}
    for row in rows:
        if row.guest is None or row.disk is None:
            continue
        disks.setdefault(row.guest, set()).add(row.disk)
    return {guest for guest, names in disks.items() if len(names) == 1}


def _bytes(before: Record, now: Record) -> Iterator[str]:
    held = {(disk.guest, disk.path): disk.allocated_after for disk in before.storage}
    for disk in now.storage:
        was, holds = held.get((disk.guest, disk.path)), disk.allocated_after
        if was is None or holds is None:
            continue
        change = holds - was
        if not change:
            continue
        name = f"{printable(disk.guest)} {printable(disk.disk)}"
        sign = "+" if change > 0 else "−"
        yield f"{name}: {size(was)} → {size(holds)} ({sign}{size(abs(change))})"


def lines(comparison: Comparison) -> Iterator[str]:
    """Yield *comparison* line by line, as the terminal shows it."""
    for title, texts in (
        ("newly broken", list(map(str, comparison.broken))),
        ("newly mended", list(map(str, comparison.mended))),
        ("otherwise changed", list(map(str, comparison.otherwise))),
        ("guests that are gone", list(map(printable, comparison.gone))),
        ("new guests", list(map(printable, comparison.new))),
        ("allocated on the host", comparison.bytes),
    ):
        if texts:
            yield f"{title}: {len(texts)}"
            yield from (f"  {text}" for text in texts)
    if comparison.is_empty:
        yield "no difference"
