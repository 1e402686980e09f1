"""Threads that wait for guests while the main thread hears signals: no signal interrupts a call of libvirt's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import (
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import NoReturn, TypeVar

from reclaim.processes import child

T = TypeVar("T")
R = TypeVar("R")

#: seconds for workers to end what they have started
_ENDING_SECONDS = 3.0
#: seconds between two lines about those that are waited for
_TOLD_SECONDS = 1.0
#: seconds between two looks whether the wait is still wanted
_LOOK_SECONDS = 0.1


class Stopped(BaseException):
    """Raised in a worker that is to end: like KeyboardInterrupt it is no error of the work under way."""


class _Worker(threading.Thread):
    """A thread that ends at its next `sleep` or `expect_wanted` once `over` is set. No process waits for it.

    On the way back (`way_back`) it ends once `again` is set.
    """

    def __init__(
        self,
        work: Callable[[], None],
        over: threading.Event,
        again: threading.Event | None = None,
    ) -> None:
        super().__init__(name="worker", daemon=True)
        self._work = work
        self.over = over
        self.again = again or over

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


@contextmanager
def way_back() -> Iterator[None]:
    """Let a worker that is to end wait once more, until it is stopped a second time: as after a first Ctrl-C."""
    worker = threading.current_thread()
    if not isinstance(worker, _Worker):
        yield
        return
    before, worker.over = worker.over, worker.again
    try:
        yield
    finally:
        worker.over = before


class Crew:
    """Workers that all do the same work, until each has ended by itself or all are stopped."""

    def __init__(self, work: Callable[[], None], number: int) -> None:
        self._over, self._again = threading.Event(), threading.Event()
        self._workers = [_Worker(work, self._over, self._again) for _ in range(number)]

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    @property
    def is_at_work(self) -> bool:
        return any(worker.is_alive() for worker in self._workers)

    def stop(self) -> None:
        """Stop the workers, and wait for the ways back that they are on, however long these take.

        If a signal raises here, the ways back are stopped too, and it is raised once they have ended.
        """
        self._over.set()
        try:
            while self.is_at_work:
                time.sleep(_LOOK_SECONDS)
        except BaseException:
            self._again.set()
            _join(self._workers)
            raise


def each(
    work: Callable[[T], object],
    items: Iterable[T],
    at_once: int,
    seconds: float,
    of: Callable[[T], Hashable] = lambda _item: None,
) -> Generator[list[T], None, None]:
    """Do *work*, which raises nothing, for each of *items*, *at_once* of those at a time that are *of* the same thing.

    Yield the items that are still to be done: at once, whenever one is done, and at least every so many *seconds*.
    If the caller stops asking, the workers end, and so do the processes that they have started.
    """
    left = dict.fromkeys(items)
    groups: dict[Hashable, list[T]] = {}
    for item in left:
        groups.setdefault(of(item), []).append(item)
    done = queue.SimpleQueue[T]()
    over = threading.Event()

    known = child.of_ours()
    workers: list[_Worker] = []
    for group in groups.values():
        take = partial(_work_off, work, _queue_of(group), done, over)
        workers += [_Worker(take, over) for _ in range(min(at_once, len(group)))]
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


def _queue_of(items: Iterable[T]) -> queue.SimpleQueue[T]:
    waiting = queue.SimpleQueue[T]()
    for item in items:
        waiting.put(item)
    return waiting


def together(
    work: Callable[[T], R],
    items: Sequence[T],
    at_once: int,
    waits: Callable[[list[T]], None] = lambda _left: None,
) -> list[R]:
    """Return the results of *work* for all *items*, in their order, *at_once* of them at a time.

    *waits* is called with the items that are left, about every second. Raises the error of the first item that has
    one, once the others are done. If a signal raises here, the workers end, and so do the processes that they started.
    """
    answers: dict[int, Callable[[], R]] = {}

    def do(place: int) -> None:
        answers[place] = answered(partial(work, items[place]))

    with closing(each(do, range(len(items)), at_once, _TOLD_SECONDS)) as doing:
        for left in doing:
            waits([items[place] for place in left])
    return [answers[place]() for place in range(len(items))]


def _join(workers: list[_Worker]) -> None:
    """Wait for *workers* that are to end, at most `_ENDING_SECONDS`."""
    deadline = time.monotonic() + _ENDING_SECONDS
    for worker in workers:
        if worker.ident is not None:  # a signal can come before it is started
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


def within(seconds: float | None, work: Callable[[], T]) -> T:
    """Return the result of *work*, or raise its error. Raises TimeoutError after so many *seconds*, if any are given.

    If it is given up, or a signal raises here, or this is a worker that is to end, the processes that *work* has
    started end: a library that waits for one of them returns then.
    """
    answers = queue.SimpleQueue[Callable[[], T]]()
    worker = _Worker(lambda: answers.put(answered(work)), threading.Event())
    worker.start()
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        answer = None
        while answer is None:
            with suppress(queue.Empty):
                answer = answers.get(timeout=_LOOK_SECONDS)
            expect_wanted()
            if answer is None and deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
    except BaseException:
        worker.over.set()
        child.end_of_thread(worker.native_id or 0)
        raise
    return answer()


def answered(work: Callable[[], T]) -> Callable[[], T]:
    """Do *work*. Return a function that returns its result, or raises its error."""
    try:
        answer = work()
    except Stopped:
        raise
    except BaseException as exc:  # noqa: BLE001 (it is raised where it is waited for)
        return partial(_raised, exc)
    return lambda: answer


def _raised(exc: BaseException) -> NoReturn:
    raise exc
