"""No room, a disk that fails, a folder that is read-only: what was found is told, and nothing is changed unrecorded."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.base.errors import JournalLost
from reclaim.base.verdict import Verdict
from reclaim.engine import journal, undo
from reclaim.engine.engine import Engine
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from reclaim.record.results import NAME
from tests.command import FLEET, ROOT, Outcome, audit
from tests.support import (
    Inside,
    definition_of,
    disk_xml,
    domain_xml,
    engine,
    hypervisor_of,
    inhabited,
    node,
    opened,
    walk,
)

if TYPE_CHECKING:
    from reclaim.handles.guest import Guest

NO_MOUNT = os.geteuid() != 0 or bool(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode
)
SHARED = f"test:///default?room-{os.getpid()}"


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A tmpfs with the options that the test names."""
    if NO_MOUNT:
        pytest.skip("nothing can be mounted here")
    home = tmp_path / "small"
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"mode=0755,{request.param}", "tmpfs", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    yield home
    subprocess.run(["umount", str(home)], check=True)


def _is_told_from_memory(outcome: Outcome) -> None:
    """The findings and the sentence, no traceback, and no pointer to what is not there."""
    assert "Traceback" not in outcome.said
    assert "INTERNALERROR" not in outcome.said
    assert "a fault in reclaim" not in outcome.said
    assert "6 of 8 guests do not pass the checks that ran" in outcome.stdout
    assert "disk-discard: driver discard is absent" in outcome.stdout
    pointers = [line for line in outcome.lines if line.startswith(("report: ", "-")) and ".html" in line]
    assert all(Path(re.findall(r"/[^ ]*\.html", line)[0]).resolve().is_file() for line in pointers), pointers
    assert len(pointers) in (0, 1)


SIZES = [
    *(f"size={kib}k" for kib in (4, 12, 16, 20, 24, 32, 64)),
    *(f"size=1m,nr_inodes={count}" for count in (2, 4, 5, 6, 8)),
]


@pytest.mark.parametrize("small", SIZES, indirect=True)
def test_an_audit_without_room_tells_what_it_found(small: Path) -> None:
    outcome = audit(small, "--definitions-only")
    assert outcome.status == 1
    _is_told_from_memory(outcome)
    troubles = [line for line in outcome.lines if "No space left on device" in line]
    is_whole = (small / "index.html").exists() and list(small.glob("*/*/report.html"))
    assert is_whole or 0 < len(troubles) <= 2, outcome.said
    assert not list(small.rglob("*.new"))


@pytest.mark.parametrize("small", SIZES, indirect=True)
def test_a_fix_without_room_changes_nothing_that_it_cannot_write_down(small: Path) -> None:
    outcome = audit(small, "--definitions-only", "--fix")
    assert "Traceback" not in outcome.said
    assert "a fault in reclaim" not in outcome.said
    if outcome.status == 4:
        assert "cannot be made: No space left on device" in outcome.said
        assert not list(small.glob("*/*/journal.jsonl"))
        return
    assert outcome.status == 1
    found, troubles = journal.journals_below(small / "test-driver")
    assert troubles == []
    counted = re.search(r"^(\d+) of 18 findings w(?:as|ere) fixed$", outcome.stdout, re.MULTILINE)
    assert counted is not None
    fixed = int(counted[1])
    told = [entry for record in found for entry in record.entries if entry.state == "done"]
    assert len(told) in (fixed, fixed - 1)
    assert sum(len(record.entries) for record in found) == fixed
    lost = [line for line in outcome.lines if "the journal cannot be written" in line]
    if fixed < 5:
        assert len([line for line in lost if line.endswith("nothing more was changed")]) == 1
        assert re.search(r"^\d+ are not fixed: nothing more is changed in this run$", outcome.stdout, re.MULTILINE)
    assert len(lost) <= 3
    assert ("undo:   " in outcome.stdout) == (fixed > 0)


@pytest.mark.parametrize("small", ["size=1m"], indirect=True)
@pytest.mark.parametrize("options", [[], ["--plan"], ["--fix"]], ids=["audit", "plan", "fix"])
def test_reports_that_can_only_be_read_cost_the_record_alone(small: Path, options: list[str]) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    outcome = audit(small, "--definitions-only", *options)
    if options == ["--fix"]:
        assert outcome.status == 4
        assert "cannot be made: Read-only file system" in outcome.said
        return
    assert outcome.status == 1
    _is_told_from_memory(outcome)
    (line,) = (line for line in outcome.lines if "Read-only" in line)
    assert line.startswith(f"reclaim: there is no record of this run: --reports {small}: {small}/test-driver/")
    assert line.endswith(" cannot be made: Read-only file system")


@pytest.mark.parametrize("small", ["size=1m"], indirect=True)
def test_a_run_that_found_nothing_and_could_not_say_so_did_not_succeed(small: Path, tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml())
    assert audit(small, "-k", "discard or access", "--definitions-only", uri=uri).status in (0, 5)
    good = node(tmp_path, domain_xml(disk_xml(driver="discard='unmap'")))
    assert audit(small, "-k", "discard", "--definitions-only", uri=good).status == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    assert audit(small, "-k", "discard", "--definitions-only", uri=good).status == 1


# A call that fails ------------------------------------------------------------------------------

FAILS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EDQUOT": errno.EDQUOT}


class Failing:
    """From its *number*-th call on, one function of os fails, where its descriptor or path is of a journal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int, code: int) -> None:
        self.calls, self.real = 0, getattr(os, name)
        self.number, self.code = number, code
        monkeypatch.setattr(os, name, self)

    def __call__(self, first: Any, *rest: Any, **more: Any) -> Any:
        path = str(Path(f"/proc/self/fd/{first}").readlink()) if isinstance(first, int) else os.fspath(first)
        if "journal" in path:
            self.calls += 1
            if self.calls >= self.number:
                raise OSError(self.code, os.strerror(self.code))
        return self.real(first, *rest, **more)


def _guest(folder: Path, *, running: bool = False) -> Guest:
    return opened(folder, domain_xml(disk_xml("vda"), disk_xml("vdb"), running=running)).guests[0]


@pytest.mark.parametrize("code", FAILS.values(), ids=FAILS)
@pytest.mark.parametrize("call", ["open", "write", "fsync"])
@pytest.mark.parametrize("number", range(1, 12))
def test_every_call_may_fail_and_no_change_is_made_unrecorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int
) -> None:
    guest = _guest(tmp_path)
    before = definition_of(guest).xml
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    with monkeypatch.context() as patch:
        failing = Failing(patch, call, number, code)
        rows = walk(fixer, guest, "disk-discard", "scsi-controller", "disk-bus")
    made = [row for row in rows if any(change.applied for change in row.changes)]
    path = fixer.journal.path
    record = journal.read(path) if path.exists() else None
    assert len(record.entries if record else []) == len(made), "what was changed is in the journal, and nothing else"
    if failing.calls < number:
        assert len(made) == len(rows) == 5
        return
    assert os.strerror(code) in fixer.stopped
    told = [row for row in rows if os.strerror(code) in row.reason]
    assert len(told) == 1
    assert "nothing more is changed in this run" in told[0].reason
    short = [row for row in rows if row not in told and row.verdict is Verdict.NONCOMPLIANT]
    assert all(row.reason.endswith("; not fixed: nothing more is changed in this run") for row in short)
    assert all(row.changes == [] for row in short)
    if record is None or not record.entries:
        assert definition_of(guest).xml == before
        return
    assert all(entry.state == "done" for entry in record.entries[:-1])
    said: list[str] = []
    assert undo._undo(record, hypervisor_of(guest), said.append)
    assert definition_of(guest).xml == before


def test_a_change_that_was_made_and_not_written_down_is_told_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = _guest(tmp_path)
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    with monkeypatch.context() as patch:
        Failing(patch, "fsync", 4, errno.EIO)  # begin, the folder, the intent
        first, second = walk(fixer, guest, "disk-discard")
    assert first.verdict is Verdict.FIXED
    assert "applied, but not recorded in the journal: nothing more is changed in this run: the" in first.reason
    assert "Input/output error" in first.reason
    assert second.verdict is Verdict.NONCOMPLIANT
    assert [entry.state for entry in journal.read(fixer.journal.path).entries] == ["intended"]


def test_a_guest_is_not_started_where_that_cannot_be_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    guest = inhabited(tmp_path, Inside(), disk_xml(), channel, running=False)
    book = journal.Journal(tmp_path / "journal.jsonl", "test:///x", "audit")
    fixer = Engine(guest.hypervisor, "audit", book, boot_stopped=True)
    with monkeypatch.context() as patch:
        Failing(patch, "write", 1, errno.ENOSPC)
        fixer.visit(guest)
    assert not guest.domain.isActive()
    assert "the journal cannot be written" in guest.unstarted
    fixer.leave(guest)


@pytest.mark.parametrize("number", range(1, 8))
def test_an_undo_that_cannot_write_stops_and_goes_on_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    guest = _guest(tmp_path)
    before = definition_of(guest).xml
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    walk(fixer, guest, "disk-discard", "scsi-controller", "disk-bus")
    fixer.journal.end()
    said: list[str] = []
    with monkeypatch.context() as patch:
        Failing(patch, "write", number, errno.ENOSPC)
        try:
            whole = undo._undo(journal.read(fixer.journal.path), hypervisor_of(guest), said.append)
        except JournalLost:
            assert number == 1
            whole = False
    assert whole == (number > 6)
    if 1 < number < 7:
        assert said[-1].startswith("stopped here: the journal cannot be written: ")
        assert said[-1].endswith(": fix that, and undo again")
    assert undo._undo(journal.read(fixer.journal.path), hypervisor_of(guest), said.append)
    assert definition_of(guest).xml == before


def test_undo_of_a_run_on_a_full_disk_says_what_cannot_be_recorded(tmp_path: Path) -> None:
    connection = libvirt.open(SHARED)
    domain = connection.defineXML(domain_xml(disk_xml("vda"), running=False, name="room"))
    guest = next(one for one in connect(SHARED, None, Inventory()).guests if one.name == "room")
    fixer = engine(guest.hypervisor, tmp_path, force=True)
    walk(fixer, guest, "disk-discard")
    (fixer.journal.path.parent / NAME).write_text("no record\n")
    said: list[str] = []
    assert undo.undo(fixer.journal.path.parent, said.append)
    assert said[-1].startswith("note: the record of that run could not be updated: ")
    domain.undefine()


# Other places that take no report ---------------------------------------------------------------


def _as_nobody(reports: Path, *options: str) -> Outcome:
    """Run as a user who may not write in *reports*."""
    user = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    where = ("--uri", FLEET, "--reports", str(reports), "--definitions-only")
    done = subprocess.run(
        [*user, sys.executable, "-m", "pytest", "checks/", *where, *options],
        cwd=ROOT,
        env={
            **os.environ,
            "COLUMNS": "160",
            "HOME": str(reports.parent / "home"),
            "XDG_RUNTIME_DIR": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, reports)


def _is_open_to_all(*paths: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for path in paths for folder in (path, *path.parents) if folder.is_dir())


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Callable[..., Outcome]]:
    """Runs with reports in a folder in which we may not write."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    if os.geteuid() != 0:
        yield lambda *options: audit(folder, "--definitions-only", *options)
    else:
        for parent in tmp_path.parents:
            if parent.name.startswith(("pytest-", tmp_path.name[:4])):
                parent.chmod(parent.stat().st_mode | 0o011)
        tmp_path.chmod(0o711)
        (tmp_path / "home").mkdir(mode=0o700)
        os.chown(tmp_path / "home", 65534, 65534)
        if not _is_open_to_all(folder, ROOT, Path(sys.executable).parent):
            pytest.skip("another user cannot go there")
        yield lambda *options: _as_nobody(folder, *options)
    folder.chmod(0o755)


@pytest.mark.parametrize("options", [[], ["--plan"]], ids=["audit", "plan"])
def test_a_folder_without_rights_costs_the_record_alone(locked: Callable[..., Outcome], options: list[str]) -> None:
    outcome = locked(*options)
    assert outcome.status == 1, outcome.said
    _is_told_from_memory(outcome)
    (line,) = (line for line in outcome.lines if "Permission denied" in line)
    assert line.startswith("reclaim: there is no record of this run: --reports ")


def test_a_fix_into_a_folder_without_rights_is_refused(locked: Callable[..., Outcome]) -> None:
    outcome = locked("--fix")
    assert outcome.status == 4, outcome.said
    assert "cannot be made: Permission denied" in outcome.said


@pytest.mark.parametrize("options", [[], ["--plan"]], ids=["audit", "plan"])
def test_a_file_in_place_of_the_hypervisors_folder_costs_the_record_alone(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "test-driver").write_text("mine", encoding="ascii")
    outcome = audit(tmp_path, "--definitions-only", *options)
    assert outcome.status == 1
    _is_told_from_memory(outcome)
    assert len([line for line in outcome.lines if "there is no record of this run" in line]) == 1
    assert (tmp_path / "test-driver").read_text(encoding="ascii") == "mine"


def test_a_fix_past_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test-driver").write_text("mine", encoding="ascii")
    outcome = audit(tmp_path, "--definitions-only", "--fix")
    assert outcome.status == 4
    assert "cannot be made" in outcome.said


def test_reports_that_are_a_file_are_refused_before_the_run(tmp_path: Path) -> None:
    target = tmp_path / "reports"
    target.write_text("mine", encoding="ascii")
    outcome = audit(target, "--definitions-only")
    assert outcome.status == 4
    assert f"--reports {target}: " in outcome.stderr
    assert target.read_text(encoding="ascii") == "mine"


#: what happens to the folder of a run while it judges
_MEANWHILE = {
    "gone": "shutil.rmtree(folder)",
    "gone with its parent": "shutil.rmtree(folder.parent)",
    "a file": "shutil.rmtree(folder); folder.write_text('mine')",
    "a link to nowhere": "shutil.rmtree(folder); folder.symlink_to('/nonexistent/x')",
    "its record is a folder": "(folder / 'results.json').mkdir(); (folder / 'results.json/x').touch()",
    "its page is a folder": "(folder / 'report.html').mkdir(); (folder / 'report.html/x').touch()",
}
_PLUGIN = """
import shutil
from pathlib import Path

def pytest_runtest_logfinish(nodeid):
    if "wiki" in nodeid:
        for folder in Path(REPORTS).glob("*/*-*"):
            if not folder.is_symlink() and not MARK.exists():
                MARK.touch()
                ACT
"""


@pytest.mark.parametrize("name", _MEANWHILE)
@pytest.mark.parametrize("options", [[], ["--fix"]], ids=["audit", "fix"])
def test_a_folder_that_changes_under_a_run_loses_no_finding(tmp_path: Path, name: str, options: list[str]) -> None:
    text = _PLUGIN.replace("REPORTS", repr(str(tmp_path / "reports"))).replace("ACT", _MEANWHILE[name])
    (tmp_path / "meanwhile.py").write_text(text.replace("MARK", f"Path({str(tmp_path / 'mark')!r})"), encoding="utf-8")
    path = f"{tmp_path}:{ROOT}"
    outcome = audit(tmp_path / "reports", "--definitions-only", "-p", "meanwhile", *options, env={"PYTHONPATH": path})
    assert (tmp_path / "mark").exists()
    assert outcome.status == 1, outcome.said
    assert "Traceback" not in outcome.said
    assert "a fault in reclaim" not in outcome.said
    assert "6 of 8 guests do not pass the checks that ran" in outcome.stdout
    assert "18 findings were fixed" in outcome.stdout if options else "disk-discard: driver discard" in outcome.stdout
    pages = re.findall(r"(/[^ ]*\.html)", outcome.stdout)
    named = [page for page in pages if f"report: {page}" in outcome.stdout or f"file://{page}" in outcome.stdout]
    assert all(Path(page).is_file() for page in named)
    troubles = [line for line in outcome.lines if line.startswith("reclaim: ") and "mounted" not in line]
    words = ("no record of this run", "cannot be written", "nor can ours be written")
    assert any(word in line for line in troubles for word in words), troubles
    ways_back = [line for line in outcome.lines if line.startswith("undo:   ")]
    assert all((Path(line.split()[-1]) / "journal.jsonl").is_file() for line in ways_back)
