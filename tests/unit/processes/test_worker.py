"""Threads that work for the main one, which hears signals meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from reclaim.processes import child, worker


def test_each_is_done_once_and_what_is_left_is_told() -> None:
    done: list[int] = []
    left = list(worker.each(done.append, range(20), 5, 60))
    assert sorted(done) == list(range(20))
    assert [len(one) for one in left] == list(range(20, -1, -1))


def test_it_is_told_meanwhile_that_somebody_is_waited_for() -> None:
    go = threading.Event()
    with closing(worker.each(lambda _: go.wait(60), ["slow"], 5, 0.01)) as looking:
        assert [next(looking) for _ in range(4)] == [["slow"]] * 4
        go.set()
        assert list(looking)[-1] == []


def test_who_asks_no_more_ends_what_waits() -> None:
    ended = threading.Event()

    def wait(_: str) -> None:
        try:
            while True:
                worker.sleep(60)
        except worker.Stopped:
            ended.set()
            raise

    looking = worker.each(wait, ["one", "another"], 1, 0.01)
    next(looking)
    next(looking)
    looking.close()
    assert ended.wait(60)


def test_what_the_work_raises_is_raised() -> None:
    assert worker.heard(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        worker.heard(lambda: 1 // 0)


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    return False


def _interrupt_once(path: Path) -> threading.Thread:
    """Send this process SIGINT when *path* is whole."""

    def wait() -> None:
        end = time.monotonic() + 60
        while not (path.exists() and path.read_text("ascii").endswith("\n")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def _gone(pids: list[int]) -> bool:
    end = time.monotonic() + 60
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(_alive, pids))


_SLOW = "sleep 1000 & echo $$ $! >{0}.new; mv {0}.new {0}; wait"


def test_ctrl_c_ends_a_command_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    thread = _interrupt_once(pids)
    with pytest.raises(KeyboardInterrupt):
        child.run(_SLOW.format(pids).encode())
    thread.join()
    assert _gone(list(map(int, pids.read_text("ascii").split())))


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
        child.run(_SLOW.format(pids).encode())
    assert _gone(list(map(int, pids.read_text("ascii").split())))


def test_ctrl_c_ends_what_a_library_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        started.append(subprocess.Popen(["/bin/sh", "-c", _SLOW.format(pids)]))
        started[0].wait()

    thread = _interrupt_once(pids)
    with pytest.raises(KeyboardInterrupt):
        worker.heard(work)
    thread.join()
    assert _gone(list(map(int, pids.read_text("ascii").split())))
    started[0].wait()


def test_a_command_says_how_it_ended() -> None:
    assert child.run(b"echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
