"""A program is started, heard and ended with all that it has started, within limits of time and output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from reclaim.processes import child
from tests.interrupts import SLOW, UNWAITED, gone, interrupt_once

#: more than any test takes
_LONG = 600


def _is_over(pid: int) -> bool:
    """True if the process is gone, or a zombie that somebody else has to wait for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    return True


def _ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 60
    while not all(map(_is_over, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return all(map(_is_over, pids))


def _pids(path: Path) -> list[int]:
    return list(map(int, path.read_text("ascii").split()))


def test_a_program_is_heard_to_its_end() -> None:
    argv = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]
    assert child.run_limited(argv, _LONG, 100) == (3, b"out\n", b"err\n")


def test_its_messages_are_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("OTHER", "kept")
    assert child.run_limited(["/bin/sh", "-c", "echo $LC_ALL $OTHER"], _LONG, 100)[1] == b"C kept\n"


def test_it_has_nothing_to_read_and_leads_a_session() -> None:
    status, stdout, _ = child.run_limited(
        [sys.executable, "-c", "import os, sys; print(sys.stdin.read(), os.getsid(0) == os.getpid())"], _LONG, 100
    )
    assert (status, stdout) == (0, b" True\n")


def test_it_inherits_the_descriptors_that_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "given"
    with path.open("wb") as file:
        argv = ["/bin/sh", "-c", f"echo here >/proc/self/fd/{file.fileno()}"]
        assert child.run_limited(argv, _LONG, 1000)[0] != 0
        assert child.run_limited(argv, _LONG, 1000, descriptors=(file.fileno(),))[0] == 0
    assert path.read_bytes() == b"here\n"


@pytest.mark.slow
def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep {_LONG} & echo $$ $! >{pids}; wait"

    def written() -> None:
        if pids.exists() and len(pids.read_text("ascii").split()) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        child.run_limited(["/bin/sh", "-c", script], _LONG, 100, watch=written)
    assert _ended(_pids(pids))
    with pytest.raises(TimeoutError):
        child.run_limited(["/bin/sh", "-c", script], 0.2, 100)
    assert _ended(_pids(pids))


def test_one_that_has_closed_its_outputs_is_limited_too() -> None:
    with pytest.raises(TimeoutError):
        child.run_limited(["/bin/sh", "-c", f"exec sleep {_LONG} >&- 2>&-"], 0.2, 100)


@pytest.mark.parametrize("where", ["", " >&2"])
def test_a_program_that_prints_too_much_is_ended(where: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(OverflowError):
        child.run_limited(["/bin/sh", "-c", f"echo $$ >{pids}; exec yes{where}"], _LONG, 100_000)
    assert _ended(_pids(pids))


def test_just_as_much_as_is_allowed_may_be_printed() -> None:
    assert child.run_limited(["printf", "12345"], _LONG, 5)[1] == b"12345"
    with pytest.raises(OverflowError):
        child.run_limited(["printf", "123456"], _LONG, 5)


@pytest.mark.slow
def test_a_program_in_the_background_that_keeps_the_outputs_is_not_waited_for(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"setsid sleep {_LONG} & echo $! >{pids}; echo done"
    assert child.run_limited(["/bin/sh", "-c", script], _LONG, 100)[1] == b"done\n"
    for pid in _pids(pids):
        os.kill(pid, signal.SIGKILL)


@UNWAITED
def test_what_timeout_runs_ends_as_well(tmp_path: Path) -> None:
    """timeout(1) puts its command, and itself, into a group of their own."""
    pids = tmp_path / "pids"
    script = f"timeout {_LONG} sh -c 'echo $$ $PPID >{pids}; exec sleep {_LONG}' | cat"

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not pids.exists() or len(pids.read_text("ascii").split()) < 2:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        child.run(script.encode())
    thread.join()
    assert _ended(_pids(pids))


def test_a_program_that_is_not_there_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    # a folder of PATH that this user cannot search makes it PermissionError
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(FileNotFoundError):
        child.run_limited(["no-such-program-here"], _LONG, 100)


@UNWAITED
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
