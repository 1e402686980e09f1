"""Text files of this machine, read and replaced by descriptors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ChangeFailed, NotAssessable, ProbeError
from reclaim.files import localfile, replace

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"#!/bin/sh\nrsync -a /srv/ /backup/\n"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "jobs" / "backup.sh"
    path.parent.mkdir()
    path.write_bytes(TEXT)
    return path


def names(path: Path) -> list[str]:
    """The names in the folder of *path*."""
    return sorted(other.name for other in path.parent.iterdir())


def left(path: Path, content: bytes) -> Path:
    """What a killed `write` leaves."""
    other = path.with_name(replace.beside(path.name, path.stat().st_ino if path.exists() else 0))
    other.write_bytes(content)
    return other


# Reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [0, 1, len(TEXT) - 1, len(TEXT), len(TEXT) + 1, 10**6])
def test_no_more_than_is_asked_for_is_read(job: Path, most: int) -> None:
    assert localfile.read(str(job), most) == TEXT[:most]


def test_a_read_in_pieces_ends_where_it_is_asked_to(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, count, offset: real(descriptor, min(count, 4), offset))
    assert localfile.read(str(job), 10) == TEXT[:10]
    assert localfile.read(str(job), 1000) == TEXT


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone", tmp_path / "gone" / "too"):
        with pytest.raises(ProbeError, match=f"{path}: "):
            localfile.read(str(path), 100)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(NotAssessable, match=str(path)):
        localfile.read(str(path), 100)


def test_a_file_that_cannot_be_read_to_its_end_is_named(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(ProbeError, match=f"{job}: Input/output error"):
        localfile.read(str(job), 100)


def test_no_descriptor_is_left_open(job: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    localfile.read(str(job), 100)
    localfile.holds(str(job), None)
    localfile.write(str(job), TEXT, b"new")
    localfile.write(str(job), b"new", None)
    localfile.write(str(job), None, b"new")
    with pytest.raises(ChangeFailed):
        localfile.write(str(job), b"another", b"x")
    localfile.sweep(str(job), b"x")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize(
    ("content", "expected"),
    [(TEXT, True), (TEXT[:-1], False), (TEXT + b"x", False), (b"", False), (None, False)],
)
def test_a_file_holds_what_it_holds(job: Path, content: bytes | None, *, expected: bool) -> None:
    assert localfile.holds(str(job), content) is expected


def test_a_file_that_is_not_there_holds_nothing(job: Path) -> None:
    gone = str(job.with_name("gone"))
    assert localfile.holds(gone, None)
    assert not localfile.holds(gone, b"")
    assert not localfile.holds(str(job.parent), b"")
    with pytest.raises(ProbeError, match="no-folder"):
        localfile.holds("/no-folder/gone", None)


# Writing --------------------------------------------------------------------------------------


def test_a_file_is_replaced_and_whoever_has_the_old_one_keeps_it(job: Path) -> None:
    job.chmod(0o751)
    os.setxattr(job, "user.mark", b"m")
    with job.open("rb") as before:
        localfile.write(str(job), TEXT, b"new\n")
        assert before.read() == TEXT
    assert job.read_bytes() == b"new\n"
    assert job.stat().st_mode & 0o7777 == 0o751
    assert os.getxattr(job, "user.mark") == b"m"
    assert names(job) == ["backup.sh"]


@pytest.mark.parametrize("now", [TEXT + b"# more\n", TEXT[:-1], b""])
@pytest.mark.parametrize("wanted", [b"new\n", None])
def test_a_file_that_holds_something_else_by_now_is_left(job: Path, now: bytes, wanted: bytes | None) -> None:
    job.write_bytes(now)
    with pytest.raises(ChangeFailed, match="nothing was changed"):
        localfile.write(str(job), TEXT, wanted)
    assert job.read_bytes() == now
    assert names(job) == ["backup.sh"]


def test_a_file_is_taken_away(job: Path) -> None:
    localfile.write(str(job), TEXT, None)
    assert names(job) == []


def test_another_file_of_its_name_is_not_taken_away(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between the look at the file and its removal."""
    real = replace.called

    def another_comes(folder: int, name: str) -> object:
        job.with_name("other").write_bytes(TEXT)
        job.with_name("other").rename(job)
        return real(folder, name)

    monkeypatch.setattr(replace, "called", another_comes)
    with pytest.raises(ChangeFailed, match="has changed"):
        localfile.write(str(job), TEXT, None)
    assert job.read_bytes() == TEXT


def test_a_file_is_made_for_all_to_read(job: Path) -> None:
    path = job.with_name("unit.timer")
    before = os.umask(0o077)
    try:
        localfile.write(str(path), None, b"[Timer]\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"[Timer]\n"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert names(job) == ["backup.sh", "unit.timer"]


@pytest.mark.parametrize("wanted", [b"new", None])
def test_a_file_that_is_there_by_now_is_not_made(job: Path, wanted: bytes | None) -> None:
    with pytest.raises(ChangeFailed, match="exists by now"):
        localfile.write(str(job), None, wanted)
    assert job.read_bytes() == TEXT
    assert names(job) == ["backup.sh"]


def test_a_file_that_comes_while_it_is_made_stays(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = job.with_name("unit.timer")
    real = os.link

    def another_comes(*arguments: object, **named: object) -> None:
        path.write_bytes(b"theirs")
        real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", another_comes)
    with pytest.raises(ChangeFailed, match="exists by now"):
        localfile.write(str(path), None, b"ours")
    assert path.read_bytes() == b"theirs"
    assert names(job) == ["backup.sh", "unit.timer"]


def test_what_is_to_be_gone_and_is_gone_is_no_trouble(job: Path) -> None:
    localfile.write(str(job.with_name("gone")), None, None)
    assert names(job) == ["backup.sh"]


def test_a_file_that_is_gone_is_not_replaced(job: Path) -> None:
    job.unlink()
    with pytest.raises(ChangeFailed):
        localfile.write(str(job), TEXT, b"new")
    assert names(job) == []


def test_a_folder_that_is_gone_makes_no_file(job: Path) -> None:
    with pytest.raises(ChangeFailed, match="the file is as it was"):
        localfile.write(str(job.parent / "gone" / "unit"), None, b"x")


def test_a_pipe_in_the_place_of_the_file_is_told_once(job: Path) -> None:
    job.unlink()
    os.mkfifo(job)
    with pytest.raises(ChangeFailed, match="nothing was changed") as caught:
        localfile.write(str(job), TEXT, b"new")
    assert str(caught.value).count(str(job)) == 0  # whoever reports it names the file


def test_a_full_disk_leaves_the_file_and_nothing_else(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ChangeFailed, match="No space left on device; the file is as it was"):
        localfile.write(str(job), TEXT, b"new")
    with pytest.raises(ChangeFailed, match="No space left on device"):
        localfile.write(str(job.with_name("unit")), None, b"new")
    assert job.read_bytes() == TEXT
    assert names(job) == ["backup.sh"]


def test_a_write_in_pieces_is_whole(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:3], offset))
    localfile.write(str(job), TEXT, b"0123456789")
    assert job.read_bytes() == b"0123456789"


def test_what_is_written_to_it_meanwhile_is_kept(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = replace.take_over

    def written_to(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        job.write_bytes(b"newer\n")

    monkeypatch.setattr(replace, "take_over", written_to)
    with pytest.raises(ChangeFailed, match="has changed"):
        localfile.write(str(job), TEXT, b"new")
    assert job.read_bytes() == b"newer\n"
    assert names(job) == ["backup.sh"]


# What a killed write leaves -------------------------------------------------------------------


def test_what_is_left_beside_is_named(job: Path) -> None:
    assert localfile.left_beside(str(job)) == []
    one = left(job, b"half")
    two = job.with_name(replace.beside(job.name, 1))
    two.write_bytes(b"")
    left(job.with_name("other.sh"), b"x")
    assert localfile.left_beside(str(job)) == sorted([str(one), str(two)])
    job.unlink()
    assert localfile.left_beside(str(job)) == sorted([str(one), str(two)])
    assert localfile.left_beside("/no-folder/backup.sh") == []


def test_of_what_is_left_only_ours_is_swept(job: Path) -> None:
    one = left(job, b"new")
    theirs = job.with_name(replace.beside(job.name, 1))
    theirs.write_bytes(b"newer")
    pipe = job.with_name(replace.beside(job.name, 2))
    os.mkfifo(pipe)
    bystander = left(job.with_name("other.sh"), b"new")
    localfile.sweep(str(job), None, b"new", b"old")
    assert not one.exists()
    assert names(job) == sorted(["backup.sh", theirs.name, pipe.name, bystander.name])


def test_with_no_content_nothing_is_swept(job: Path) -> None:
    one = left(job, b"")
    localfile.sweep(str(job), None)
    assert one.exists()


def test_a_folder_that_cannot_be_swept_is_named() -> None:
    with pytest.raises(ChangeFailed, match=r"/no-folder/backup\.sh"):
        localfile.sweep("/no-folder/backup.sh", b"")
