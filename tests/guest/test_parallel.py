"""--parallel on real guests: two that are off at the same time, and a run that ends right then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

from lab import daemons, host
from lab.demo import ROOT
from reclaim.base.verdict import Verdict
from reclaim.changes import power
from reclaim.definition.compare import same, storage_differences
from reclaim.definition.domain import Definition
from reclaim.engine import journal
from reclaim.engine.overlap import SideBySide
from reclaim.engine.part import Part
from reclaim.engine.undo import undo
from reclaim.handles.guest import Guest
from tests.guest.tiny import Tiny, made
from tests.support import engine, hypervisor_of, requirement, subject

pytestmark = pytest.mark.guest

#: a plugin that starts neither guest again before both are off, and ends the run then if it is given a signal
TOGETHER = """
import os
import threading

def pytest_configure():
    from reclaim.changes import power
    from reclaim.processes import worker
    both, number = threading.Barrier(2), int(os.environ["CUT_BY"])
    start, seen = power._start, set()
    def together(guest):
        if guest.name not in seen:
            seen.add(guest.name)
            is_first = both.wait(120) == 0
            if is_first and number:
                os.kill(os.getpid(), number)
            if number:
                worker.sleep(120)
        start(guest)
    power._start, power._BLIND_SECONDS = together, 1
"""


@dataclass
class Pair:
    """Two guests with a disk that takes no discards, and the definitions that they run on."""

    tinies: list[Tiny]
    reports: Path
    booted: dict[str, Definition]

    def run(self, *options: str, number: int = 0, together: bool = False) -> subprocess.CompletedProcess[str]:
        plugins = self.reports.parent
        (plugins / "together.py").write_text(TOGETHER, encoding="utf-8")
        policy = plugins / "inventory.toml"
        policy.write_text("[policy]\nshutdown_seconds = 60\n", encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": str(plugins), "CUT_BY": str(int(number))}
        command = [sys.executable, "-m", "pytest", *(["-p", "together"] if together else []), "checks/"]
        command += ["--guests", ",".join(tiny.name for tiny in self.tinies), *options]
        command += ["--reports", str(self.reports), "-k", "discard or live", "--inventory", str(policy)]
        return subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, check=False, timeout=400)

    def mend(self, number: int = 0) -> subprocess.CompletedProcess[str]:
        """Mend both side by side; *number* is the signal that comes when both are off."""
        options = ("--fix", "--force", "--restart", "--parallel", "2")
        return self.run(*options, number=number, together=True)

    @property
    def latest(self) -> Path:
        """The folder of the run that was begun last."""
        return max(path for path in self.reports.glob("*/*") if not path.is_symlink())

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """The guests and verdicts of the rows about power, in their order."""
        rows = json.loads((self.latest / "results.json").read_text(encoding="utf-8"))["results"]
        return [(row["guest"], row["verdict"]) for row in rows if row["requirement"] == "live-definition"]

    def run_on_what_booted(self, *, defined: bool = True) -> bool:
        """True if both run on the definitions that they were started from first, and these are *defined*."""
        for tiny in self.tinies:
            booted = self.booted[tiny.name]
            if not tiny.domain.isActive() or storage_differences(_live(tiny), booted):
                return False
            if defined and not same(_defined(tiny), booted):
                return False
        return True

    @property
    def run_with_discard(self) -> bool:
        return all(bool(tiny.domain.isActive()) and "unmap" in tiny.domain.XMLDesc(0) for tiny in self.tinies)


def _live(tiny: Tiny) -> Definition:
    return Definition(tiny.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE))


def _defined(tiny: Tiny) -> Definition:
    return Definition(tiny.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with made("left", machine="pc-i440fx-7.2") as left, made("right", machine="pc-i440fx-7.2") as right:
        tinies = [left, right]
        yield Pair(tinies, tmp_path / "reports", {tiny.name: _defined(tiny) for tiny in tinies})


def test_both_are_off_at_once_and_undo_takes_both_back(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    done = pair.mend()
    names = [tiny.name for tiny in pair.tinies]
    assert pair.verdicts == [(name, "fixed") for name in names], done.stdout + done.stderr
    assert pair.run_with_discard
    record = journal.read(pair.latest / journal.NAME)
    assert record.ended
    assert [entry.seq for entry in record.entries] == list(range(1, len(record.entries) + 1))
    assert {entry.state for entry in record.entries} == {"done"}
    mended = pair.latest
    again = pair.run("--fix", "--force", "--restart", "--parallel", "2")
    assert [verdict for _, verdict in pair.verdicts] == ["compliant"] * 2, again.stdout
    assert not (pair.latest / journal.NAME).exists()
    monkeypatch.setattr(power, "_BLIND_SECONDS", 1)
    assert undo(mended, lambda _text: None)
    assert all(same(_defined(tiny), pair.booted[tiny.name]) for tiny in pair.tinies)


def test_killed_while_both_are_off_the_next_fix_starts_both(pair: Pair) -> None:
    done = pair.mend(signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL, done.stdout
    died = pair.latest
    assert not any(tiny.domain.isActive() for tiny in pair.tinies)
    assert len(journal.read(died / journal.NAME).power_cycles) == 2
    told = pair.run().stdout
    assert all(f"{tiny.name}: it is off since the run {died.name}" in told for tiny in pair.tinies)
    done = pair.run("--fix")
    assert done.stdout.count("finished the power cycle of the run that died") == 2, done.stdout
    for tiny in pair.tinies:
        assert not storage_differences(_live(tiny), pair.booted[tiny.name])
    assert journal.read(died / journal.NAME).ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_both_are_off_both_are_up_on_what_booted(pair: Pair, number: signal.Signals) -> None:
    done = pair.mend(number)
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr
    assert pair.run_on_what_booted(), done.stdout
    assert [verdict for _, verdict in pair.verdicts] == ["noncompliant"] * 2
    record = journal.read(pair.latest / journal.NAME)
    assert record.ended
    cycles = [entry.state for entry in record.entries if isinstance(entry.change, power.PowerCycle)]
    assert cycles == ["failed"] * 2


def test_libvirtd_dies_while_both_are_off(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both connect again, and go on: QEMU minds nothing of it."""
    if not daemons.is_ours("libvirtd"):
        pytest.skip("libvirtd was not started by the lab: it is not the test's to kill")
    assert pair.run("--fix", "--force").returncode == 1
    hypervisor = hypervisor_of(pair.tinies[0].guest(shutdown_seconds=60))
    names = [tiny.name for tiny in pair.tinies]
    guests = hypervisor.guests[:] = [guest for guest in hypervisor.guests if guest.name in names]
    run = engine(hypervisor, tmp_path, restart=True, force=True)
    both, start, off = threading.Barrier(2), power._start, set[str]()
    restarting, heard = threading.Lock(), list[str]()

    def together(guest: Guest) -> None:
        if guest.name not in off:
            off.add(guest.name)
            if both.wait(120) == 0:
                assert daemons.kill("libvirtd")
            both.wait(120)
        start(guest)

    def hear(text: str) -> None:
        heard.append(text)
        if "libvirt closed the connection" in text:
            with restarting:
                host.ensure_libvirt()

    monkeypatch.setattr(power, "_start", together)
    monkeypatch.setattr(power, "_BLIND_SECONDS", 1)
    hypervisor.progress = hear
    for guest in guests:
        guest.history.append(pair.booted[guest.name].xml)
    part, live = Part(hypervisor, guests, run, tmp_path), requirement("live-definition")
    mended = SideBySide([(part, live, subject(guest)) for guest in guests], 2)
    assert mended.start() == []
    results = [mended.result(live, subject(guest)) for guest in guests]
    mended.stop()
    assert any("libvirt closed the connection" in text for text in heard)
    assert [result.verdict for result in results] == [Verdict.FIXED] * 2, [result.reason for result in results]
    assert pair.run_with_discard
    run.journal.end()
    assert journal.read(run.journal.path).ended
