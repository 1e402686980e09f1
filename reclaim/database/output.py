"""The rows of an answer as a table for people, as CSV, or as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import isfinite
from typing import Any, TextIO

from reclaim.base.errors import ReclaimError
from reclaim.base.text import printable, size
from reclaim.database.questions import Column, Row
from reclaim.report.width import clip, columns_of

#: rows of a table, and columns of the terminal that a cell of it takes
MOST_ROWS, _WIDEST = 50, 72
#: cells of a table, which is laid out as a whole
_MOST_CELLS = 1_000_000
#: a spreadsheet takes a text that begins so for a formula, also in its wide form (owasp.org: CSV injection)
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_GAP = "  "


def table(columns: Sequence[Column], rows: Iterable[Row], most: int) -> Iterator[str]:
    """Yield the lines of a table of the first *most* rows; 0 is all of them.

    Raises ReclaimError if they are too many to be laid out.
    """
    every = iter(rows)
    right = [True for _ in columns]
    cells = []
    for row in islice(every, most or None):
        cells.append(
            [
                _cell(value, column.kind)
                for value, column in zip(row, columns, strict=True)
            ]
        )
        right = [
            is_so and isinstance(value, int | float | None)
            for is_so, value in zip(right, row, strict=True)
        ]
        if len(cells) * len(columns) > _MOST_CELLS:
            raise ReclaimError(
                f"a table of more than {len(cells) - 1:,} rows finds no room in memory: --csv and --json have every row"
            )
    heads = [printable(column.name).replace("_", " ") for column in columns]
    if not cells:
        yield "nothing"
        return
    widths = [
        max(columns_of(line[number]) for line in (heads, *cells))
        for number in range(len(columns))
    ]
    for line in (heads, *cells):
        padded = [_padded(*cell) for cell in zip(line, widths, right, strict=True)]
        yield _GAP.join(padded).rstrip()
    more = sum(1 for _ in every)
    if more:
        yield f"and {more:,} more: --limit 0 prints all"


def _padded(text: str, width: int, is_right: bool) -> str:  # noqa: FBT001 - of a table
    space = " " * (width - columns_of(text))
    return space + text if is_right else text + space


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return "–"
    if kind == "bytes":
        return size(value)
    if kind == "percent":
        return f"{value:.1f} %"
    if kind == "time":
        return str(value).replace("T", " ").removesuffix("Z")
    return clip(printable(_plain(value)), _WIDEST)


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def write_csv(columns: Sequence[Column], rows: Iterable[Row], stream: TextIO) -> None:
    """Write *rows* as CSV. A text that a spreadsheet would compute begins with an apostrophe."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_safe(column.name) for column in columns])
    for row in rows:
        writer.writerow([_safe(value) for value in row])


def _safe(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = printable(_plain(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def write_json(columns: Sequence[Column], rows: Iterable[Row], stream: TextIO) -> None:
    """Write *rows* as one list of objects, a row a line. Every character beyond ASCII is escaped."""
    names = [column.name for column in columns]
    before = "[\n"
    for row in rows:
        values = zip(names, map(_of_json, row), strict=True)
        stream.write(before + json.dumps(dict(values)))
        before = ",\n"
    stream.write("[]\n" if before == "[\n" else "\n]\n")


def _of_json(value: Any) -> Any:
    """Return *value* as JSON can have it: it knows no bytes, and no infinity."""
    if isinstance(value, bytes) or (isinstance(value, float) and not isfinite(value)):
        return _plain(value)
    return value
