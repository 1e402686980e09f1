"""Ctrl-C while a command runs, and the processes that have to be gone afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

#: the signal can come before Popen has returned: the process is ended, and no handle is left to wait for it
UNWAITED = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    return False


def interrupt_once(path: Path) -> threading.Thread:
    """Send this process SIGINT when *path* is whole."""

    def wait() -> None:
        end = time.monotonic() + 60
        while not (path.exists() and path.read_text("ascii").endswith("\n")) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 60
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(_alive, pids))


SLOW = "sleep 1000 & echo $$ $! >{0}.new; mv {0}.new {0}; wait"
