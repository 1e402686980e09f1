"""Holes punched into a copy, and a copy written anew: on real files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.changes import punch
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.files import holes, replace
from reclaim.files.replace import HeldFile, put_in_place
from reclaim.handles.hypervisor import Hypervisor
from tests.copies import SIZE, dense, noise, write
from tests.filesystems import MIB, allocated
from tests.unit.requirements.test_sparse_backup import (
    checksum,
    hypervisor,
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


@pytest.mark.slow
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
    with pytest.raises(ChangeFailed, match="another process wants to open it"):
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


# On small files -------------------------------------------------------------------------------


def _copy(path: Path, *, zeros: int = 1) -> Path:
    """A MiB of data around *zeros* MiB of zeros that were written."""
    half = noise(MIB // 2)
    write(path, (0, half + bytes(zeros * MIB) + half), size=(1 + zeros) * MIB)
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    return path


@pytest.fixture
def owner(tmp_path: Path) -> Hypervisor:
    return hypervisor(tmp_path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return _copy(tmp_path / "copies" / "web.img")


def _punch(path: Path) -> HolePunch:
    return HolePunch.of(str(path), holes.scan(str(path)))


def _alone(path: Path) -> bool:
    return list(path.parent.iterdir()) == [path]


Make = Callable[[Path], HolePunch | SparseRewrite]
either = pytest.mark.parametrize("make", [_punch, rewritten], ids=["punch", "rewrite"])


def test_holes_are_punched_and_nothing_else_is_another(copy: Path, owner: Hypervisor) -> None:
    change, before, content = _punch(copy), copy.stat(), checksum(copy)
    assert change.expected == MIB
    assert "1.0 MiB" in change.diff
    outcome = change.apply(owner)
    after = copy.stat()
    assert outcome["freed"] == str((before.st_blocks - after.st_blocks) * 512) == str(MIB)
    assert str(MIB) in outcome["note"]
    assert checksum(copy) == content
    assert (after.st_ino, after.st_size, after.st_mtime_ns, after.st_nlink) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
        before.st_nlink,
    )
    assert str(copy) in change.undo(owner, outcome)
    assert _alone(copy)


def test_a_rewrite_is_another_file_with_all_of_the_old_one(copy: Path, owner: Hypervisor) -> None:
    copy.chmod(0o640)
    os.setxattr(copy, "user.origin", b"kvm1")
    change, before, content, held = rewritten(copy), copy.stat(), checksum(copy), allocated(copy)
    outcome = change.apply(owner)
    after = copy.stat()
    assert checksum(copy) == content
    assert after.st_ino != before.st_ino
    for kept in ("st_size", "st_mtime_ns", "st_mode", "st_uid", "st_gid", "st_nlink"):
        assert getattr(after, kept) == getattr(before, kept), kept
    assert os.getxattr(copy, "user.origin") == b"kvm1"
    assert outcome["freed"] == str(held - allocated(copy)) == str(MIB)
    assert _alone(copy)
    assert str(copy) in change.undo(owner, outcome)


def test_a_file_that_ends_within_a_block_of_zeros_keeps_its_size(copy: Path, owner: Hypervisor) -> None:
    content = noise(5000) + bytes(MIB + 77)
    copy.write_bytes(content)
    rewritten(copy).apply(owner)
    assert copy.read_bytes() == content


def test_what_snapshots_hold_is_not_counted_as_come_back(copy: Path, owner: Hypervisor) -> None:
    change = SparseRewrite.of(str(copy), holes.scan(str(copy)), "the snapshots a and b")
    assert "the snapshots a and b" in change.diff
    outcome = change.apply(owner)
    assert outcome["freed"] == "0"
    assert "the snapshots a and b" in outcome["note"]
    assert "1.0 MiB" in outcome["note"]


def test_without_zeros_a_rewrite_is_given_up(copy: Path, owner: Hypervisor) -> None:
    copy.write_bytes(noise(MIB))
    before, content = copy.stat(), checksum(copy)
    with pytest.raises(ChangeFailed) as caught:
        rewritten(copy).apply(owner)
    assert str(caught.value).startswith(f"{copy}: ")
    assert str(caught.value).count(str(copy)) == 1
    assert (copy.stat().st_ino, checksum(copy)) == (before.st_ino, content)
    assert _alone(copy)


def test_a_new_file_that_reads_another_way_does_not_take_the_place(
    copy: Path, owner: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, content, real = copy.stat(), checksum(copy), os.pwrite

    def flipped(descriptor: int, data: bytes, position: int) -> int:
        return real(descriptor, bytes([data[0] ^ 1]) + data[1:], position)

    change = rewritten(copy)
    monkeypatch.setattr(os, "pwrite", flipped)
    with pytest.raises(ChangeFailed, match="content differs from the old one"):
        change.apply(owner)
    assert (copy.stat().st_ino, checksum(copy)) == (before.st_ino, content)
    assert _alone(copy)


@either
def test_another_file_in_its_place_is_left(copy: Path, owner: Hypervisor, make: Make) -> None:
    change = make(copy)
    aside = copy.with_name("aside")
    copy.rename(aside)
    shutil.copyfile(aside, copy)
    os.utime(copy, ns=(aside.stat().st_atime_ns, aside.stat().st_mtime_ns))
    held = allocated(copy), allocated(aside)
    with pytest.raises(ChangeFailed, match=str(copy)):
        change.apply(owner)
    assert (allocated(copy), allocated(aside)) == held


@either
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_copy_that_is_gone_is_told(copy: Path, owner: Hypervisor, make: Make, what: str) -> None:
    change = make(copy)
    shutil.rmtree(copy.parent) if what == "folder" else copy.unlink()
    with pytest.raises(ChangeFailed, match="No such file"):
        change.apply(owner)


@either
def test_a_copy_that_grew_is_left(copy: Path, owner: Hypervisor, make: Make) -> None:
    change = make(copy)
    with copy.open("ab") as stream:
        stream.write(b"more")
    held = allocated(copy)
    with pytest.raises(ChangeFailed, match="changed since it was read"):
        change.apply(owner)
    assert allocated(copy) == held


@either
def test_the_image_of_a_guest_is_left(copy: Path, tmp_path: Path, make: Make) -> None:
    change, held = make(copy), allocated(copy)
    with pytest.raises(ChangeFailed, match="guest one uses it"):
        change.apply(hypervisor(tmp_path, str(copy)))
    assert allocated(copy) == held


def test_what_lies_in_the_way_of_a_rewrite_stays(copy: Path, owner: Hypervisor) -> None:
    change = rewritten(copy)
    spare = copy.with_name(change.spare)
    spare.write_text("somebody else's")
    with pytest.raises(ChangeFailed, match=change.spare):
        change.apply(owner)
    assert spare.read_text() == "somebody else's"


@either
def test_a_journal_of_an_earlier_version_has_no_folder(copy: Path, owner: Hypervisor, make: Make) -> None:
    change = replaced(make(copy), folder="", folder_device=0, folder_inode=0)
    change.apply(owner)
    assert allocated(copy) == MIB
    copy.unlink()
    copy.parent.rmdir()
    with pytest.raises(ChangeFailed, match="No such file"):
        change.apply(owner)


@either
def test_a_strange_name_is_shown_and_not_obeyed(tmp_path: Path, owner: Hypervisor, make: Make) -> None:
    path = _copy(tmp_path / "we\x1b[31mb\n.img")
    change = make(path)
    assert change.diff.isprintable()
    assert change.target.isprintable()
    change.apply(owner)
    assert allocated(path) == MIB


@pytest.mark.slow
def test_progress_is_told_of_long_reads(copy: Path, owner: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "_PROGRESS_SECONDS", 0)
    _copy(copy, zeros=70)
    said: list[str] = []
    owner.progress = said.append
    change = rewritten(copy)
    change.apply(owner)
    assert said
    assert all(str(copy) in line and "142.0 MiB" in line for line in said)


# The parts of a rewrite -----------------------------------------------------------------------


def _opened(path: Path, content: bytes) -> int:
    path.write_bytes(content)
    return os.open(path, os.O_RDWR)


@pytest.mark.parametrize(
    ("old", "new", "length", "is_same"),
    [
        (b"abc", b"abc", 3, True),
        (b"", b"", 0, True),
        (b"abc", b"abX", 3, False),
        (b"abc", b"abcd", 3, False),
        (b"abc", b"ab", 3, False),
        (bytes(MIB) + b"a", bytes(MIB) + b"b", MIB + 1, False),
        (bytes(MIB) + b"a", bytes(MIB) + b"a", MIB + 1, True),
    ],
)
def test_content_is_compared_to_the_end(tmp_path: Path, old: bytes, new: bytes, length: int, *, is_same: bool) -> None:
    first, second = _opened(tmp_path / "old", old), _opened(tmp_path / "new", new)
    asked: list[None] = []
    assert punch.same_content(first, second, length, lambda: asked.append(None)) is is_same
    assert len(asked) == -(-length // MIB)
    os.close(first)
    os.close(second)


def test_a_file_that_is_truncated_meanwhile_is_not_copied_for_ever(tmp_path: Path) -> None:
    old, new = _opened(tmp_path / "old", b"abc"), _opened(tmp_path / "new", b"")
    with pytest.raises(ChangeFailed, match="truncated"):
        punch._copy(old, new, 0, 10, lambda: None)
    os.close(old)
    os.close(new)


def test_a_filesystem_without_flags_has_none_to_keep() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    punch._keep_flags(null, null)
    os.close(null)
    with pytest.raises(OSError, match="Bad file"):
        punch._keep_flags(null, null)


# What a run left that died --------------------------------------------------------------------


def _told(change: SparseRewrite, owner: Hypervisor) -> str:
    told = change.undo(owner, {})
    assert told.startswith(f"{change.path}: ")
    return told


def test_a_rewrite_that_had_not_begun(copy: Path, owner: Hypervisor) -> None:
    change = rewritten(copy)
    before = copy.stat()
    assert "as it was" in _told(change, owner)
    assert copy.stat().st_ino == before.st_ino
    assert _alone(copy)


def test_a_new_file_beside_the_copy_is_removed(copy: Path, owner: Hypervisor) -> None:
    change, content = rewritten(copy), checksum(copy)
    copy.with_name(change.spare).write_text("half of it")
    assert change.spare in _told(change, owner)
    assert checksum(copy) == content
    assert _alone(copy)


def test_the_old_file_beside_the_new_one_is_removed(copy: Path, owner: Hypervisor) -> None:
    """It died between the exchange of the two names and the removal of the old one."""
    change, content, spare = rewritten(copy), checksum(copy), copy.with_name(rewritten(copy).spare)
    copy.rename(spare)
    shutil.copyfile(spare, copy)
    told = _told(change, owner)
    assert "stays sparse" in told
    assert change.spare in told
    assert checksum(copy) == content
    assert _alone(copy)


def test_a_rewrite_that_was_made_and_not_written_down(copy: Path, owner: Hypervisor) -> None:
    change = rewritten(copy)
    change.apply(owner)
    assert "another file" in _told(change, owner)
    assert _alone(copy)


@pytest.mark.parametrize("is_copy_there", [False, True])
def test_what_nobody_can_tell_is_left_to_a_person(copy: Path, owner: Hypervisor, *, is_copy_there: bool) -> None:
    change = rewritten(copy)
    spare = copy.with_name(change.spare)
    spare.write_text("the copy, or not")
    another = copy.with_name("another")
    shutil.copyfile(copy, another)  # while the old one is there: its inode is not used again
    copy.unlink()
    if is_copy_there:
        another.rename(copy)
    with pytest.raises(ChangeFailed, match=change.spare):
        change.undo(owner, {})
    assert spare.read_text() == "the copy, or not"
    assert copy.exists() is is_copy_there


@pytest.mark.parametrize("what", ["file", "folder"])
def test_where_the_copy_is_gone_undo_says_so(copy: Path, owner: Hypervisor, what: str) -> None:
    change = rewritten(copy)
    shutil.rmtree(copy.parent) if what == "folder" else copy.unlink()
    with pytest.raises(ChangeFailed) as caught:
        change.undo(owner, {})
    assert str(caught.value).startswith(f"{copy}: ")
    assert str(caught.value).count(str(copy)) == 1
