"""The lock of a hypervisor: nobody else can take it, or keep anybody from it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.engine.part import Options
from reclaim.engine.run import Run
from reclaim.files import trust
from reclaim.handles import lock as locks
from reclaim.handles.hypervisor import Hypervisor
from reclaim.handles.lock import lock, others_at_work
from tests.support import domain_xml, opened

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hypervisor:
    """Root's folder is one below *tmp_path*."""
    monkeypatch.setattr(locks, "_ROOTS", tmp_path / "run" / "reclaim")
    monkeypatch.setattr(locks, "_USERS", tmp_path / "user")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return opened(tmp_path, domain_xml())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.lock"))


@needs_root
def test_roots_lock_lies_where_root_alone_can_make_one(tmp_path: Path, hypervisor: Hypervisor) -> None:
    with lock(hypervisor), pytest.raises(ReclaimError, match="another --fix is under way there"):
        lock(hypervisor)
    (path,) = _files(tmp_path)
    assert path.parent == tmp_path / "run" / "reclaim"
    assert (path.parent.stat().st_mode & 0o7777, path.stat().st_mode & 0o7777) == (0o700, 0o600)
    lock(hypervisor).close()


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "XDG_CACHE_HOME"])
def test_a_users_lock_lies_in_a_folder_of_her_own(
    tmp_path: Path, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY if os.getuid() == 0 else os.getuid())
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv(variable, str(own))
    if os.getuid() == 0:
        (own / "reclaim").mkdir(mode=0o700)
        os.chown(own / "reclaim", NOBODY, NOBODY)
        monkeypatch.setattr(locks, "_opened", lambda path: os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with lock(hypervisor), pytest.raises(ReclaimError, match="another --fix is under way there"):
        lock(hypervisor)
    assert [path.parent for path in _files(tmp_path)] == [own / "reclaim"]


@needs_root
def test_what_another_user_made_first_keeps_nobody_out(tmp_path: Path, hypervisor: Hypervisor) -> None:
    with lock(hypervisor):
        (path,) = _files(tmp_path)
    os.chown(path, NOBODY, NOBODY)
    with path.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with lock(hypervisor):
            assert path.stat().st_uid == 0


@needs_root
def test_a_folder_that_another_user_owns_is_not_used(tmp_path: Path, hypervisor: Hypervisor) -> None:
    theirs = tmp_path / "run" / "reclaim"
    theirs.mkdir(parents=True)
    os.chown(theirs, NOBODY, NOBODY)
    with lock(hypervisor):
        assert [path.parent for path in _files(tmp_path)] == [tmp_path / "cache" / "reclaim"]
    cache = tmp_path / "cache" / "reclaim"
    cache.chmod(0o777)
    with pytest.raises(
        ReclaimError,
        match=r"there is no place for a lock: .*run/reclaim: it is not a folder that only this user",
    ):
        lock(hypervisor)


def test_a_place_where_nothing_can_be_made_is_told(
    tmp_path: Path, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "run" / "cache"))
    with pytest.raises(ReclaimError, match=r"there is no place for a lock: .*Not a directory"):
        lock(hypervisor)


@needs_root
def test_root_is_told_of_others_at_work(
    tmp_path: Path, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock(hypervisor):
        (path,) = _files(tmp_path)
    theirs = tmp_path / "user" / "65534" / "reclaim" / path.name
    theirs.parent.mkdir(parents=True)
    assert others_at_work(hypervisor) == []
    theirs.touch()
    os.chown(theirs, NOBODY, NOBODY)
    assert others_at_work(hypervisor) == []
    with theirs.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert others_at_work(hypervisor) == [f"{theirs}, of the user 65534"]
        lock(hypervisor).close()
        # a lock of somebody whose journals are not obeyed must hide no run of root's that died
        assert others_at_work(hypervisor, frozenset((0,))) == []
        assert not Run(Options())._is_under_way(hypervisor)
        monkeypatch.setattr(trust, "trusted_users", lambda: frozenset((0, NOBODY)))
        assert Run(Options())._is_under_way(hypervisor)
    theirs.unlink()
    os.mkfifo(theirs)
    assert others_at_work(hypervisor) == []
    theirs.unlink()
    theirs.symlink_to(path)
    assert others_at_work(hypervisor) == []
