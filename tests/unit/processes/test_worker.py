"""Threads that work for the main one, which hears signals meanwhile."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

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


def test_of_each_thing_so_many_are_done_at_once() -> None:
    """One hypervisor's guests do not wait for another's."""
    both = threading.Barrier(4, timeout=60)
    done: list[str] = []

    def work(name: str) -> None:
        both.wait()
        done.append(name)

    for _ in worker.each(work, ["a1", "b1", "a2", "b2"], 2, 60, of=lambda name: name[0]):
        pass
    assert sorted(done) == ["a1", "a2", "b1", "b2"]


def test_results_have_the_order_of_the_items() -> None:
    second = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            assert second.wait(60)
        elif number == 2:
            second.set()
        return number * 10

    assert worker.together(work, [1, 2], 2) == [10, 20]


def test_the_error_of_the_first_is_raised_once_all_are_done() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number < 3:
            raise ValueError(str(number))

    with pytest.raises(ValueError, match=r"^1$"):
        worker.together(work, [1, 2, 3], 3)
    assert sorted(done) == [1, 2, 3]


def test_what_the_work_raises_is_raised() -> None:
    assert worker.within(None, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        worker.within(60, lambda: 1 // 0)


def _slow(pids: Path, started: list[subprocess.Popen[bytes]]) -> int:
    """As a library does that starts a program and waits for it."""
    started.append(subprocess.Popen(["/bin/sh", "-c", SLOW.format(pids)]))
    return started[-1].wait()


def _until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not ready() and time.monotonic() < end:
        time.sleep(0.01)


def _gone(pids: Path) -> bool:
    return gone(list(map(int, pids.read_text("ascii").split())))


def test_ctrl_c_ends_what_a_library_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started: list[subprocess.Popen[bytes]] = []
    thread = interrupt_once(pids)
    with pytest.raises(KeyboardInterrupt):
        worker.within(None, lambda: _slow(pids, started))
    thread.join()
    assert _gone(pids)
    started[0].wait()


def test_ctrl_c_ends_it_in_each_of_several_too(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    started: list[subprocess.Popen[bytes]] = []

    def work(path: Path) -> int:
        if path == paths[1]:
            _until(paths[0].exists)
        return worker.within(None, lambda: _slow(path, started))

    thread = interrupt_once(paths[1])
    with pytest.raises(KeyboardInterrupt):
        worker.together(work, paths, 2)
    thread.join()
    assert all(map(_gone, paths))
    for process in started:
        process.wait()


def test_what_takes_too_long_ends_with_its_processes_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever another thread has started meanwhile goes on."""
    pids = tmp_path / "pids"
    started: list[subprocess.Popen[bytes]] = []
    go = threading.Event()

    def other() -> None:
        started.append(subprocess.Popen(["sleep", "1000"]))
        go.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    _until(lambda: bool(started))
    clock = SimpleNamespace(monotonic=lambda: 100.0 if pids.exists() else 0.0)
    monkeypatch.setattr(worker, "time", clock)
    with pytest.raises(TimeoutError):
        worker.within(50, lambda: _slow(pids, started))
    assert _gone(pids)
    assert started[0].poll() is None
    started[0].kill()
    go.set()
    thread.join()
    for process in started:
        process.wait()
