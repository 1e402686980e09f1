"""A folder that is closed to us is no folder without files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.engine import undo
from reclaim.files import there
from reclaim.record import runs


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below one that another user keeps closed; root goes through any, so the refusal is played."""
    folder = tmp_path / "closed" / "reports"
    folder.mkdir(parents=True)
    look = Path.stat

    def refuse(path: Path, **more: bool) -> os.stat_result:
        if folder in (path, *path.parents):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", refuse)
    return folder


def test_folders_files_and_nothing(tmp_path: Path) -> None:
    file, missing = tmp_path / "file", tmp_path / "missing"
    file.touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(missing)
    folders = [there.is_folder(path) for path in (tmp_path, tmp_path / "link", file, missing, file / "below")]
    assert folders == [True, True, False, False, False]
    found = [there.exists(path) for path in (tmp_path, file, missing, file / "below", tmp_path / "dangling")]
    assert found == [True, True, False, False, False]


def test_what_cannot_be_looked_at_is_not_absent(closed: Path) -> None:
    for ask in (there.exists, there.is_folder):
        with pytest.raises(PermissionError):
            ask(closed)


def test_runs_that_cannot_be_looked_at_are_named(closed: Path) -> None:
    with pytest.raises(ReclaimError, match="Permission denied"):
        runs.every(closed)


def test_undo_of_a_run_that_cannot_be_looked_at_does_not_call_it_one_without_changes(closed: Path) -> None:
    with pytest.raises(PermissionError):
        undo.undo(closed / "20260101T000000Z-fix", print)
