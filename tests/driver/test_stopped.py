"""A run that is told to stop ends with its record, the documented status, and no process left, wherever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import FLEET, ROOT, Outcome, audit
from tests.support import disk_xml, domain_xml, executable, node

_SECONDS = 60
_SIGNALS = ("SIGTERM", "SIGHUP", "SIGINT")
#: a tool that never ends, with a child of its own: it writes down both, and then waits
_SLOW = """#!/bin/sh
sleep 1000 &
echo $$ $! >>"LOG"
wait
"""


def _stopped(reports: Path, hook: str, *arguments: str) -> Outcome:
    return audit(reports, "-p", "tests.driver.stopper", *arguments, env={"STOP_AT": hook})


def _folders(reports: Path) -> list[Path]:
    return [path for path in reports.glob("*/*") if not path.is_symlink()]


@pytest.mark.parametrize("name", _SIGNALS)
@pytest.mark.parametrize("hook", ["itemcollected", "collection_finish", "logreport"])
def test_what_was_judged_is_recorded(tmp_path: Path, hook: str, name: str) -> None:
    done = _stopped(tmp_path / "reports", f"{hook}:{name}")
    assert done.status == 2
    assert done.document["run"]["cut_short"]
    assert len(done.document["results"]) == (5 if hook == "logreport" else 0)
    assert all(row["reason"] or row["evidence"] for row in done.document["results"])
    assert "INTERNALERROR" not in done.said
    assert "Traceback" not in done.said
    assert ("SAMPLES, stopped early: 1 of 1 guest" if hook == "logreport" else "No guest was judged") in done.stdout
    assert (done.folder / "report.html").is_file()


@pytest.mark.parametrize("mode", ["--plan", "--fix"])
def test_in_every_mode(tmp_path: Path, mode: str) -> None:
    done = _stopped(tmp_path / "reports", "logreport:SIGTERM", mode)
    assert done.status == 2
    assert done.document["run"]["cut_short"]
    assert len(done.document["results"]) == 5


@pytest.mark.parametrize("hook", ["configure", "sessionstart"])
def test_before_anything_is_collected_nothing_is_left(tmp_path: Path, hook: str) -> None:
    done = _stopped(tmp_path / "reports", f"{hook}:SIGTERM")
    assert done.status == 2
    assert "Traceback" not in done.said
    assert _folders(tmp_path / "reports") == []


@pytest.mark.parametrize("hook", ["sessionfinish", "finished", "terminal_summary", "unconfigure"])
@pytest.mark.parametrize("name", _SIGNALS)
def test_while_it_reports_it_reports_all(tmp_path: Path, hook: str, name: str) -> None:
    done = _stopped(tmp_path / "reports", f"{hook}:{name}")
    assert done.status == 1
    assert not done.document["run"]["cut_short"]
    assert "Traceback" not in done.said
    assert "5 of 8 guests" in done.stdout
    assert (done.folder / "report.html").is_file()


@pytest.mark.parametrize("names", ["SIGINT+SIGINT", "SIGTERM+SIGTERM", "SIGHUP+SIGTERM+SIGINT"])
def test_twice(tmp_path: Path, names: str) -> None:
    done = _stopped(tmp_path / "reports", f"logreport:{names}")
    assert done.status == 2
    assert done.document["run"]["cut_short"]
    assert "Traceback" not in done.said


@pytest.mark.parametrize("at", ["collection_finish:SIGHUP+SIGTERM", "itemcollected:SIGHUP,keyboard_interrupt:SIGTERM"])
def test_twice_before_pytest_has_ended_the_run(tmp_path: Path, at: str) -> None:
    done = _stopped(tmp_path / "reports", at)
    assert done.status == 2
    assert done.document["run"]["cut_short"]
    assert "Traceback" not in done.said


def test_what_is_ignored_on_purpose_stays_ignored(tmp_path: Path) -> None:
    """nohup(1) does no more than that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = _stopped(tmp_path / "reports", "logreport:SIGHUP")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.status == 1
    assert not done.document["run"]["cut_short"]


# What it has started --------------------------------------------------------------------------


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _wait(until: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + _SECONDS
    while not until():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def _interrupted(folder: Path, tool: str, name: str, *arguments: str, uri: str = FLEET) -> tuple[int, str]:
    """A run that hangs in *tool* gets the signal *name*: its exit status, and what it said."""
    log, tools = folder / "log", folder / "tools"
    tools.mkdir()
    executable(tools / tool, _SLOW.replace("LOG", str(log)))
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--uri", uri, "--reports", str(folder / "reports"), *arguments, "checks/"],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _wait(lambda: log.exists() and log.read_text("ascii").endswith("\n"), run)
        run.send_signal(signal.Signals[name])
        said, _ = run.communicate(timeout=_SECONDS)
    finally:
        run.kill()
        run.wait()
    pids = [int(word) for word in log.read_text("ascii").split()]
    try:
        _wait(lambda: not any(map(_alive, pids)))
    finally:
        for pid in filter(_alive, pids):
            os.kill(pid, signal.SIGKILL)
    return run.returncode, said


@pytest.mark.parametrize("name", _SIGNALS)
def test_nothing_is_left_of_a_tool_that_hangs_while_bytes_are_counted(tmp_path: Path, name: str) -> None:
    status, said = _interrupted(tmp_path, "stat", name)
    assert status == 2, said
    assert "Traceback" not in said
    [folder] = _folders(tmp_path / "reports")
    assert (folder / "results.json").is_file()


def test_nothing_is_left_of_a_tool_that_hangs_while_copies_are_judged(tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    image = tmp_path / "copies/vda.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1M"], check=True)
    uri = node(tmp_path, domain_xml(disk_xml(source="/images/vda.qcow2")))
    status, said = _interrupted(tmp_path, "qemu-img", "SIGTERM", "--backups", str(tmp_path / "copies"), uri=uri)
    assert status == 2, said
    [folder] = _folders(tmp_path / "reports")
    assert (folder / "results.json").is_file()


def test_a_machine_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    """libvirt starts ssh(1) itself, and hears no signal while it waits for it."""
    status, said = _interrupted(tmp_path, "ssh", "SIGTERM", uri="qemu+ssh://nobody@nowhere.invalid/system")
    assert status == 2, said
    assert "Traceback" not in said
    assert "stopped before anything was judged" in said
    assert _folders(tmp_path / "reports") == []
