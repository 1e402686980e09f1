"""One file put in the place of another."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.files import holes, replace
from reclaim.files.beneath import file_id
from reclaim.files.replace import HeldFile, nameless, put_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def held(tmp_path: Path, folder: int) -> Iterator[HeldFile]:
    """The file `web.img`, open."""
    (tmp_path / "web.img").write_bytes(b"old")
    descriptor = os.open(tmp_path / "web.img", os.O_RDWR)
    yield HeldFile(descriptor, folder, "web.img")
    os.close(descriptor)


@pytest.fixture
def new(folder: int) -> Iterator[int]:
    """A file without a name."""
    descriptor = nameless(folder)
    os.pwrite(descriptor, b"new", 0)
    yield descriptor
    os.close(descriptor)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The filesystem answers with *number* when it is asked for a file without a name."""
    real = os.open

    def refused(path: str, flags: int, *more: object, **named: object) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, os.strerror(number))
        return real(path, flags, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web.img", "x" * 255, "ä" * 127, "a\nb", "\udcff.img", ".hidden"])
def test_the_name_beside_leads_back_to_its_file(tmp_path: Path, name: str) -> None:
    made = replace.beside(name, 123_456_789_012)
    assert made.endswith(".reclaim-123456789012")
    assert replace.beside_of(made) == replace.cut(name)
    (tmp_path / made).touch()  # no name is too long


def test_a_short_name_is_not_cut_and_a_long_one_at_its_bytes() -> None:
    assert replace.cut("x" * 100) == "x" * 100
    assert replace.cut("x" * 101) == "x" * 100
    assert os.fsencode(replace.cut("ä" * 51)) == "ä".encode() * 50
    assert replace.cut("/srv/" + "d" * 150 + "/a") == "/srv/" + "d" * 150 + "/a"


def test_a_folder_before_a_name_beside_stays() -> None:
    assert replace.beside_of("/srv/.web.img.reclaim-7") == "/srv/web.img"


@pytest.mark.parametrize(
    "name", ["web.img", ".web.img", ".web.img.reclaim-", ".web.img.reclaim-7x", "web.img.reclaim-7", "..reclaim-7"]
)
def test_another_name_is_beside_nothing(name: str) -> None:
    assert replace.beside_of(name) == ""


def test_a_link_is_the_file_that_it_is_itself(tmp_path: Path, folder: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert replace.called(folder, "file") == file_id((tmp_path / "file").stat())
    assert replace.called(folder, "link") == file_id((tmp_path / "link").lstat())
    assert replace.called(folder, "gone") is None


# New files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL])
def test_a_nameless_file_has_no_name_on_any_filesystem(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    if number:
        refuse(monkeypatch, number)
    descriptor = nameless(folder)
    os.pwrite(descriptor, b"x", 0)
    assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    assert names(tmp_path) == []
    os.close(descriptor)


@pytest.mark.parametrize("number", [0, errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL])
def test_a_new_file_has_its_name_only_if_it_must(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    if number:
        refuse(monkeypatch, number)
    descriptor = replace.made_beside(folder, ".web.img.reclaim-1")
    assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    assert names(tmp_path) == [".web.img.reclaim-1"] * bool(number)
    os.close(descriptor)


def test_another_error_is_raised(tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="space"):
        nameless(folder)
    with pytest.raises(OSError, match="space"):
        replace.made_beside(folder, "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_lies_under_the_new_name_is_not_used(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    refuse(monkeypatch, errno.EOPNOTSUPP)
    if kind == "link":
        (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "new").touch()
    with pytest.raises(FileExistsError):
        replace.made_beside(folder, "new")
    assert names(tmp_path) == ["new"]


def test_a_name_is_given_once_and_takes_none_from_another(tmp_path: Path, folder: int, new: int) -> None:
    (tmp_path / "taken").write_bytes(b"other")
    with pytest.raises(ChangeFailed, match="taken"):
        replace.give_name(new, folder, "taken")
    assert (tmp_path / "taken").read_bytes() == b"other"
    replace.give_name(new, folder, "free")
    replace.give_name(new, folder, "free")
    assert (tmp_path / "free").read_bytes() == b"new"


def test_only_the_own_name_is_dropped(tmp_path: Path, folder: int, new: int) -> None:
    (tmp_path / "other").write_bytes(b"other")
    replace.give_name(new, folder, "mine")
    for name in ("other", "gone", "mine"):
        replace.drop(new, folder, name)
    assert names(tmp_path) == ["other"]


# Exchanging -----------------------------------------------------------------------------------


def test_two_names_change_their_files(tmp_path: Path, folder: int) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    replace.exchange(folder, "a", "b")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"2", b"1")
    with pytest.raises(FileNotFoundError):
        replace.exchange(folder, "a", "gone")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EINVAL, "cannot exchange two names"),
        (errno.ENOSYS, "cannot exchange two names"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_filesystem_that_exchanges_no_names_is_told(
    monkeypatch: pytest.MonkeyPatch, folder: int, number: int, words: str
) -> None:
    class Library:
        def renameat2(self, *_arguments: object) -> int:
            return -1

    monkeypatch.setattr(replace, "_libc", Library())
    monkeypatch.setattr(ctypes, "get_errno", lambda: number)
    with pytest.raises(OSError, match=words) as caught:
        replace.exchange(folder, "a", "b")
    assert caught.value.errno == number


def test_a_c_library_without_it_is_told(monkeypatch: pytest.MonkeyPatch, folder: int) -> None:
    monkeypatch.setattr(replace, "_libc", object())
    with pytest.raises(OSError, match="renameat2") as caught:
        replace.exchange(folder, "a", "b")
    assert caught.value.errno == errno.ENOSYS


def test_the_name_is_that_of_the_new_file_and_nothing_is_left(tmp_path: Path, held: HeldFile, new: int) -> None:
    put_in_place(held, new, "spare")
    assert names(tmp_path) == ["web.img"]
    assert (tmp_path / "web.img").read_bytes() == b"new"
    assert os.pread(held.descriptor, 9, 0) == b"old"
    assert os.fstat(held.descriptor).st_nlink == 0


def test_a_name_that_is_another_files_by_now_is_left(
    tmp_path: Path, held: HeldFile, new: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanged: list[object] = []
    monkeypatch.setattr(replace, "exchange", lambda *arguments: exchanged.append(arguments))
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "other").rename(tmp_path / "web.img")
    with pytest.raises(ChangeFailed, match="nothing was changed"):
        put_in_place(held, new, "spare")
    assert names(tmp_path) == ["web.img"]
    assert (tmp_path / "web.img").read_bytes() == b"other"
    assert exchanged == []


def test_a_file_that_comes_in_the_last_moment_keeps_its_name(tmp_path: Path, held: HeldFile, new: int) -> None:
    def another_comes() -> None:
        (tmp_path / "other").write_bytes(b"other")
        (tmp_path / "other").rename(tmp_path / "web.img")

    with pytest.raises(ChangeFailed, match="another file"):
        put_in_place(HeldFile(held.descriptor, held.folder, "web.img", another_comes), new, "spare")
    assert names(tmp_path) == ["web.img"]
    assert (tmp_path / "web.img").read_bytes() == b"other"


@pytest.mark.parametrize("asked", [1, 2])
def test_whoever_waits_finds_the_old_file(tmp_path: Path, held: HeldFile, new: int, asked: int) -> None:
    looks: list[int] = []

    def still_ours() -> None:
        looks.append(1)
        if len(looks) == asked:
            raise ChangeFailed("somebody waits")

    with pytest.raises(ChangeFailed, match="somebody waits"):
        put_in_place(HeldFile(held.descriptor, held.folder, "web.img", still_ours), new, "spare")
    assert names(tmp_path) == ["web.img"]
    assert (tmp_path / "web.img").read_bytes() == b"old"


def test_a_spare_name_that_is_taken_stays(tmp_path: Path, held: HeldFile, new: int) -> None:
    (tmp_path / "spare").write_bytes(b"other")
    with pytest.raises(ChangeFailed, match="spare"):
        put_in_place(held, new, "spare")
    assert (tmp_path / "spare").read_bytes() == b"other"
    assert (tmp_path / "web.img").read_bytes() == b"old"


def test_the_new_file_is_like_the_old_one(held: HeldFile, new: int) -> None:
    os.fchmod(held.descriptor, 0o6751)
    os.setxattr(held.descriptor, "user.mark", b"m")
    if os.geteuid() == 0:
        os.fchown(held.descriptor, 65534, 12)
        os.fchmod(held.descriptor, 0o6751)
    before = os.fstat(held.descriptor)
    replace.take_over(held.descriptor, new, before)
    after = os.fstat(new)
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert os.getxattr(new, "user.mark") == b"m"


def test_who_asks_for_the_old_file_during_a_rewrite_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "web.img"
    path.write_bytes(b"x" * 8192)
    before = path.stat()
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with holes.opened(str(path), os.O_RDWR) as descriptor, holes.alone_with(descriptor, str(path)):
        asked = iter([None, ChangeFailed("something else wants it")])

        def still_ours() -> None:
            if (answer := next(asked)) is not None:
                raise answer

        new = nameless(folder)
        with pytest.raises(ChangeFailed):
            put_in_place(HeldFile(descriptor, folder, "web.img", still_ours), new, ".web.img.new")
        os.close(new)
    os.close(folder)
    assert path.stat().st_ino == before.st_ino
    assert [one.name for one in tmp_path.iterdir()] == ["web.img"]
