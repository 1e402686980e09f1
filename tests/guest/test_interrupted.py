"""A run that is cut short in the middle of a power cycle: in the end the guest runs, and on what."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab import daemons, host
from lab.demo import ROOT
from reclaim.base.verdict import Verdict
from reclaim.changes import power
from reclaim.changes.power import PowerCycle
from reclaim.definition.compare import same, storage_differences
from reclaim.definition.domain import Definition
from reclaim.engine import journal
from reclaim.engine.undo import undo
from reclaim.handles.guest import Guest
from tests.faults import record as counts
from tests.guest.tiny import Tiny, made
from tests.support import definition_of, engine, requirement, subject

pytestmark = pytest.mark.guest

#: a plugin by which a run gets a signal when it says a word; nobody can look into these guests: little is waited for
CUT = """
import os

def cut_at_record(number, when):
    # the run dies before or after it writes this record of its journal
    from reclaim.engine.journal import Journal
    write, written = Journal._write, []
    def count(self, entry):
        written.append(entry)
        if len(written) == number and when == "before":
            os.kill(os.getpid(), 9)
        write(self, entry)
        if len(written) == number:
            os.kill(os.getpid(), 9)
    Journal._write = count

def pytest_configure():
    from reclaim.changes import power
    from reclaim.report import terminal
    word, number = os.environ["CUT_AT"], int(os.environ["CUT_BY"])
    said, starts, press = terminal.Progress.__call__, power._start, power._press_button
    def hear(text):
        if word in text:
            os.kill(os.getpid(), number)
    def say(self, text):
        said(self, text)
        hear(text)
    def start(*arguments):
        starts(*arguments)
        hear("it was started")
    def ask(guest):
        asked = press(guest)
        hear("it was asked")
        return asked
    power._BLIND_SECONDS = 1
    power._start, power._press_button = start, ask
    if os.environ.get("CUT_RECORD"):
        number, when = os.environ["CUT_RECORD"].split()
        cut_at_record(int(number), when)
    terminal.Progress.__call__ = say
"""


@dataclass
class Life:
    """A guest that was mended and waits for its power cycle."""

    tiny: Tiny
    reports: Path
    booted: Definition
    wanted: Definition

    def run(
        self, *options: str, word: str = "never", number: int = 0, cut: str = ""
    ) -> subprocess.CompletedProcess[str]:
        plugins = self.reports.parent
        (plugins / "cut.py").write_text(CUT, encoding="utf-8")
        policy = plugins / "inventory.toml"
        policy.write_text("[policy]\nshutdown_seconds = 20\n", encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": str(plugins), "CUT_AT": word, "CUT_BY": str(int(number))}
        env["CUT_RECORD"] = cut
        command = [sys.executable, "-m", "pytest", "-p", "cut", "checks/", "--guests", self.tiny.name, *options]
        command += ["--reports", str(self.reports), "-k", "discard or live", "--inventory", str(policy)]
        return subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, check=False, timeout=300)

    def undo(self, run: Path) -> tuple[bool, str]:
        """What `python -m reclaim undo RUN` does, with little patience."""
        said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(power, "_BLIND_SECONDS", 1)
            return undo(run, said.append), "\n".join(said)

    @property
    def latest(self) -> Path:
        """The folder of the run that was begun last."""
        return max(path for path in self.reports.glob("*/*") if not path.is_symlink())

    @property
    def power(self) -> dict[str, Any]:
        rows = json.loads((self.latest / "results.json").read_text(encoding="utf-8"))["results"]
        (found,) = [row for row in rows if row["requirement"] == "live-definition"]
        return dict(found)

    @property
    def defined(self) -> Definition:
        return Definition(self.tiny.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))

    def runs_on(self, definition: Definition) -> bool:
        """Does it run on *definition*, and is that defined?"""
        live = Definition(self.tiny.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))
        is_on = bool(self.tiny.domain.isActive()) and not storage_differences(live, definition)
        return is_on and same(self.defined, definition)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with made("cut", machine="pc-i440fx-7.2") as tiny:
        guest = tiny.guest()
        found = Life(tiny, tmp_path / "reports", definition_of(guest), definition_of(guest))
        assert found.run("--fix", "--force").returncode == 1
        found.wanted = found.defined
        assert not same(found.booted, found.wanted)
        assert found.power["verdict"] == "pending"
        yield found


def test_killed_while_the_guest_is_off(life: Life, request: pytest.FixtureRequest) -> None:
    """Audits say it first, and fail; the next --fix starts it on the definition that booted."""
    done = life.run("--fix", "--force", "--restart", word="starting", number=signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL
    died = life.latest
    assert not life.tiny.domain.isActive()

    done = life.run()
    assert done.returncode == 1, done.stdout
    assert f"{life.tiny.name}: it is off since the run {died.name}, which did not finish its power cycle" in done.stdout
    assert f"reclaim undo {died}" in done.stdout
    assert not life.tiny.domain.isActive()
    assert life.power["verdict"] == "noncompliant"
    assert f"off since the run {died.name}" in life.power["reason"]

    done = life.run("--fix")
    assert "finished the power cycle of the run that died" in done.stdout
    assert "rolled back to the definition that booted, and runs again" in done.stdout
    assert life.tiny.domain.isActive()
    assert not storage_differences(Definition(life.tiny.domain.XMLDesc()), life.booted)
    assert life.power["verdict"] != "compliant"  # what the run itself then mended waits for the next start
    assert journal.read(died / journal.NAME).ended

    done = life.run("--fix", "--force", "--restart")
    assert life.power["verdict"] == "fixed", done.stdout
    assert life.runs_on(life.wanted)
    counts.note(request.node.nodeid, {"kills": 1})


def test_undo_starts_what_a_killed_run_left_off(life: Life) -> None:
    life.run("--fix", "--force", "--restart", word="starting", number=signal.SIGKILL)
    died = life.latest
    assert not life.tiny.domain.isActive()
    done, said = life.undo(died)
    assert done
    assert "rolled back to the definition that booted, and runs again" in said
    assert life.runs_on(life.booted)
    assert "off since" not in life.run().stdout
    assert life.undo(died) == (True, "")


@pytest.mark.parametrize("word", ["shutting down", "it was started"])
def test_killed_before_and_after(life: Life, word: str) -> None:
    """It was not asked yet, or had been started again: then it is well as it is."""
    done = life.run("--fix", "--force", "--restart", word=word, number=signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL
    died = life.latest
    ran = life.tiny.domain.ID()
    assert ran > 0
    done = life.run("--fix")
    assert "finished the power cycle of the run that died" in done.stdout
    assert life.tiny.domain.ID() == ran
    assert journal.read(died / journal.NAME).ended
    done = life.run("--fix", "--force", "--restart")
    assert life.power["verdict"] in ("fixed", "compliant"), done.stdout
    assert life.runs_on(life.wanted)


#: begin; the definition, intended and done; the power cycle, intended and done; end
_RECORDS = 6


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Life]:
    with made("record", machine="pc-i440fx-7.2") as tiny:
        booted = definition_of(tiny.guest())
        yield Life(tiny, tmp_path / "reports", booted, booted)


@pytest.mark.long
@pytest.mark.parametrize("then", ["undo", "fix"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("record", range(1, _RECORDS + 1))
def test_killed_at_each_record(
    untouched: Life, record: int, when: str, then: str, request: pytest.FixtureRequest
) -> None:
    """The whole road in one run: whichever record it dies at, the guest runs in the end, and undo gives all back."""
    life, original = untouched, untouched.defined.xml
    done = life.run("--fix", "--force", "--restart", cut=f"{record} {when}")
    assert done.returncode == -signal.SIGKILL, done.stdout
    died = life.latest
    book = died / journal.NAME
    assert life.tiny.domain.isActive() or book.exists()
    changed = book.exists() and bool(journal.read(book).entries) and not journal.read(book).ended
    done = life.run()
    assert (died.name in done.stdout) == changed, done.stdout
    if then == "fix":
        done = life.run("--fix", "--force", "--restart")
        assert life.power["verdict"] in ("fixed", "compliant"), done.stdout
        assert life.tiny.domain.isActive()
        assert life.defined.xml != original
        again = life.run("--fix", "--force", "--restart")
        assert again.returncode == 0, again.stdout
    for run in sorted(life.reports.glob(f"*/*/{journal.NAME}"), reverse=True):
        if not run.parent.is_symlink():
            undone, said = life.undo(run.parent)
            assert undone, said
            undone, said = life.undo(run.parent)
            assert undone
            assert not said or said.endswith("that run changed nothing")
    assert life.defined.xml == original
    if not life.tiny.domain.isActive():
        life.tiny.start()
    counts.note(request.node.nodeid, {"kills": 1})


@pytest.mark.parametrize(
    ("number", "word", "words"),
    [
        (signal.SIGINT, "shutting down", "interrupted; it was not shut down"),
        (signal.SIGINT, "it was asked", "it was started again on the definition that booted"),
        (signal.SIGTERM, "starting", "it was started again on the definition that booted"),
        (signal.SIGHUP, "it was started", "interrupted before it came back"),
    ],
    ids=["before", "asked", "off", "started"],
)
def test_stopped_in_the_middle(life: Life, number: signal.Signals, word: str, words: str) -> None:
    """A guest that was asked to go off is waited for, and started on the definition that booted."""
    ran = life.tiny.domain.ID()
    done = life.run("--fix", "--force", "--restart", word=word, number=number)
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr
    assert words in life.power["reason"], done.stdout
    assert json.loads((life.latest / "results.json").read_text())["run"]["cut_short"] is True
    assert life.tiny.domain.isActive()
    if word == "shutting down":
        assert life.tiny.domain.ID() == ran
    else:
        assert life.runs_on(life.wanted if word == "it was started" else life.booted)
    assert journal.read(life.latest / journal.NAME).ended == (word != "it was started")

    done = life.run()
    assert ("died while it waited for the guest to come back" in done.stdout) == (word == "it was started")
    done = life.run("--fix", "--force", "--restart")
    assert ("finished the power cycle" in done.stdout) == (word == "it was started")
    assert life.power["verdict"] == ("compliant" if word == "it was started" else "fixed"), done.stdout
    assert life.runs_on(life.wanted)


def _restarted_at(guest: Guest, word: str, kill: Callable[[], bool]) -> list[str]:
    """Let libvirtd die when reclaim says *word*, and be there again when it has noticed."""
    said: list[str] = []

    def hear(text: str) -> None:
        said.append(text)
        if word in text and "libvirtd is dead" not in said:
            assert kill()
            said.append("libvirtd is dead")
        elif "libvirt closed the connection" in text:
            host.ensure_libvirt()

    guest.hypervisor.progress = hear
    return said


@pytest.mark.parametrize("word", ["shutting down", "starting"])
def test_libvirtd_dies_in_the_middle(
    tmp_path: Path, life: Life, word: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if not daemons.is_ours("libvirtd"):
        pytest.skip("libvirtd was not started by the lab: it is not the test's to kill")
    monkeypatch.setattr(power, "_BLIND_SECONDS", 1)
    guest = life.tiny.guest()
    guest.history.append(life.booted.xml)
    before = os.getpid(), life.tiny.domain.ID()
    said = _restarted_at(guest, word, lambda: daemons.kill("libvirtd"))
    run = engine(guest.hypervisor, tmp_path, restart=True, force=True)
    result = run.run(requirement("live-definition"), subject(guest))
    assert "libvirtd is dead" in said
    assert result.verdict is Verdict.FIXED, result.reason
    assert life.tiny.domain.ID() != before[1]
    assert life.runs_on(life.wanted)
    run.journal.end()
    assert journal.read(run.journal.path).ended
    counts.note(request.node.nodeid, {"deaths of libvirtd": 1})


def test_libvirtd_dies_between_two_checks(tmp_path: Path, life: Life) -> None:
    """The next check finds it gone, waits for it and judges."""
    if not daemons.is_ours("libvirtd"):
        pytest.skip("libvirtd was not started by the lab: it is not the test's to kill")
    guest = life.tiny.guest()
    auditing = engine(guest.hypervisor, tmp_path, "audit")
    assert guest.hypervisor.name
    assert daemons.kill("libvirtd")
    host.ensure_libvirt()
    assert auditing.run(requirement("disk-discard"), subject(guest, "vda")).verdict is Verdict.COMPLIANT
    assert auditing.run(requirement("live-definition"), subject(guest)).verdict is Verdict.NONCOMPLIANT


def test_a_libvirt_that_stays_away_leaves_a_journal_to_be_finished(
    tmp_path: Path, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not daemons.is_ours("libvirtd"):
        pytest.skip("libvirtd was not started by the lab: it is not the test's to kill")
    monkeypatch.setattr(power, "_LIBVIRT_SECONDS", 0)
    guest = life.tiny.guest()
    guest.history.append(life.booted.xml)
    guest.hypervisor.progress = lambda text: None if text.endswith("down") else assert_killed()
    run = engine(guest.hypervisor, tmp_path, restart=True, force=True)

    def assert_killed() -> None:
        daemons.kill("libvirtd")

    result = run.run(requirement("live-definition"), subject(guest))
    run.journal.end()
    host.ensure_libvirt()
    assert "libvirt closed the connection" in result.reason, result.reason
    record = journal.read(run.journal.path)
    assert not record.ended
    ((_, cycle),) = record.power_cycles
    assert isinstance(cycle, PowerCycle)
    assert life.undo(run.journal.path.parent)[0]
    assert life.runs_on(life.booted)
