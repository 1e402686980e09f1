"""Holes punched into a copy, and a copy written anew: on real files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.files import holes, replace
from reclaim.files.replace import HeldFile, put_in_place
from tests.filesystems import MIB, allocated
from tests.unit.requirements.test_sparse_backup import (
    SIZE,
    checksum,
    dense,
    hypervisor,
    noise,
    write,
)


@pytest.mark.slow
def test_the_bytes_are_those_of_the_filesystem(btrfs: Path, tmp_path: Path) -> None:
    """Punched within extents that stay in use, the file is smaller and nothing is free: the note says so."""
    path = write(btrfs / "web.img", (0, (noise(65536) + bytes(65536)) * (SIZE * MIB // 131072)))
    content = checksum(path)
    note = HolePunch.of(str(path), holes.scan(str(path))).apply(hypervisor(tmp_path))["note"]
    assert "32.0 MiB" in note
    assert "of which the filesystem has 0 B free" in note
    assert checksum(path) == content


def test_a_copy_that_changed_since_it_was_read_is_left(tmp_path: Path) -> None:
    path = dense(tmp_path / "web.img")
    change = HolePunch.of(str(path), holes.scan(str(path)))
    os.utime(path)
    held = allocated(path)
    with pytest.raises(ChangeFailed, match="changed since it was read"):
        change.apply(hypervisor(tmp_path))
    assert allocated(path) == held


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "step"), [(HolePunch, "preadv"), (SparseRewrite, "preadv"), (SparseRewrite, "pwrite")]
)
def test_who_opens_the_copy_does_not_wait_for_the_end_of_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: type[HolePunch | SparseRewrite], step: str
) -> None:
    path = write(tmp_path / "web.img", (0, noise(16 * MIB)), (16 * MIB, bytes(MIB)))
    content, owner = checksum(path), hypervisor(tmp_path)
    wanted = change.of(str(path), holes.scan(str(path)))
    there = sorted(tmp_path.iterdir())
    real = getattr(os, step)
    steps: list[object] = []

    def act(*arguments: object) -> int:
        if not steps:
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        steps.append(arguments)
        return int(real(*arguments))

    monkeypatch.setattr(os, step, act)
    with pytest.raises(ChangeFailed, match="something else wants to open it"):
        wanted.apply(owner)
    assert len(steps) == 1
    assert checksum(path) == content
    assert sorted(tmp_path.iterdir()) == there


def rewritten(path: Path) -> SparseRewrite:
    return SparseRewrite.of(str(path), holes.scan(str(path)))


@pytest.mark.slow
def test_a_rewrite_follows_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = dense(tmp_path / "elsewhere" / "web-1.img")
    content, held = checksum(path), allocated(path)
    link = tmp_path / "web.img"
    link.symlink_to("elsewhere/web-1.img")
    rewritten(link).apply(hypervisor(tmp_path))
    assert link.is_symlink()
    assert checksum(path) == content
    assert held - allocated(path) >= 7 * MIB
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize("is_asked_for", [False, True])
@pytest.mark.parametrize("call", range(3))
def test_a_rewrite_that_is_interrupted_at_its_end_leaves_one_whole_copy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: int,
    is_asked_for: bool,  # noqa: FBT001
) -> None:
    path = dense(tmp_path / "web.img")
    content, owner = checksum(path), hypervisor(tmp_path)
    there = sorted(tmp_path.iterdir())
    done: list[str] = []

    def interrupted(function: Callable[..., None]) -> Callable[..., None]:
        def act(*arguments: Any, **more: Any) -> None:
            function(*arguments, **more)
            done.append(function.__name__)
            assert path.exists(), done
            if len(done) == call + 1:
                raise KeyboardInterrupt

        return act

    def put(held: HeldFile, new: int, spare: str) -> None:
        def asked_for() -> None:
            held.still_ours()
            if is_asked_for and "exchange" in done:
                raise ChangeFailed("something else wants it")

        monkeypatch.setattr(replace, "exchange", interrupted(replace.exchange))
        for name in ("link", "unlink"):
            monkeypatch.setattr(f"reclaim.files.replace.os.{name}", interrupted(getattr(os, name)))
        put_in_place(HeldFile(held.descriptor, held.folder, held.name, asked_for), new, spare)

    monkeypatch.setattr(replace, "put_in_place", put)
    with pytest.raises(KeyboardInterrupt):
        rewritten(path).apply(owner)
    assert checksum(path) == content
    assert sorted(tmp_path.iterdir()) == there
