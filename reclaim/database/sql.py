"""A question in the user's own SQL: it can read the tables of the database, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from reclaim.base.errors import ReclaimError
from reclaim.base.text import printable
from reclaim.database.questions import Column, Row

#: seconds that a question may take
SECONDS = 30.0
#: steps of SQLite's machine between two looks at the clock
_STEPS = 10_000
#: seconds that a question has to stop by itself
_GRACE = 2.0
#: actions of a statement that only reads (sqlite.org/c3ref/c_alter_table.html)
_READS = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)
#: functions that reach beyond the database
_BARRED = frozenset(
    {"load_extension", "fts3_tokenizer", "edit", "readfile", "writefile"}
)


def _authorizer(
    action: int, first: str | None, second: str | None, *_: str | None
) -> int:
    if action not in _READS:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _BARRED:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def rows(
    connection: sqlite3.Connection, text: str
) -> tuple[tuple[Column, ...], Iterator[Row]]:
    """Return the columns and the rows of the statement *text*. Raises ReclaimError if it is none that only reads."""
    connection.set_authorizer(_authorizer)
    try:
        cursor = connection.execute(text)
    except sqlite3.Error as exc:
        if "interrupted" in str(exc):
            raise  # its time is over, which `limited` knows
        raise ReclaimError(f"--sql: {_reason(exc)}") from exc
    # of Python 3.10 and older: several statements in one
    except (sqlite3.Warning, ValueError) as exc:
        raise ReclaimError(f"--sql: {printable(str(exc))}") from exc
    if cursor.description is None:
        raise ReclaimError("--sql: it returns no columns: give a SELECT")
    return tuple(Column(name, "any") for name in _names(cursor)), cursor


def _names(cursor: sqlite3.Cursor) -> Iterator[str]:
    """Yield the names of the columns. A name that comes again gets a number."""
    seen: dict[str, int] = {}
    for name, *_ in cursor.description:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}:{seen[name]}"


def _reason(exc: sqlite3.Error) -> str:
    words = str(exc)
    if "authoriz" in words or "prohibited" in words:
        return f"{words}: it can only read the database"
    return printable(words)


@contextmanager
def limited(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Stop what *connection* is asked in the body after *seconds*. Raises ReclaimError then."""
    until = time.monotonic() + seconds
    is_late = False

    def look() -> bool:
        nonlocal is_late
        is_late = time.monotonic() > until
        return is_late

    connection.set_progress_handler(look, _STEPS)
    watch = threading.Timer(seconds + _GRACE, _give_up, [seconds])
    watch.daemon = True
    watch.start()
    try:
        yield
    except sqlite3.Error as exc:
        if is_late:
            raise ReclaimError(_late(seconds)) from exc
        raise ReclaimError(f"the question cannot be answered: {_reason(exc)}") from exc
    except MemoryError as exc:
        raise ReclaimError("stopped: the question needs too much memory") from exc
    finally:
        watch.cancel()
        connection.set_progress_handler(None, 0)


def _give_up(seconds: float) -> None:
    """End this process: one step of SQLite, as instr() of long texts, looks at no clock, and holds off Ctrl-C too."""
    sys.stderr.write(f"reclaim: {_late(seconds)}\n")
    sys.stderr.flush()
    os._exit(2)


def _late(seconds: float) -> str:
    return f"stopped: the question took longer than {seconds:g} s (--seconds)"
