"""Whatever a guest's agent says: it costs the rows of that guest, in bounded memory, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT, document_of, runs
from tests.guest.played import Stage, stage
from tests.support import Inside
from tests.unit.test_linear import SHAPES

pytestmark = pytest.mark.guest

#: MiB that a run may take beyond one of calm guests
_MIB = 64
_SECONDS = 120
#: what the agent says once it is asked for more than a handshake
_AT_ONCE = ["no-json", "no-utf8", "no-utf8-error", "surrogate", "surrogate-error", "flood 1", "flood 3 é", "flood 9"]
_SLOW = ["flood 100", "endless", "drip", "silent", "no-sync", "wrong-sync"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("played")) as one:
        yield one


@dataclass(frozen=True)
class _Done:
    status: int
    said: str
    #: MiB
    peak: int
    document: dict[str, Any]

    def rows(self, guest: str) -> dict[tuple[str, str | None], str]:
        found = (row for row in self.document["results"] if row["guest"] == guest)
        return {(row["requirement"], row["disk"]): row["verdict"] for row in found}


def _audit(played: Stage, reports: Path, *arguments: str) -> _Done:
    with (reports.with_suffix(".said")).open("w+", encoding="utf-8", errors="replace") as said:
        argv = [sys.executable, "-m", "pytest", "checks/", "--uri", played.uri, "--reports", str(reports), *arguments]
        run = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read()
    (folder,) = runs(reports)
    return _Done(run.returncode, words, used.ru_maxrss // 1024, document_of(folder))


@pytest.fixture(scope="module")
def calm(played: Stage, tmp_path_factory: pytest.TempPathFactory) -> _Done:
    """A run in which every guest behaves."""
    for name in ("evil", "good"):
        played.enter(name, "calm")
    return _audit(played, tmp_path_factory.mktemp("calm") / "reports")


def _expect_contained(done: _Done, calm: _Done) -> None:
    assert done.status == 1
    assert "INTERNALERROR" not in done.said
    assert "Traceback" not in done.said
    assert "\x1b" not in done.said
    assert done.rows("good") == calm.rows("good")
    assert done.rows("evil").keys() == calm.rows("evil").keys()
    assert not done.document["run"]["cut_short"]


@pytest.mark.parametrize("mode", [*_AT_ONCE, *(pytest.param(one, marks=pytest.mark.long) for one in _SLOW)])
def test_one_guest_costs_its_own_rows(played: Stage, tmp_path: Path, calm: _Done, mode: str) -> None:
    played.enter("evil", mode)
    done = _audit(played, tmp_path / "reports")
    _expect_contained(done, calm)
    looked = [verdict for (slug, _), verdict in done.rows("evil").items() if slug in ("fstab-uuid", "boot-names")]
    assert set(looked) <= {"error", "not-assessable"}
    assert done.peak <= calm.peak + _MIB


def test_five_at_once_take_no_more(played: Stage, tmp_path: Path, calm: _Done) -> None:
    names = [f"evil{number}" for number in range(5)]
    try:
        for name in names:
            played.enter(name, "flood 3 é")
        assert _audit(played, tmp_path / "floods").peak <= calm.peak + _MIB
        much = SHAPES["fstab-by-mounts"](200_000)
        much.files["/boot/grub/grub.cfg"] = SHAPES["menu-by-devices"](200_000).files["/boot/grub/grub.cfg"]
        much.links = SHAPES["links-by-devices"](200_000).links
        for name in names:
            played.enter(name, "calm", much)
        assert _audit(played, tmp_path / "much").peak <= calm.peak + _MIB
    finally:
        for name in names:
            played.leave(name)


@pytest.mark.parametrize("mode", ["late-no-utf8", "late-surrogate"])
def test_an_answer_that_is_lost_in_a_fix_is_written_down(played: Stage, tmp_path: Path, calm: _Done, mode: str) -> None:
    inside = Inside()
    inside.files["/etc/fstab"] = "/dev/vda1 / ext4 defaults 0 1\n"
    played.enter("evil", mode, inside)
    played.enter("good", "calm")
    done = _audit(played, tmp_path / "reports", "--fix", "-k", "fstab_uuid or guest_access or disc_max")
    assert "INTERNALERROR" not in done.said
    assert "Traceback" not in done.said
    (row,) = (one for one in done.document["results"] if (one["guest"], one["requirement"]) == ("evil", "fstab-uuid"))
    assert "not fixed" in row["reason"]
    assert set(done.rows("good").values()) == {"compliant"}
    (folder,) = runs(tmp_path / "reports", "journal.jsonl")
    events = [json.loads(line)["event"] for line in (folder / "journal.jsonl").read_text("utf-8").splitlines()]
    assert events == ["begin", "intent", "unknown", "end"]


def test_a_run_that_waits_for_a_guest_can_be_stopped(played: Stage, tmp_path: Path, calm: _Done) -> None:
    """A command that never ends is waited for for minutes; the other guests were looked into meanwhile."""
    played.enter("evil", "running")
    reports = tmp_path / "reports"
    argv = [sys.executable, "-m", "pytest", "checks/", "--uri", played.uri, "--reports", str(reports)]
    run = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + _SECONDS
        while not (played.folder / "evil.asked").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=_SECONDS)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 2, said
    assert b"Traceback" not in said
    (folder,) = runs(reports)
    assert document_of(folder)["run"]["cut_short"]
