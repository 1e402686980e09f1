"""The temporary files of a session of tests go with it, and those of a killed one with the next."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import temporary
from tests.temporary import PREFIX, Session, sweep

_ROOT = Path(__file__).resolve().parents[2]
#: a session of tests that leaves something behind and is killed, or ends
_PROGRAM = """
import os, pathlib, signal, sys, tempfile
from tests import temporary
session = temporary.begin()
pathlib.Path(tempfile.mkdtemp(), "left").write_text("x")
print(tempfile.gettempdir(), temporary.begin(), os.environ["PYTEST_DEBUG_TEMPROOT"], flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
session.end()
"""


def _run(place: Path, how: str) -> list[str]:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(place), "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-c", _PROGRAM, how]
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_what_a_session_leaves_goes_with_it(tmp_path: Path) -> None:
    folder, nested, pytests = _run(tmp_path, "ends")
    assert Path(folder).parent == tmp_path
    assert Path(folder).name.startswith(PREFIX)
    assert (nested, pytests) == ("None", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_session_leaves_goes_with_the_next(tmp_path: Path) -> None:
    folder, *_ = _run(tmp_path, "killed")
    assert [path.name for path in Path(folder).rglob("left")] == ["left"]
    _run(tmp_path, "ends")
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_lives_keeps_its_folder_and_others_keep_theirs(tmp_path: Path) -> None:
    session = Session(tmp_path)
    (tmp_path / "reclaim-other").mkdir()
    (tmp_path / f"{PREFIX}unlocked").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "reclaim-other")
    before = sorted(tmp_path.iterdir())
    assert sweep(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == before
    assert oct(session.folder.stat().st_mode) == "0o41777"
    session.end()
    assert not session.folder.exists()


def test_the_tests_themselves_run_in_one() -> None:
    assert Path(tempfile.gettempdir()).name.startswith(PREFIX)
    assert temporary.begin() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a folder of another user")
def test_a_folder_of_another_user_is_left(tmp_path: Path) -> None:
    folder = tmp_path / f"{PREFIX}theirs"
    folder.mkdir()
    (folder / ".lock").touch()
    os.chown(folder, 65534, 65534)
    assert sweep(tmp_path) == []
    assert folder.is_dir()
