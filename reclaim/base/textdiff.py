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
    """Yield the lines of a unified diff from *before* to *after*.

    Of long texts with as many lines each line is compared with its like; of other long texts everything between
    the first and the last difference is shown as one change.
    """
    if len(before) * len(after) <= _COMPARED:
        yield from difflib.unified_diff(
            before, after, old_name, new_name, lineterm="", n=_CONTEXT
        )
        return
    compare = _line_by_line if len(before) == len(after) else _as_one
    for number, group in enumerate(_groups(compare(before, after))):
        if not number:
            yield from (f"--- {old_name}", f"+++ {new_name}")
        yield from _hunk(group, before, after)


def _line_by_line(before: Sequence[str], after: Sequence[str]) -> Iterator[_Change]:
    start = None
    for number, (old_line, new_line) in enumerate(zip(before, after, strict=True)):
        differs = old_line != new_line
        if differs and start is None:
            start = number
        elif not differs and start is not None:
            yield _Change(start, number, start, number)
            start = None
    if start is not None:
        yield _Change(start, len(before), start, len(before))


def _as_one(before: Sequence[str], after: Sequence[str]) -> Iterator[_Change]:
    head, tail = alike_at_both_ends(before, after)
    yield _Change(head, len(before) - tail, head, len(after) - tail)


def alike_at_both_ends(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    """Return how many lines both begin with, and how many of the others both end with."""
    shorter = min(len(before), len(after))
    head = _alike(before, after, shorter)
    tail = _alike(reversed(before), reversed(after), shorter - head)
    return head, tail


def _alike(before: Iterable[str], after: Iterable[str], most: int) -> int:
    count = 0
    for old_line, new_line in zip(before, after, strict=False):
        if count == most or old_line != new_line:
            break
        count += 1
    return count


def _groups(changes: Iterable[_Change]) -> Iterator[list[_Change]]:
    """Yield groups of changes whose contexts touch."""
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
    start = max(0, first.start - _CONTEXT)
    end = min(len(before), last.end + _CONTEXT)
    new_start = max(0, first.new_start - _CONTEXT)
    new_end = min(len(after), last.new_end + _CONTEXT)
    yield f"@@ -{line_range(start, end)} +{line_range(new_start, new_end)} @@"
    for change in group:
        yield from _marked(" ", before[start : change.start])
        yield from _marked("-", before[change.start : change.end])
        yield from _marked("+", after[change.new_start : change.new_end])
        start = change.end
    yield from _marked(" ", before[start:end])


def _marked(sign: str, lines: Sequence[str]) -> Iterator[str]:
    return (sign + line for line in lines)


def line_range(start: int, end: int) -> str:
    """Return the range as diff(1) writes it: an empty one is named by the line before it."""
    if end - start == 1:
        return str(start + 1)
    return f"{start + 1 if end > start else start},{end - start}"
