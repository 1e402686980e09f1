"""Processes that end with the work that they were started for."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from reclaim.processes import child
from tests.interrupts import SLOW, gone, interrupt_once


def test_ctrl_c_ends_a_command_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    thread = interrupt_once(pids)
    with pytest.raises(KeyboardInterrupt):
        child.run(SLOW.format(pids).encode())
    thread.join()
    assert gone(list(map(int, pids.read_text("ascii").split())))


def test_ctrl_c_while_a_command_starts_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    start = subprocess.Popen.__init__

    def interrupted(process: subprocess.Popen[bytes], *arguments: Any, **more: Any) -> None:
        start(process, *arguments, **more)
        deadline = time.monotonic() + 30
        while len(pids.read_text("ascii").split() if pids.exists() else []) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        process.returncode = 0  # else its end, which nobody sees, is warned of
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "__init__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.run(SLOW.format(pids).encode())
    assert gone(list(map(int, pids.read_text("ascii").split())))


def test_a_command_says_how_it_ended() -> None:
    assert child.run(b"echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


def test_a_command_has_nothing_to_read_and_a_session_of_its_own() -> None:
    status, stdout, _ = child.run(b"cat; cut -d' ' -f5,6 /proc/$$/stat; echo $$")
    group, session, leader = map(int, stdout.split())
    assert status == 0
    assert group == session == leader


def _started(command: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_process_that_is_ended_may_tidy_up() -> None:
    process = _started("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    child.end(process)
    assert process.wait() == 5
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.closed
    assert process.stderr.closed


def test_a_process_that_ignores_it_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_GRACE_SECONDS", 0.05)
    process = _started("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    child.end(process)
    assert process.wait() == -9


def test_a_process_that_has_ended_by_itself_is_ended_without_a_word() -> None:
    process = _started("echo ready")
    process.wait()
    child.end(process)
    assert process.returncode == 0


def test_what_is_ended_without_pipes() -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "sleep 1000"], start_new_session=True)
    child.end(process)
    assert process.wait() == -15


def test_our_children_are_known_and_only_new_ones_are_ended() -> None:
    older = _started("echo ready; exec sleep 1000")
    known = child.of_ours()
    newer = _started("sleep 1000 & echo ready; wait")
    try:
        assert older.pid in known
        assert newer.pid in child.of_ours() - known
        below = child._children(str(newer.pid))
        assert len(below) == 1
        child.end_new(known)
        assert newer.wait() == -15
        assert gone(below)
        assert older.poll() is None
    finally:
        child.end(newer)
        child.end(older)
        older.wait()


def test_a_process_that_is_gone_has_no_children() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert child._children(str(process.pid)) == []
