"""Processes that this one starts: each ends with the work that it was started for, however that work ends."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

#: seconds that a process has to end after SIGTERM
_GRACE_SECONDS = 2


def run(command: bytes) -> tuple[int, bytes, bytes]:
    """Run *command* by /bin/sh, and return its exit status and outputs.

    It is in a session of its own: when this process is told to stop, all that the command has started ends too.
    """
    process = _started(command)
    with process:
        try:
            stdout, stderr = process.communicate()
        except BaseException:
            end(process)
            raise
    return process.returncode, stdout, stderr


def _started(command: bytes) -> subprocess.Popen[bytes]:
    known = of_ours()
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except KeyboardInterrupt:
        # the process can have started by then, and there is no handle of it
        end_new(known)
        raise


def end(process: subprocess.Popen[bytes]) -> None:
    """End *process*, which leads a session, and all that is in that session's group."""
    try:
        _signal(process.pid, signal.SIGTERM)
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


def end_new(known: frozenset[int]) -> None:
    """End the processes that this one has started, and their children, but for those that are *known*."""
    processes = [*(of_ours() - known)]
    for process in processes:  # which grows
        processes += _children(str(process))
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGTERM)
