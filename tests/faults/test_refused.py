"""A full disk, a broken one, one that is read-only, and no more open files: at every point of a run that mends.

The findings and the sentence reach the terminal all the same, in words; what cannot be written into the journal is
not done; and what was done can be taken back once there is room.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.command import audit, reclaim
from tests.faults import record, walk
from tests.faults.home import Home, leftovers
from tests.faults.nursery import Done, Nursery
from tests.faults.points import Cut
from tests.faults.walk import Scenario, Tally
from tests.filesystems import require
from tests.support import disk_xml, domain_xml, node

THOROUGH = os.environ.get("RECLAIM_GUESTS") == "all"
_CHOSEN = ("-k", "discard or bus or scsi_controller or backup")
_SENTENCE = re.compile(r"^(?:[A-Za-z ]+: )*\d+ of \d+ guests? ", re.MULTILINE)
#: words that only a fault of reclaim's own brings
_TRACES = ("Traceback", "INTERNALERROR", "a fault in reclaim")
#: for each error, the calls that have it
ERRORS = {
    "ENOSPC": ("open", "write", "pwrite", "mkdir", "symlink", "link", "fsync"),
    "EIO": ("write", "pwrite", "fsync", "fallocate", "ftruncate"),
    "EROFS": ("open", "mkdir", "symlink", "link", "rename", "replace", "unlink"),
    "EMFILE": ("open", "run"),
}
REFUSED = 4


def _make(home: Home) -> None:
    home.make()
    home.add_backups()


def _fix(home: Home, cut: Cut | None = None) -> Done:
    return home.fix(*_CHOSEN, cut=cut)


def _rewrite(home: Home, cut: Cut | None = None) -> Done:
    return home.fix("-k", "sparse_backup", cut=cut, hook="tests.faults.hooks:no_holes_can_be_punched")


def _cuts(act: str, points: list[tuple[str, int]]) -> list[Cut]:
    """Each point that can have this error: where time is short, the first, the middle and the last of each label."""
    last = Counter(label for label, _ in points)
    chosen = []
    for label, number in points:
        if not label.startswith(ERRORS[act]):
            continue
        if not THOROUGH and number not in (1, 2, last[label] // 2, last[label]):
            continue
        chosen.append(Cut(label, number, "before", act, stays=act != "EIO"))
        if act == "ENOSPC" and label.startswith(("write", "pwrite")):
            chosen.append(Cut(label, number, "half", act, stays=True))
    return chosen


class Judge:
    """What must hold after a run that something was refused to."""

    def __init__(self, home: Home) -> None:
        _make(home)
        self.original, self.bystanders = home.defined(), home.bystanders()

    def __call__(self, home: Home, tally: Tally, cut: Cut, done: Done) -> None:
        def expect(holds: object, words: str) -> None:
            if not holds:
                with tally.lock:
                    tally.faults.append(f"{cut}: {words}")

        tally.seen[f"ended with {done.status}"] += 1
        said = done.said
        expect(done.status in (0, 1, 2, 6, REFUSED), f"status {done.status}: {said[-1500:]}")
        for words in _TRACES:
            expect(words not in said, f"{words}: {said[max(0, said.find(words) - 300) :][:1500]}")
        if done.status != REFUSED:
            expect(_SENTENCE.search(said), f"no sentence: {said[-1000:]}")
        else:
            expect(home.defined() == self.original, "refused, and yet something was changed")
        images = {name: digest for name, digest in home.bystanders().items() if name.endswith(".img")}
        expect(images == {"web.img": self.bystanders["web.img"]}, f"the copy is not as it was: {sorted(images)}")
        made = sum(label == "libvirt defineXMLFlags" for label, _ in done.points)
        expect(made <= _intended(home), f"{made} definitions, {_intended(home)} of them in the journal")
        # there is room again
        strays = [name for name in leftovers(home) if cut.act != "EROFS"]
        expect(not strays, f"left behind: {strays}")
        for run in home.mended():
            undone = home.undo(run)
            tally.runs += 1
            expect(undone.status == 0, f"undo ends with {undone.status}: {undone.said}")
        expect(home.defined() == self.original, "undo does not give the definitions back")
        expect(home.bystanders() == self.bystanders, "undo does not give the files back")


def _intended(home: Home) -> int:
    """Changes of a definition that stand in a journal, begun or done."""
    found = 0
    for run in home.mended():
        for line in (run / "journal.jsonl").read_bytes().splitlines(keepends=True):
            entry = json.loads(line) if line.endswith(b"\n") else {}
            found += entry.get("event") == "intent" and entry["change"]["kind"] == "definition"
    return found


@pytest.mark.parametrize("act", ERRORS)
@pytest.mark.parametrize("name", ["fix", "rewrite"])
def test_refused_at_every_point(name: str, act: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    scenario = Scenario(name, lambda _: None, _fix if name == "fix" else _rewrite)
    with Nursery(tmp_path / "nursery") as nursery:
        judge = Judge(Home(tmp_path / "home", nursery))

    def choose(points: list[tuple[str, int]]) -> list[Cut]:
        own = points if name == "fix" else [one for one in points if "copies" in one[0]]
        return _cuts(act, own)

    tally = walk.walk(tmp_path, scenario, choose, _make, judge)
    assert not tally.faults, "\n".join([f"{len(tally.faults)} faults, {tally.counts}", *tally.faults])
    assert tally.cuts >= (1 if act == "EMFILE" and name == "rewrite" else 3)
    record.note(request.node.nodeid, tally.counts)


@pytest.mark.parametrize("size", ["8k", "16k", "24k", "32k", "64k"])
def test_a_small_filesystem_for_the_reports(size: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A real tmpfs that fills up in the middle of the journal, of the record, or of the pages."""
    require("tmpfs")
    uri = node(tmp_path, domain_xml(disk_xml("vda"), disk_xml("vdb"), running=False))
    reports = tmp_path / "reports"
    reports.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(reports)], check=True)
    try:
        done = audit(reports, "--fix", "--force", uri=uri)
        for words in _TRACES:
            assert words not in done.said, done.said
        assert done.status in (0, 1, 2, 6, REFUSED), done.said
        assert "No space left on device" in done.said or size == "64k", done.said
        assert done.status == REFUSED or _SENTENCE.search(done.stdout), done.said
        books = list(reports.glob("*/*/journal.jsonl"))
        for book in books:
            for line in book.read_bytes().splitlines(keepends=True):
                assert not line.endswith(b"\n") or json.loads(line)
        assert not list(reports.rglob(".*.new")), "half of a file was left"
    finally:
        subprocess.run(["umount", str(reports)], check=True)
    record.note(request.node.nodeid, {"runs": 1})


def test_reports_that_are_read_only(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Nothing can be recorded: nothing is changed, and one line says why."""
    require("tmpfs")
    uri = node(tmp_path, domain_xml(disk_xml("vda"), running=False))
    reports = tmp_path / "reports"
    reports.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(reports)], check=True)
    try:
        done = audit(reports, "--fix", "--force", uri=uri)
    finally:
        subprocess.run(["umount", str(reports)], check=True)
    assert done.status == REFUSED
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.said
    record.note(request.node.nodeid, {"runs": 1})


def _fill(path: Path, piece: bytes) -> None:
    """Append until there is no room."""
    with path.open("ab", buffering=0) as stream, suppress(OSError):
        while stream.write(piece):
            pass


def test_undo_on_a_full_disk(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What is taken back is written down after: where that fails it is told, and undo can be asked again."""
    require("tmpfs")
    uri = node(tmp_path, domain_xml(disk_xml("vda"), running=False))
    reports = tmp_path / "reports"
    reports.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(reports)], check=True)
    try:
        run = audit(reports, "--fix", "--force", uri=uri).folder
        _fill(reports / "filler", bytes(4096))
        _fill(run / "journal.jsonl", b"\n")  # nothing fits into its last page any more
        done = reclaim("undo", run)
        assert done.returncode in (1, 2), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "No space left on device" in done.stdout + done.stderr
        (reports / "filler").unlink()
        again = reclaim("undo", run)
        assert again.returncode in (0, 1, 6), again.stdout + again.stderr
        assert "Traceback" not in again.stderr
    finally:
        subprocess.run(["umount", str(reports)], check=True)
    record.note(request.node.nodeid, {"runs": 3})
