"""As root, programs are looked for only in folders that are root's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reclaim.processes import programs
from tests.command import FLEET, audit
from tests.support import executable

SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's PATH is root's to set up")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "above/bin"
    made.mkdir(parents=True)
    return made


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o700, 0o775])
def test_a_folder_of_roots_stays(folder: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    folder.chmod(mode)
    monkeypatch.setenv("PATH", f"{folder}:{SYSTEM}")
    assert programs.guard() == []
    assert os.environ["PATH"] == f"{folder}:{SYSTEM}"


@needs_root
@pytest.mark.parametrize("who", ["the folder", "one above"])
@pytest.mark.parametrize("how", ["owner", "everybody", "sticky"])
def test_a_folder_that_others_can_write_in_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, who: str, how: str
) -> None:
    one = folder if who == "the folder" else folder.parent
    if how == "owner":
        os.chown(one, 65534, 65534)
    else:
        one.chmod(0o777 if how == "everybody" else 0o1777)
    monkeypatch.setenv("PATH", f"{folder}:{SYSTEM}")
    harmless = how == "sticky" and who == "one above"  # what lies in it is root's, and stays where it is
    assert programs.guard() == ([] if harmless else [str(folder)])
    assert os.environ["PATH"] == (f"{folder}:{SYSTEM}" if harmless else SYSTEM)


@needs_root
@pytest.mark.parametrize(("odd", "told"), [("", ["."]), (".", ["."]), ("bin", []), ("/not/there", [])])
def test_what_is_no_folder_of_its_own_is_left_out(monkeypatch: pytest.MonkeyPatch, odd: str, told: list[str]) -> None:
    monkeypatch.setenv("PATH", f"{odd}:{SYSTEM}")
    assert programs.guard() == told
    assert os.environ["PATH"] == SYSTEM


@needs_root
def test_a_link_to_a_folder_of_others_is_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(folder, 65534, 65534)
    link = tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.setenv("PATH", f"{link}:{SYSTEM}")
    assert programs.guard() == [str(link)]


@needs_root
def test_where_nothing_is_left_the_systems_own_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", ".")
    programs.guard()
    assert os.environ["PATH"] == SYSTEM


def test_who_is_not_root_keeps_his_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    folder.chmod(0o777)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(folder))
    assert programs.guard() == []
    assert os.environ["PATH"] == str(folder)


@pytest.mark.slow
@needs_root
def test_a_run_says_so_and_runs_no_program_from_there(tmp_path: Path, folder: Path) -> None:
    folder.chmod(0o777)
    for name in ("stat", "sh", "rsync", "qemu-img"):
        executable(folder / name, f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    outcome = audit(tmp_path / "reports", uri=FLEET, env={"PATH": f"{folder}:{os.environ['PATH']}"})
    assert f"reclaim: left out of PATH, since others can write there: {folder}" in outcome.lines
    assert not (tmp_path / "ran").exists()


@needs_root
def test_a_name_that_no_folder_can_have_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"/{'a' * 300}:{SYSTEM}")
    assert programs.guard() == []
    assert os.environ["PATH"] == SYSTEM
