"""Processes that this one starts: each ends with what it was started for, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

#: seconds that a process has to end after SIGTERM
_GRACE_SECONDS = 2


def run(command: bytes) -> tuple[int, bytes, bytes]:
    """Run *command* by /bin/sh. Its exit status and outputs.

    It is in a session of its own: all that it has started ends with it when this process is told to stop.
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
    """The processes that this one has started, by their ids: libvirt starts some by itself (ssh)."""
    return frozenset(_children("self"))


def _children(process: str) -> list[int]:
    """proc_pid_task(5): empty where the process is gone, or the kernel does not tell."""
    with suppress(OSError):
        tasks = list(Path("/proc", process, "task").iterdir())
        return [
            int(word)
            for task in tasks
            for word in (task / "children").read_text("ascii").split()
        ]
    return []


def end_new(known: frozenset[int]) -> None:
    """End the processes that this one has started, and what these have, but for those that are *known*."""
    found = [*(of_ours() - known)]
    for one in found:  # which grows
        found += _children(str(one))
    for one in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGTERM)
