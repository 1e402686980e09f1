"""Many times `--fix` and undo in one process: `python -m tests.faults.soak CYCLES FOLDER` prints what was measured.

In one process, since what a run leaves open is closed by the end of a process and never seen.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import libvirt
import pytest

from reclaim.__main__ import main
from tests.command import ROOT
from tests.faults.points import Watch, install, node_of, persisting

FLEET = ROOT / "lab/samples/fleet.xml"
_KEEP = 3
_QUIET = ("-p", "no:hypothesispytest", "-q", "-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(frozen=True)
class Measured:
    """What one process and its folders take after a cycle."""

    descriptors: int
    threads: int
    #: resident KiB
    resident: int
    files: int
    size: int
    #: changes that the run of this cycle made and undo took back
    changes: int
    statuses: tuple[int, int]


def measured(folder: Path, changes: int, statuses: tuple[int, int]) -> Measured:
    gc.unfreeze()  # a run freezes what it has: its process ends with it
    gc.collect()
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return Measured(
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208 (no path is wanted)
        threading.active_count(),
        int(resident.split()[1]),
        len(files),
        sum(path.stat().st_size for path in files),
        changes,
        statuses,
    )


def cycles(count: int, folder: Path) -> Iterator[tuple[Measured, bool]]:
    """One by one, with whether every definition is then, byte for byte, what it was."""
    node, reports = folder / "node.xml", folder / "reports"
    reports.mkdir()
    node.write_text(_defined(FLEET))
    original = node.read_text()
    watch = Watch(str(folder))
    install(watch, persisting(node))
    for _ in range(count):
        watch.seen.clear()  # they are not counted here, and would grow
        with _silenced(folder / "said"):
            where = ("--uri", f"test://{node}", "--reports", str(reports), "--keep", str(_KEEP))
            fixed = int(pytest.main([*_QUIET, *where, "--fix", "--force", "-k", "disc or bus or scsi", "checks/"]))
        run = max(reports.glob("*/*/journal.jsonl"), key=lambda path: path.stat().st_mtime_ns).parent
        changes = (run / "journal.jsonl").read_text().count('"event": "done"')
        assert node.read_text() != original
        with _silenced(folder / "undone"):
            undone = main(["undo", str(run)])
        yield measured(reports, changes, (fixed, undone)), node.read_text() == original == _defined(node)


def _defined(node: Path) -> str:
    connection = libvirt.open(f"test://{node}")
    try:
        return node_of(connection)
    finally:
        connection.close()


@contextmanager
def _silenced(said: Path) -> Iterator[None]:
    """What is said goes to a file, by descriptor as well."""
    sys.stdout.flush()
    kept, into = os.dup(1), os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(into, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(into)


def run() -> None:
    for found, same in cycles(int(sys.argv[1]), Path(sys.argv[2])):
        print(json.dumps({**asdict(found), "same": same}), flush=True)  # noqa: T201


if __name__ == "__main__":
    os.chdir(ROOT)
    run()
