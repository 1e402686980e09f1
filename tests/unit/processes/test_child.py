"""Processes that end with the work that they were started for."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from reclaim.processes import child
from tests.interrupts import SLOW, gone, interrupt_once


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
