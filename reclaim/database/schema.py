"""The tables of the database, and the file that they lie in.

Times are UTC as text, 2026-01-05T02:00:00Z; sizes are bytes, NULL if they are not known.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reclaim.base import home
from reclaim.base.errors import ReclaimError

NAME = "fleet.sqlite"
#: "recl": sqlite.org/pragma.html#pragma_application_id
APPLICATION = 0x7265636C
#: raised with every change of the tables
VERSION = 1
#: seconds that a merge waits for another one and for questions, and a question for the end of a merge
PATIENCE = 300.0
_PAUSE = 0.2
#: KiB of pages that are kept in memory; of memory in which a question may sort and join, in bytes
_CACHE = 96 * 1024
_HEAP = 256 * 1024 * 1024

Say = Callable[[str], None]

_TABLES = """
CREATE TABLE hypervisor (
    id INTEGER PRIMARY KEY,
    -- the folder of its runs, and the host of its URI: '' if it was audited on the machine itself
    folder TEXT NOT NULL, place TEXT NOT NULL,
    -- the folder, with the place behind it if another hypervisor has a folder of this name
    name TEXT NOT NULL,
    uri TEXT NOT NULL,
    -- the run that began last, and the end of the last one that reached it
    newest INTEGER REFERENCES run, heard TEXT,
    -- by each guest's newest run that judged all that decides whether it returns freed space
    guests INTEGER NOT NULL DEFAULT 0, returns INTEGER NOT NULL DEFAULT 0, open INTEGER NOT NULL DEFAULT 0,
    pending INTEGER NOT NULL DEFAULT 0, unknown INTEGER NOT NULL DEFAULT 0, waived INTEGER NOT NULL DEFAULT 0,
    -- rows that do not hold, and rows of which looking failed
    failing INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0,
    reclaimable INTEGER, allocated INTEGER, reclaimed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (folder, place)
);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    hypervisor INTEGER NOT NULL REFERENCES hypervisor,
    name TEXT NOT NULL, mode TEXT NOT NULL, started TEXT NOT NULL, ended TEXT NOT NULL, week TEXT NOT NULL,
    version TEXT NOT NULL,
    -- 0: a choice of guests or requirements, or stopped; 1: every guest; 2: and all that decides about a guest
    scope INTEGER NOT NULL, reached INTEGER NOT NULL,
    -- 1 if the figures of its week have it: the last of the widest scope
    counts INTEGER NOT NULL DEFAULT 0,
    guests INTEGER NOT NULL, returns INTEGER NOT NULL, open INTEGER NOT NULL,
    pending INTEGER NOT NULL, unknown INTEGER NOT NULL, waived INTEGER NOT NULL,
    reclaimable INTEGER, allocated INTEGER, reclaimed INTEGER NOT NULL,
    -- its outcome: NULL if the record is of schema 1, which does not contain it
    status INTEGER NOT NULL, went_wrong INTEGER, rolled_back INTEGER, left_off INTEGER, failed INTEGER,
    errors INTEGER NOT NULL, applied INTEGER NOT NULL,
    path TEXT NOT NULL, mtime INTEGER NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL, undone INTEGER NOT NULL,
    verdicts BLOB NOT NULL,
    UNIQUE (hypervisor, name)
);
CREATE INDEX run_path ON run (path);
CREATE INDEX run_week ON run (week);
-- every row that was ever judged, as it was judged last
CREATE TABLE judged (
    id INTEGER PRIMARY KEY,
    hypervisor INTEGER NOT NULL REFERENCES hypervisor,
    requirement TEXT NOT NULL, guest TEXT, disk TEXT, backup TEXT, image TEXT,
    verdict TEXT NOT NULL, reason TEXT, evidence TEXT, waiver TEXT, until TEXT,
    -- the run that judged it last, the verdict in the run before that, the run in which it last turned
    run INTEGER NOT NULL REFERENCES run, before TEXT, since INTEGER REFERENCES run,
    -- 1 if it held before, and does not now
    broke INTEGER NOT NULL,
    -- the run that no longer had the guest, the disk or the requirement
    gone INTEGER REFERENCES run
);
CREATE INDEX judged_hypervisor ON judged (hypervisor);
CREATE INDEX judged_broke ON judged (hypervisor) WHERE broke;
CREATE INDEX judged_error ON judged (hypervisor) WHERE verdict = 'error' AND gone IS NULL;
CREATE INDEX judged_until ON judged (until) WHERE until IS NOT NULL AND gone IS NULL;
-- a row that was judged otherwise than in the run before
CREATE TABLE turn (
    run INTEGER NOT NULL REFERENCES run, judged INTEGER NOT NULL REFERENCES judged,
    before TEXT NOT NULL, verdict TEXT NOT NULL,
    PRIMARY KEY (run, judged)
) WITHOUT ROWID;
-- a change that a fix applied
CREATE TABLE change (
    run INTEGER NOT NULL REFERENCES run, number INTEGER NOT NULL,
    requirement TEXT NOT NULL, guest TEXT, disk TEXT, backup TEXT,
    kind TEXT NOT NULL, target TEXT NOT NULL, undone INTEGER NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE TABLE tally (
    run INTEGER NOT NULL REFERENCES run, requirement TEXT NOT NULL, verdict TEXT NOT NULL, rows INTEGER NOT NULL,
    PRIMARY KEY (run, requirement, verdict)
) WITHOUT ROWID;
CREATE TABLE guest (
    hypervisor INTEGER NOT NULL REFERENCES hypervisor, name TEXT NOT NULL,
    -- by the run `stood`; `road` is 1 if that judged all that decides about a guest
    standing TEXT NOT NULL, stood INTEGER NOT NULL REFERENCES run, road INTEGER NOT NULL,
    -- the run that counted the bytes of its disks
    measured INTEGER REFERENCES run,
    PRIMARY KEY (hypervisor, name)
) WITHOUT ROWID;
CREATE TABLE disk (
    hypervisor INTEGER NOT NULL REFERENCES hypervisor, guest TEXT NOT NULL, disk TEXT NOT NULL,
    image TEXT, virtual INTEGER, allocated INTEGER, used INTEGER, reclaimable INTEGER,
    PRIMARY KEY (hypervisor, guest, disk)
) WITHOUT ROWID;
-- the sums of the runs that count in a week (ISO 8601)
CREATE TABLE week (
    week TEXT PRIMARY KEY, hypervisors INTEGER NOT NULL, guests INTEGER NOT NULL, returns INTEGER NOT NULL,
    open INTEGER NOT NULL, pending INTEGER NOT NULL, unknown INTEGER NOT NULL, waived INTEGER NOT NULL,
    reclaimable INTEGER, allocated INTEGER, reclaimed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE week_tally (
    week TEXT NOT NULL, requirement TEXT NOT NULL, verdict TEXT NOT NULL, rows INTEGER NOT NULL,
    PRIMARY KEY (week, requirement, verdict)
) WITHOUT ROWID;
-- the hypervisors that inventories name, and the beginning of the newest run that had such an inventory
CREATE TABLE expected (name TEXT PRIMARY KEY, seen TEXT NOT NULL) WITHOUT ROWID;
-- for people who ask in SQL: names in place of numbers
CREATE VIEW latest AS
    SELECT hypervisor.name AS hypervisor, guest, disk, backup, requirement, verdict, reason, evidence, before,
           turned.started AS since, run.started AS judged, waiver, until, image
    FROM judged JOIN hypervisor ON hypervisor.id = judged.hypervisor JOIN run ON run.id = judged.run
    LEFT JOIN run AS turned ON turned.id = judged.since
    WHERE gone IS NULL;
CREATE VIEW runs AS
    SELECT hypervisor.name AS hypervisor, run.name AS run, mode, started, ended, week, version, scope, reached,
           run.guests, run.returns, run.open, run.pending, run.unknown, run.waived, run.reclaimable, run.allocated,
           run.reclaimed, status, went_wrong, rolled_back, left_off, failed, run.errors, applied, path
    FROM run JOIN hypervisor ON hypervisor.id = run.hypervisor;
CREATE VIEW turns AS
    SELECT hypervisor.name AS hypervisor, run.name AS run, run.started, guest, disk, backup, requirement,
           turn.before, turn.verdict
    FROM turn JOIN run ON run.id = turn.run JOIN judged ON judged.id = turn.judged
    JOIN hypervisor ON hypervisor.id = run.hypervisor;
CREATE VIEW changes AS
    SELECT hypervisor.name AS hypervisor, run.name AS run, run.started, guest, disk, backup, requirement,
           kind, target, change.undone
    FROM change JOIN run ON run.id = change.run JOIN hypervisor ON hypervisor.id = run.hypervisor;
CREATE VIEW disks AS
    SELECT hypervisor.name AS hypervisor, guest, disk, image, virtual, disk.allocated, used, disk.reclaimable
    FROM disk JOIN hypervisor ON hypervisor.id = disk.hypervisor;
"""


def default() -> Path:
    """Return the database if the user names none: it lies beside the reports. Raises ReclaimError without a home."""
    return home.reports() / NAME


@contextmanager
def merging(path: Path, say: Say) -> Iterator[sqlite3.Connection]:
    """Yield a connection in one transaction: it is committed at the end, and taken back if anything is raised.

    A file that is not there is made, for its owner alone. Raises ReclaimError if the file is no database of ours, is of
    a newer reclaim, has no room, or another merge does not end.
    """
    is_new = _make(path)
    try:
        with _told(path):
            connection = sqlite3.connect(
                path.absolute(),  # `:memory:` alone would be no file
                timeout=0,
                isolation_level=None,
            )
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                _patiently(connection, "BEGIN IMMEDIATE", say)
                # it reads the file, which the end of another merge holds
                connection.execute(f"PRAGMA cache_size = -{_CACHE}")
                _expect(connection, path)
                yield connection
                # a question that is under way ends first
                _patiently(connection, "COMMIT", say)
            finally:
                # closing takes back what was not committed
                connection.close()
    except BaseException:
        if is_new:
            _drop_empty(path)
        raise


def _make(path: Path) -> bool:
    """Make an empty file at *path* if there is none: SQLite would give it the mode of the umask. True if it did."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        if not path.is_file():
            raise ReclaimError(f"{path}: it is no regular file") from None
        return False
    return True


def _drop_empty(path: Path) -> None:
    with suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()


def _patiently(connection: sqlite3.Connection, statement: str, say: Say) -> None:
    """Execute *statement* once no other process holds the file: in steps, so that Ctrl-C ends the wait.

    Raises sqlite3.OperationalError if the other does not end.
    """
    until = time.monotonic() + PATIENCE
    is_said = False
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as exc:
            if not _is_busy(exc) or time.monotonic() > until:
                raise
        else:
            return
        if not is_said:
            say("waiting: another process uses the database")
            is_said = True
        time.sleep(_PAUSE)


def _is_busy(exc: sqlite3.Error) -> bool:
    return "locked" in str(exc)


def _expect(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file. Raises ReclaimError if the file is another program's, or of a newer reclaim."""
    version = _version(connection, path)
    if version:
        return
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the tables, 0 of an empty file. Raises ReclaimError if they are none of ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not application and not version:
        return 0
    if application != APPLICATION:
        raise ReclaimError(f"{path}: this is the database of another program")
    if version > VERSION:
        raise ReclaimError(
            f"{path}: a newer reclaim made it (version {version} of its tables, and this one knows {VERSION}): "
            "update reclaim, or merge into another file"
        )
    return int(version)


@contextmanager
def reading(path: Path, say: Say) -> Iterator[sqlite3.Connection]:
    """Yield a connection that cannot write: SQLite opens the file to be read, and refuses every other statement.

    All that is read is of one state of the file: a merge writes its end after that.

    Raises ReclaimError if there is no such file, or no database of ours in it.
    """
    if not path.is_file():
        raise ReclaimError(
            f"{path}: there is no such file: `reclaim merge DIR --into {path}` makes it"
        )
    with _told(path):
        # a path may have ? and #, which mean something in a URI
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute(f"PRAGMA hard_heap_limit = {_HEAP}")
            # a result with a text that is none must be shown all the same
            connection.text_factory = _text
            connection.execute("BEGIN")
            _patiently(connection, "SELECT 1 FROM sqlite_master", say)
            connection.execute(f"PRAGMA cache_size = -{_CACHE}")
            if not _version(connection, path):
                raise ReclaimError(f"{path}: nothing was merged into it")
            yield connection
        finally:
            connection.close()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise ReclaimError in place of SQLite's errors about the file at *path*."""
    try:
        yield
    except sqlite3.Error as exc:
        raise ReclaimError(f"{path}: {_reason(exc)}") from exc


def _reason(exc: sqlite3.Error) -> str:
    """Return SQLite's message with the way out, if there is one (sqlite.org/rescode.html)."""
    words = str(exc)
    if _is_busy(exc):
        return "another process uses it, and does not end: try again"
    if "readonly" in words:
        return (
            "a merge was killed while it wrote: `reclaim merge` takes back its half, "
            "as a user who may write this file"
        )
    if "full" in words or "disk I/O error" in words:
        return f"{words}: nothing was merged, and the file is as it was"
    if "not a database" in words:
        return f"{words}, and stays as it is: name another file"
    if "malformed" in words:
        return f"{words}: remove it, and merge the archive again"
    return words
