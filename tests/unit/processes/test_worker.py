"""Threads that work for the main one, which hears signals meanwhile."""

from __future__ import annotations

import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from reclaim.processes import worker
from tests.interrupts import SLOW, gone, interrupt_once


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


def test_while_it_lasts_the_caller_is_told() -> None:
    asked = threading.Event()
    seconds: list[float] = []

    def waits(since: float) -> None:
        seconds.append(since)
        asked.set()

    assert worker.heard(lambda: asked.wait(60), waits, every=0.001)
    assert seconds == sorted(seconds)


def test_ctrl_c_ends_what_a_library_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started: list[subprocess.Popen[bytes]] = []

    def work() -> None:
        started.append(subprocess.Popen(["/bin/sh", "-c", SLOW.format(pids)]))
        started[0].wait()

    thread = interrupt_once(pids)
    with pytest.raises(KeyboardInterrupt):
        worker.heard(work)
    thread.join()
    assert gone(list(map(int, pids.read_text("ascii").split())))
    started[0].wait()
