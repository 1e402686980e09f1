"""Whatever comes over ssh from a guest is an answer or a ProbeError, in bounded time and memory: no process stays."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from reclaim.base.errors import ProbeError
from reclaim.handles import ssh
from reclaim.handles.agent import OUTPUT_BYTES
from reclaim.handles.ssh import Address, GuestSsh
from reclaim.inventory import Ssh
from tests.support import Inside, inhabited

#: each ends in a tool that never ends, where it matters
_ANSWERS = {
    "stdout": "exec yes",
    "stderr": "exec yes >&2",
    "both": "yes & exec yes >&2",
    "no-utf8": "printf '\\377\\376\\033[31m<script>\\n'; printf '\\377\\033]0;x\\007\\n' >&2; exit 255",
    "closes": "exit 0",
    "wide": "head -c 1500000 /dev/zero | tr '\\0' ' '; exit 3",
    "no-line": "head -c 1500000 /dev/zero >&2; exit 3",
    "mark-of-another": "echo 0123456789abcdef is 0 x; echo 0123456789abcdef end 0; exit 0",
    "drips": "while :; do printf x; sleep 0.1; done",
    "never": "sleep 1000 & wait",
}


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuestSsh:
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    (tmp_path / "tools").mkdir()
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", -9)  # of what is waited for beside the command itself
    guest = inhabited(tmp_path, Inside())
    return GuestSsh(guest, Ssh(address="192.0.2.1"), Address("192.0.2.1", "inventory"))


def _answer(folder: Path, what: str) -> Path:
    """An ssh(1) that does *what*; it writes down its own session, to be looked for."""
    tool, session = folder / "tools/ssh", folder / "session"
    tool.write_text(f"#!/bin/sh\necho $$ >{session}\n{what}\n", encoding="utf-8")
    tool.chmod(0o755)
    return session


def _members(session: int) -> list[int]:
    """The processes of a session that have not ended (proc(5), stat)."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            words = (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] not in "ZX" and int(words[3]) == session:
            found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("what", _ANSWERS)
def test_what_a_guest_sends_is_a_problem_in_one_line(tmp_path: Path, backend: GuestSsh, what: str) -> None:
    session = _answer(tmp_path, _ANSWERS[what])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProbeError) as caught:
        backend.run(":", seconds=1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * OUTPUT_BYTES // 1024
    end = time.monotonic() + 30
    while left := _members(int(session.read_text("ascii"))):
        assert time.monotonic() < end, left
        time.sleep(0.02)


def test_what_comes_in_many_pieces_is_read_in_linear_time(
    tmp_path: Path, backend: GuestSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that has come is copied each time that more comes."""
    _answer(tmp_path, "head -c 1900000 /dev/zero; exit 3")
    pieces: list[int] = []
    ours = ssh._Marks.are_complete

    def counted(marks: ssh._Marks, stdout: bytearray, stderr: bytearray) -> bool:
        pieces.append(id(stdout))
        return ours(marks, stdout, stderr)

    monkeypatch.setattr(ssh._Marks, "are_complete", counted)
    with pytest.raises(ProbeError):
        backend.run(":", seconds=30)
    assert len(pieces) > 1
    assert len(set(pieces)) == 1
