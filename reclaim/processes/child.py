"""Processes that this one starts: each ends with the work that it was started for, however that work ends."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

#: seconds that a process has to end after SIGTERM
_GRACE_SECONDS = 2
#: seconds between two looks at a process that prints nothing
_PAUSE_SECONDS = 1.0
#: bytes that are read at once
_PIECE = 65_536


def run(command: bytes) -> tuple[int, bytes, bytes]:
    """Run *command* by /bin/sh, and return its exit status and outputs.

    It is in a session of its own: when this process is told to stop, all that the command has started ends too.
    """
    process = start([b"/bin/sh", b"-c", command])
    with process:
        try:
            stdout, stderr = process.communicate()
        except BaseException:
            end(process)
            raise
    return process.returncode, stdout, stderr


def run_limited(
    argv: list[str],
    seconds: float,
    most: int,
    *,
    descriptors: tuple[int, ...] = (),
    watch: Callable[[], None] = lambda: None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, bytes, bytes]:
    """Run a program in the C locale, or in *environment*, and return its exit status and outputs.

    It inherits *descriptors*. *watch* is called at least every second, and raises to stop it.
    Raises TimeoutError after so many *seconds*, OverflowError if an output has more than *most* bytes, and OSError if
    the program cannot be started. Whatever is raised, all that it has started ends.
    """
    deadline = time.monotonic() + seconds
    process = start(
        argv,
        stdin=stdin,
        descriptors=descriptors,
        environment=c_locale() if environment is None else environment,
    )
    printed = bytearray(), bytearray()
    with process:
        try:
            for printed in outputs(process, deadline, most):  # noqa: B007 (the last counts)
                watch()
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as exc:
            end(process)
            raise TimeoutError from exc
        except BaseException:
            end(process)
            raise
    stdout, stderr = map(bytes, printed)
    return process.returncode, stdout, stderr


def c_locale() -> dict[str, str]:
    """Return the environment of this process, with messages in English."""
    return {**os.environ, "LC_ALL": "C"}


def start(
    argv: list[str] | list[bytes],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    descriptors: tuple[int, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with pipes for its outputs. Raises OSError if it cannot be started.

    Ctrl-C does not reach it there, and it can ask nothing on the terminal.
    """
    known = of_ours()
    try:
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            env=environment,
            start_new_session=True,
        )
    except KeyboardInterrupt:
        # the process can have started by then, and there is no handle of it
        end_new(known)
        raise


def outputs(
    process: subprocess.Popen[bytes], deadline: float, most: int
) -> Iterator[tuple[bytearray, bytearray]]:
    """Yield both outputs so far, whenever more has come, and at least every second.

    The end of *process* is the end of its outputs too: what it has started may keep them open (OpenSSH before 8.5 does
    for a connection that stays).
    Raises TimeoutError at the *deadline* (time.monotonic), OverflowError if an output has more than *most* bytes.
    """
    if process.stdout is None or process.stderr is None:
        raise ValueError("the outputs of the process are not piped")
    parts = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    stdout, stderr = parts.values()
    with selectors.DefaultSelector() as selector:
        for pipe in parts:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            over = process.poll() is not None
            ready = selector.select(0 if over else min(left, _PAUSE_SECONDS))
            if over and not ready:
                break
            for key, _ in ready:
                data = os.read(key.fd, _PIECE)
                if not data:
                    selector.unregister(key.fd)
                parts[key.fd] += data
                if len(parts[key.fd]) > most:
                    raise OverflowError
            yield stdout, stderr


def end(process: subprocess.Popen[bytes]) -> None:
    """End *process*, which leads a session, all that is in that session's group, and its children in other groups.

    timeout(1) makes a group of its own.
    """
    below = _with_children([process.pid])[1:]
    try:
        _signal(process.pid, signal.SIGTERM)
        _terminate(below)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    finally:
        _signal(process.pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def of_ours() -> frozenset[int]:
    """Return the ids of the processes that this one has started: libvirt starts some by itself (ssh)."""
    return frozenset(_children("self"))


def _children(process: str) -> list[int]:
    """Return the children of *process* (proc_pid_task(5)): none if it is gone, or the kernel does not list them."""
    with suppress(OSError):
        tasks = list(Path("/proc", process, "task").iterdir())
        return [
            int(word)
            for task in tasks
            for word in (task / "children").read_text("ascii").split()
        ]
    return []


def end_of_thread(thread: int, known: frozenset[int] = frozenset()) -> None:
    """End the processes that the thread with the native id *thread* has started, and their children, without *known*.

    Whatever other threads have started meanwhile goes on.
    """
    own = Path("/proc/self/task", str(thread), "children")
    with suppress(OSError):  # it has ended, and its children are the process' own
        started = {int(word) for word in own.read_text("ascii").split()}
        _terminate(_with_children(started - known))


def end_new(known: frozenset[int]) -> None:
    """End the processes that this one has started, and their children, but for those that are *known*."""
    _terminate(_with_children(of_ours() - known))


def _with_children(first: Iterable[int]) -> list[int]:
    """Return *first*, their children, and all below them."""
    processes = [*first]
    for process in processes:  # which grows
        processes += _children(str(process))
    return processes


def _terminate(processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGTERM)
