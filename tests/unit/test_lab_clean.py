"""`make lab-clean` takes nothing from under another run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import guest, mounts, paths, unused
from lab.error import LabError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECLAIM_LAB", str(tmp_path))
    for name in ("lock", "fresh-sid.lock", "netns-root.lock"):
        (paths.cache() / name).touch()
    (paths.cache() / "netns-root-0123").mkdir()
    return tmp_path


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


@pytest.mark.parametrize("name", ["lock", "fresh-sid.lock", "netns-root.lock", "netns-root-0123"])
@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["shared", "exclusive"])
def test_a_folder_that_another_run_uses_stays(
    folder: Path, name: str, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    lock = folder / "cache" / name
    with (
        _locked(lock, kind),
        pytest.raises(LabError, match=f"another run uses the lab .*/{name}.: nothing was removed"),
    ):
        guest.clean()
    assert lock.exists()
    with unused.held():
        pass


def test_others_wait_while_the_folder_is_removed(folder: Path) -> None:
    with unused.held(), (folder / "cache/lock").open() as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_folder_that_is_not_there_is_free(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLAIM_LAB", str(folder / "none"))
    with unused.held():
        pass
    assert not (folder / "none").exists()


def test_a_mount_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts.expect_none(folder)
    monkeypatch.setattr(mounts, "below", lambda _: [str(folder / "proc")])
    with pytest.raises(LabError, match=f"still mounted, so nothing is removed there: {folder}/proc"):
        mounts.expect_none(folder)
