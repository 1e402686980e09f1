"""An answer as a Parquet file. pyarrow is an extra, and is imported when a file is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from reclaim.base.errors import ReclaimError
from reclaim.database.questions import Column, Row
from reclaim.files import whole

#: rows that are in memory at a time
_BATCH = 50_000


def write(
    path: Path, columns: Sequence[Column], ask: Callable[[], Iterable[Row]]
) -> None:
    """Write the rows of *ask* to *path*, whole or not at all. It is asked twice: for the types, and for the rows.

    Raises ReclaimError without pyarrow, OSError if the file cannot be written.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as exc:
        raise ReclaimError(
            "--parquet needs pyarrow: install reclaim[parquet], or pyarrow into this venv"
        ) from exc
    whole.expect_file(path)
    kinds = _kinds(len(columns), ask())
    types = [getattr(arrow, _TYPES[kind])() for kind in kinds]
    names = [column.name for column in columns]
    schema = arrow.schema(list(zip(names, types, strict=True)))
    temporary = path.with_name(f".{path.name}.new")
    try:
        with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in _batches(ask()):
                arrays = [
                    arrow.array([_as(kind, row[number]) for row in batch], type_)
                    for number, (kind, type_) in enumerate(
                        zip(kinds, types, strict=True)
                    )
                ]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
        temporary.replace(path)
    finally:
        whole.drop(temporary)


_TYPES = {int: "int64", float: "float64", bytes: "binary", str: "string"}


def _kinds(width: int, rows: Iterable[Row]) -> list[type]:
    """Return the type of each column: that of all its values, float for numbers of both kinds, else text."""
    seen: list[set[type]] = [set() for _ in range(width)]
    for row in rows:
        for types, value in zip(seen, row, strict=True):
            if value is not None:
                types.add(type(value))
    return [_kind(types) for types in seen]


def _kind(types: set[type]) -> type:
    if len(types) == 1:
        return next(iter(types))
    return float if types == {int, float} else str


def _as(kind: type, value: Any) -> Any:
    if value is None or isinstance(value, kind):
        return value
    return value.hex() if isinstance(value, bytes) else kind(value)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    every = iter(rows)
    while batch := [*islice(every, _BATCH)]:
        yield batch
