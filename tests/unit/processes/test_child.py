"""A program is started, heard and ended with all that it has started, within limits of time and output."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from reclaim.processes import child

#: more than any test takes
_LONG = 600


def _is_over(pid: int) -> bool:
    """True if the process is gone, or a zombie that somebody else has to wait for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    return True


def _ended(pids: list[int]) -> bool:
    deadline = time.monotonic() + 60
    while not all(map(_is_over, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return all(map(_is_over, pids))


def _pids(path: Path) -> list[int]:
    return list(map(int, path.read_text("ascii").split()))


def test_a_program_is_heard_to_its_end() -> None:
    argv = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]
    assert child.run_limited(argv, _LONG, 100) == (3, b"out\n", b"err\n")


def test_its_messages_are_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("OTHER", "kept")
    assert child.run_limited(["/bin/sh", "-c", "echo $LC_ALL $OTHER"], _LONG, 100)[1] == b"C kept\n"


def test_it_has_nothing_to_read_and_leads_a_session() -> None:
    status, stdout, _ = child.run_limited(
        [sys.executable, "-c", "import os, sys; print(sys.stdin.read(), os.getsid(0) == os.getpid())"], _LONG, 100
    )
    assert (status, stdout) == (0, b" True\n")


def test_it_inherits_the_descriptors_that_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "given"
    with path.open("wb") as file:
        argv = ["/bin/sh", "-c", f"echo here >/proc/self/fd/{file.fileno()}"]
        assert child.run_limited(argv, _LONG, 1000)[0] != 0
        assert child.run_limited(argv, _LONG, 1000, descriptors=(file.fileno(),))[0] == 0
    assert path.read_bytes() == b"here\n"


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep {_LONG} & echo $$ $! >{pids}; wait"

    def written() -> None:
        if pids.exists() and len(pids.read_text("ascii").split()) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        child.run_limited(["/bin/sh", "-c", script], _LONG, 100, watch=written)
    assert _ended(_pids(pids))
    with pytest.raises(TimeoutError):
        child.run_limited(["/bin/sh", "-c", script], 0.2, 100)
    assert _ended(_pids(pids))


def test_one_that_has_closed_its_outputs_is_limited_too() -> None:
    with pytest.raises(TimeoutError):
        child.run_limited(["/bin/sh", "-c", f"exec sleep {_LONG} >&- 2>&-"], 0.2, 100)


@pytest.mark.parametrize("where", ["", " >&2"])
def test_a_program_that_prints_too_much_is_ended(where: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(OverflowError):
        child.run_limited(["/bin/sh", "-c", f"echo $$ >{pids}; exec yes{where}"], _LONG, 100_000)
    assert _ended(_pids(pids))


def test_just_as_much_as_is_allowed_may_be_printed() -> None:
    assert child.run_limited(["printf", "12345"], _LONG, 5)[1] == b"12345"
    with pytest.raises(OverflowError):
        child.run_limited(["printf", "123456"], _LONG, 5)


def test_a_program_in_the_background_that_keeps_the_outputs_is_not_waited_for(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"setsid sleep {_LONG} & echo $! >{pids}; echo done"
    assert child.run_limited(["/bin/sh", "-c", script], _LONG, 100)[1] == b"done\n"
    for pid in _pids(pids):
        os.kill(pid, signal.SIGKILL)


def test_what_timeout_runs_ends_as_well(tmp_path: Path) -> None:
    """timeout(1) puts its command, and itself, into a group of their own."""
    pids = tmp_path / "pids"
    script = f"timeout {_LONG} sh -c 'echo $$ $PPID >{pids}; exec sleep {_LONG}' | cat"

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not pids.exists() or len(pids.read_text("ascii").split()) < 2:
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        child.run(script.encode())
    thread.join()
    assert _ended(_pids(pids))


def test_a_program_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        child.run_limited(["no-such-program-here"], _LONG, 100)
