"""Threads that wait for guests while the main thread hears signals: no signal interrupts a call of libvirt's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

from reclaim.processes import child

T = TypeVar("T")

#: seconds for workers to end what they have started
_ENDING_SECONDS = 3.0


class Stopped(BaseException):
    """Raised in a worker that is to end: like KeyboardInterrupt it is no error of the work under way."""


class _Worker(threading.Thread):
    """A thread that ends at its next `sleep` or `expect_wanted` once `over` is set. No process waits for it."""

    def __init__(self, work: Callable[[], None], over: threading.Event) -> None:
        super().__init__(name="worker", daemon=True)
        self._work = work
        self.over = over

    def run(self) -> None:
        try:
            self._work()
        except Stopped:
            return


def sleep(seconds: float) -> None:
    """Do time.sleep. Raises Stopped in a worker that is to end."""
    worker = threading.current_thread()
    if not isinstance(worker, _Worker):
        time.sleep(seconds)
    elif worker.over.wait(seconds):
        raise Stopped


def expect_wanted() -> None:
    """Raise Stopped in a worker that is to end."""
    worker = threading.current_thread()
    if isinstance(worker, _Worker) and worker.over.is_set():
        raise Stopped


def each(
    work: Callable[[T], object], items: Iterable[T], at_once: int, seconds: float
) -> Generator[list[T], None, None]:
    """Do *work*, which raises nothing, for each of *items*, *at_once* of them at a time.

    Yield the items that are still to be done: at once, whenever one is done, and at least every so many *seconds*.
    If the caller stops asking, the workers end, and so do the processes that they have started.
    """
    waiting = queue.SimpleQueue[T]()
    done = queue.SimpleQueue[T]()
    left = dict.fromkeys(items)
    for item in left:
        waiting.put(item)
    over = threading.Event()

    known = child.of_ours()
    take = partial(_work_off, work, waiting, done, over)
    workers = [_Worker(take, over) for _ in range(min(at_once, len(left)))]
    try:
        for worker in workers:
            worker.start()
        yield list(left)
        while left:
            with suppress(queue.Empty):
                del left[done.get(timeout=seconds)]
            yield list(left)
    finally:
        over.set()
        _join(workers)
        if left:
            child.end_new(known)


def _join(workers: list[_Worker]) -> None:
    """Wait for *workers* that are to end, at most `_ENDING_SECONDS`."""
    deadline = time.monotonic() + _ENDING_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _work_off(
    work: Callable[[T], object],
    waiting: queue.SimpleQueue[T],
    done: queue.SimpleQueue[T],
    over: threading.Event,
) -> None:
    """Do *work* for each item of *waiting* until there is none left, or it is *over*."""
    while not over.is_set():
        try:
            item = waiting.get_nowait()
        except queue.Empty:
            return
        work(item)
        done.put(item)


def heard(
    work: Callable[[], T],
    waits: Callable[[float], None] = lambda _seconds: None,
    every: float = 10.0,
) -> T:
    """Return the result of *work*, or raise its error. If a signal raises here, the processes started meanwhile end.

    *waits* is called *every* so many seconds, with the seconds since the beginning.
    """
    answers = queue.SimpleQueue[Callable[[], T]]()

    def ask() -> None:
        try:
            answer = work()
        except BaseException as exc:  # noqa: BLE001 (it is raised where it is waited for)
            answers.put(partial(_raised, exc))
        else:
            answers.put(lambda: answer)

    known = child.of_ours()
    worker = _Worker(ask, threading.Event())
    worker.start()
    started = time.monotonic()
    try:
        returned_or_raised = None
        while returned_or_raised is None:
            try:
                returned_or_raised = answers.get(timeout=every)
            except queue.Empty:
                waits(time.monotonic() - started)
    except BaseException:
        worker.over.set()
        child.end_new(known)
        raise
    return returned_or_raised()


def _raised(exc: BaseException) -> NoReturn:
    raise exc
