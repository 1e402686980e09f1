"""Unified diffs in linear time, however the texts are made: difflib takes the square of their length, or more."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

#: pairs of lines that difflib is given to compare: some 600 lines against 600
_COMPARED = 400_000
_CONTEXT = 2


class _Change(NamedTuple):
    """The lines from `start` up to `end` of a text become those from `new_start` up to `new_end` of another."""

    start: int
    end: int
    new_start: int
    new_end: int


def unified(
    before: Sequence[str], after: Sequence[str], old_name: str, new_name: str
) -> Iterator[str]:
    """The lines of a unified diff from *before* to *after*.

    Of long texts with as many lines each line is compared with its like; of other long texts everything between
    the first and the last difference is shown as one change.
    """
    if len(before) * len(after) <= _COMPARED:
        yield from difflib.unified_diff(
            before, after, old_name, new_name, lineterm="", n=_CONTEXT
        )
        return
    changes = (
        _line_by_line(before, after)
        if len(before) == len(after)
        else _as_one(before, after)
    )
    for number, group in enumerate(_groups(changes)):
        if not number:
            yield from (f"--- {old_name}", f"+++ {new_name}")
        yield from _hunk(group, before, after)


def _line_by_line(before: Sequence[str], after: Sequence[str]) -> Iterator[_Change]:
    start = None
    for number in range(len(before) + 1):
        differs = number < len(before) and before[number] != after[number]
        if differs and start is None:
            start = number
        elif not differs and start is not None:
            yield _Change(start, number, start, number)
            start = None


def _as_one(before: Sequence[str], after: Sequence[str]) -> Iterator[_Change]:
    shorter = min(len(before), len(after))
    head = next(
        (number for number in range(shorter) if before[number] != after[number]),
        shorter,
    )
    most = shorter - head
    tail = next(
        (number for number in range(most) if before[-1 - number] != after[-1 - number]),
        most,
    )
    yield _Change(head, len(before) - tail, head, len(after) - tail)


def _groups(changes: Iterable[_Change]) -> Iterator[list[_Change]]:
    """Changes whose contexts touch."""
    group: list[_Change] = []
    for change in changes:
        if group and change.start - group[-1].end > 2 * _CONTEXT:
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def _hunk(
    group: list[_Change], before: Sequence[str], after: Sequence[str]
) -> Iterator[str]:
    first, last = group[0], group[-1]
    start, end = max(0, first.start - _CONTEXT), min(len(before), last.end + _CONTEXT)
    new_start, new_end = (
        max(0, first.new_start - _CONTEXT),
        min(len(after), last.new_end + _CONTEXT),
    )
    yield f"@@ -{_range(start, end)} +{_range(new_start, new_end)} @@"
    for change in group:
        yield from (f" {line}" for line in before[start : change.start])
        yield from (f"-{line}" for line in before[change.start : change.end])
        yield from (f"+{line}" for line in after[change.new_start : change.new_end])
        start = change.end
    yield from (f" {line}" for line in before[start:end])


def _range(start: int, end: int) -> str:
    """As diff(1) writes it: an empty range is named by the line before it."""
    if end - start == 1:
        return str(start + 1)
    return f"{start + 1 if end > start else start},{end - start}"
