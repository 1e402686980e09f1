"""The verbs `merge` and `ask`: their arguments, and what they print."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reclaim.base import nearest
from reclaim.base.errors import ReclaimError
from reclaim.base.text import counted, printable
from reclaim.database import (
    expected,
    output,
    parquet,
    questions,
    schema,
    sql,
)
from reclaim.database.questions import Column, Given, Question, Row
from reclaim.files import whole
from reclaim.record import results

if TYPE_CHECKING:
    from reclaim.database.merge import Merged

Say = Callable[[str], None]
_INVENTORY = "the hypervisors that there should be: a file with a name a line, or JSON of `ansible-inventory --list`"


# Merge ----------------------------------------------------------------------------------------


def declare_merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places",
        metavar="DIR",
        nargs="+",
        type=Path,
        help="a folder with runs at any depth (DIR/HYPERVISOR/RUN/results.json), a run, or a results.json",
    )
    parser.add_argument(
        "--into",
        metavar="FILE",
        type=Path,
        help=f"the SQLite file, which is made if it is not there (default: {schema.NAME} in the folder of the reports)",
    )
    _declare_page(parser)
    parser.add_argument(
        "--metrics",
        metavar="FILE",
        type=Path,
        help="write figures of the fleet for node_exporter's textfile collector; FILE ends in .prom",
    )
    _declare_inventory(parser, "--page and --metrics")


def _declare_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--page",
        metavar="FILE",
        type=Path,
        help="write the page of the fleet: sums, lines over time, and links to the reports of the hypervisors",
    )


def _declare_inventory(parser: argparse.ArgumentParser, use: str) -> None:
    parser.add_argument(
        "--inventory", metavar="FILE", type=Path, help=f"with {use}: {_INVENTORY}"
    )


def run_merge(given: argparse.Namespace, say: Say, warn: Say) -> int:
    """Merge, and return the exit status: 1 if a file was refused."""
    from reclaim.database import exported, merge, shown  # noqa: PLC0415 (start-up)

    path = given.into or schema.default()
    if given.inventory is not None and (given.page, given.metrics) == (None, None):
        raise ReclaimError("--inventory goes with --page or --metrics alone")
    names = expected.read(given.inventory) if given.inventory else None
    _expect_apart(path, given)
    try:
        merged = merge.merge(given.places, path, datetime.now(timezone.utc), warn)
    except KeyboardInterrupt:
        raise ReclaimError(
            f"stopped: nothing was merged, and {path} is as it was"
        ) from None
    say(f"{_in_words(merged)}: {printable(str(path))}")
    for file, writer in ((given.page, shown.write), (given.metrics, exported.write)):
        if file is not None:
            _write(path, file, writer, names, warn)
            say(printable(str(file)))
    return 1 if merged.refused else 0


def _expect_apart(path: Path, given: argparse.Namespace) -> None:
    """Raise before anything is merged if a file that is to be written cannot be, or is another one of the command."""
    taken = {path.resolve(): "the database"}
    files = {"--inventory": given.inventory, "--page": given.page}
    files["--metrics"] = vars(given).get("metrics")
    for flag, file in files.items():
        if file is None:
            continue
        other = taken.setdefault(file.resolve(), f"the file of {flag}")
        if other != f"the file of {flag}":
            raise ReclaimError(f"{flag} {file}: this is {other}: give another name")
        if flag != "--inventory":
            _expect_place(flag, file)


def _expect_place(flag: str, file: Path) -> None:
    if not os.path.isdir(file.parent):  # noqa: PTH112 (False for a name that is too long)
        raise ReclaimError(f"{flag} {file}: there is no folder {file.parent}")
    whole.expect_file(file)
    if file.name == results.NAME:
        raise ReclaimError(f"{flag} {file}: this is the name of a record of a run")


_Writer = Callable[[sqlite3.Connection, Path, Given], None]


def _write(
    path: Path, file: Path, writer: _Writer, names: list[str] | None, warn: Say
) -> None:
    """Write *file* from the database at *path*."""
    with schema.reading(path, warn) as connection:
        writer(connection, file, Given(datetime.now(timezone.utc), names))


def _in_words(merged: Merged) -> str:
    parts = [
        f"merged {counted(merged.new, 'run')} of {counted(len(merged.hypervisors), 'hypervisor')}"
    ]
    if merged.known:
        was = "was" if merged.known == 1 else "were"
        parts.append(f"{merged.known} {was} there already")
    if merged.refused:
        parts.append(f"{counted(merged.refused, 'file')} not merged")
    return ", ".join(parts)


# Ask ------------------------------------------------------------------------------------------


def declare_ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "question",
        metavar="NAME",
        nargs="?",
        help="a question: "
        + ", ".join(questions.BY_NAME)
        + "; without one, they are listed",
    )
    parser.add_argument(
        "--sql", metavar="SELECT", help="a question in SQL, which can only read"
    )
    parser.add_argument(
        "--from",
        dest="from_",
        metavar="FILE",
        type=Path,
        help=f"the file of `reclaim merge` (default: {schema.NAME} in the folder of the reports)",
    )
    _declare_inventory(parser, "silent and --page")
    parser.add_argument(
        "--days",
        metavar="N",
        type=int,
        help=f"with silent: days without a run (default: {questions.SILENT_DAYS}); with waivers: days until their end "
        f"(default: {questions.WAIVER_DAYS})",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        default=output.MOST_ROWS,
        help=f"rows of the table that is printed, 0 for all of them (default: {output.MOST_ROWS})",
    )
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=float,
        default=sql.SECONDS,
        help=f"stop the question after N seconds (default: {sql.SECONDS:g})",
    )
    _declare_page(parser)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--json", action="store_true", help="print JSON: a list of objects"
    )
    forms.add_argument(
        "--csv", action="store_true", help="print CSV, safe to open as a spreadsheet"
    )
    forms.add_argument(
        "--parquet",
        metavar="DIR",
        type=Path,
        help="write DIR/NAME.parquet, that of --sql as query.parquet; needs reclaim[parquet]",
    )


class _Inquiry(NamedTuple):
    """A question that is put: its name, its columns, and the function that puts it again."""

    name: str
    columns: tuple[Column, ...]
    ask: Callable[[], Iterable[Row]]


def run_ask(given: argparse.Namespace, say: Say, warn: Say) -> int:
    """Print the answer, or the list of questions."""
    if (given.question, given.sql, given.page) == (None, None, None):
        for line in _listed():
            say(line)
        return 0
    question = _question(given)
    names = expected.read(given.inventory) if given.inventory else None
    path = given.from_ or schema.default()
    if given.page is not None:
        from reclaim.database import shown  # noqa: PLC0415 (start-up)

        _expect_apart(path, given)
        _write(path, given.page, shown.write, names, warn)
        say(printable(str(given.page)))
        return 0
    try:
        with (
            schema.reading(path, warn) as connection,
            sql.limited(connection, given.seconds),
        ):
            _print(_put(connection, question, given, names), given, say)
    except KeyboardInterrupt:
        raise ReclaimError("stopped before the answer was whole") from None
    if question is not None and question.takes_inventory and names is None:
        warn(
            "note: without --inventory a hypervisor that was never heard from is not known"
        )
    return 0


def _listed() -> list[str]:
    width = max(map(len, questions.BY_NAME))
    lines = [
        f"  {question.name:<{width}}  {question.help}" for question in questions.EVERY
    ]
    tables = "latest, runs, turns, changes, disks, week, week_tally, hypervisor"
    return ["questions:", *lines, "", f"--sql 'SELECT …' reads the tables: {tables}"]


def _question(given: argparse.Namespace) -> Question | None:
    """Return the question that is named, None for --sql. Raises ReclaimError if the words do not go together."""
    if given.limit < 0:
        raise ReclaimError(
            f"--limit {given.limit}: give a number of rows, or 0 for all of them"
        )
    if given.days is not None and not 0 <= given.days <= 36_500:
        raise ReclaimError(f"--days {given.days}: give a number of days")
    if not given.seconds > 0:
        raise ReclaimError(f"--seconds {given.seconds:g}: give a number of seconds")
    if given.sql is not None and given.question is not None:
        raise ReclaimError(f"give a question, {given.question}, or --sql, and not both")
    question = None
    if given.question is not None:
        question = questions.BY_NAME.get(given.question)
        if question is None:
            known = [*questions.BY_NAME]
            hint = (
                nearest.near(given.question, known)
                or f" (there are: {', '.join(known)})"
            )
            raise ReclaimError(f"{given.question}: there is no such question{hint}")
    if given.page is not None and (given.question, given.sql) != (None, None):
        raise ReclaimError("--page has every answer: give no question with it")
    takes_inventory = given.page is not None or bool(
        question and question.takes_inventory
    )
    if given.inventory is not None and not takes_inventory:
        raise ReclaimError("--inventory goes with silent or --page alone")
    if given.days is not None and not (question and question.takes_days):
        raise ReclaimError("--days goes with silent or waivers alone")
    return question


def _put(
    connection: sqlite3.Connection,
    question: Question | None,
    given: argparse.Namespace,
    names: list[str] | None,
) -> _Inquiry:
    if question is None:
        columns, _ = sql.rows(connection, given.sql)
        return _Inquiry("query", columns, lambda: sql.rows(connection, given.sql)[1])
    more = Given(datetime.now(timezone.utc), names, given.days)
    answer = question.answer
    return _Inquiry(question.name, question.columns, lambda: answer(connection, more))


def _print(asked: _Inquiry, given: argparse.Namespace, say: Say) -> None:
    if given.parquet is not None:
        given.parquet.mkdir(parents=True, exist_ok=True)
        path = given.parquet / f"{asked.name}.parquet"
        parquet.write(path, asked.columns, asked.ask)
        say(printable(str(path)))
    elif given.csv:
        output.write_csv(asked.columns, asked.ask(), sys.stdout)
    elif given.json:
        output.write_json(asked.columns, asked.ask(), sys.stdout)
    else:
        for line in output.table(asked.columns, asked.ask(), given.limit):
            say(line)
