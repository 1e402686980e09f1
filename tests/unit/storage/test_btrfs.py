"""The answers of btrfs(8), stat and findmnt: snapshots of a subvolume, and the files that share an extent."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import testinfra

from reclaim.files import holes
from reclaim.storage import btrfs as module
from reclaim.storage.btrfs import Sharer
from tests.filesystems import MIB, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testinfra.host import Host

SHOW = """{name}
\tName: \t\t\t{name}
\tUUID: \t\t\t0c
\tSnapshot(s):
\t\t\t\tsnaps/monday
\t\t\t\tsnaps/a b
\tQuota group:\t\tn/a
\t\t\tno snapshot
"""


class Shell:
    """A shell that has the given answers; any other command fails."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def run(self, command: str, *arguments: str) -> SimpleNamespace:
        line = command.replace("%%", "%") if not arguments else command % arguments
        self.asked.append(line)
        output = self.answers.get(line)
        return SimpleNamespace(rc=0 if output is not None else 1, stdout=output or "", stderr="")


def shell(answers: Mapping[str, str]) -> Host:
    return cast("Host", Shell(answers))


def findmnt(path: str) -> str:
    return f"findmnt --noheadings --raw --output FSTYPE,TARGET --target {path}"


def stat(path: str) -> str:
    return f"LC_ALL=C stat --format=%i:%F -- {path}"


@pytest.mark.parametrize(
    ("answers", "mount"),
    [
        pytest.param({"/srv/a/b": "ext4 /srv\n"}, ("ext4", "/srv"), id="the-path"),
        pytest.param({"/srv": "btrfs /srv\n", "/": "ext4 /\n"}, ("btrfs", "/srv"), id="the-nearest-above"),
        pytest.param({"/srv": "autofs /srv\nnfs4 /srv\n"}, ("nfs4", "/srv"), id="the-upmost"),
        pytest.param({"/": "ext4 /a\\x20b\\x5c\n"}, ("ext4", "/a b\\"), id="a-name-with-blanks"),
        pytest.param({}, ("", "/"), id="no-answer"),
    ],
)
def test_the_mount_of_a_path(answers: dict[str, str], mount: tuple[str, str]) -> None:
    given = shell({findmnt(path): text for path, text in answers.items()})
    assert module.mount_of(given, "/srv/a/b") == mount


def test_a_name_that_cannot_be_given_to_a_shell_is_passed_over() -> None:
    given = Shell({findmnt("/srv"): "ext4 /srv\n"})
    assert module.mount_of(cast("Host", given), "/srv/a\nb/c") == ("ext4", "/srv")
    assert given.asked == [findmnt("/srv")]


def test_the_top_of_a_subvolume_is_the_folder_of_inode_256() -> None:
    answers = {stat("/srv/a"): "257:directory\n", stat("/srv"): "256:directory\n", stat("/"): "256:directory\n"}
    assert module.subvolume(shell(answers), "/srv/a/new") == "/srv"
    assert module.subvolume(shell({stat("/srv/f"): "256:regular file\n"}), "/srv/f") is None


def test_the_snapshots_are_those_that_are_listed_and_no_other_lines() -> None:
    answers = {stat("/srv"): "256:directory\n", "btrfs subvolume show /srv": SHOW.format(name="@images")}
    assert module.snapshots(shell(answers), "/srv/web.img") == ["snaps/monday", "snaps/a b"]
    assert module.snapshots(shell({stat("/srv"): "256:directory\n"}), "/srv/web.img") == []
    assert module.snapshots(shell({}), "/srv/web.img") == []


def test_of_many_sharers_the_first_are_named() -> None:
    files = [Sharer(f"/f{number}", is_snapshot=False) for number in range(8)]
    assert module.named(files[:6]) == "/f0, /f1, /f2, /f3, /f4, /f5"
    assert module.named(files) == "/f0, /f1, /f2, /f3, /f4, /f5, and 2 more"
    assert module.named([]) == ""


# On a real btrfs ------------------------------------------------------------------------------


def sharers(path: Path) -> list[Sharer]:
    """Those that share the first extent of *path*."""
    with holes.opened(str(path)) as copy:
        address = next(holes.extents(copy)).physical
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            return module.sharers(testinfra.get_host("local://"), copy, folder, address)
        finally:
            os.close(folder)


@pytest.fixture
def copy(btrfs: Path) -> Path:
    """A copy in a folder of the subvolume `current`."""
    path = btrfs / "current" / "deep" / "web.img"
    path.parent.mkdir()
    path.write_bytes(os.urandom(MIB))
    run("sync", "-f", str(path))
    return path


def test_a_snapshot_and_a_reflink_that_share_an_extent_are_told_apart(btrfs: Path, copy: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert sharers(copy) == []
    run("btrfs", "subvolume", "snapshot", "-r", str(btrfs / "current"), str(btrfs / "monday"))
    run("cp", "--reflink=always", str(copy), str(copy.with_name("other.img")))
    run("sync", "-f", str(copy))
    found = sharers(copy)
    (snapshot,) = [one for one in found if one.is_snapshot]
    (reflink,) = [one for one in found if not one.is_snapshot]
    assert "monday" in snapshot.words
    assert "current" in reflink.words  # by its path, or by its subvolume if that is not mounted by itself
    assert module.snapshots(testinfra.get_host("local://"), str(copy)) == ["monday"]
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_reflink_in_another_subvolume_is_no_snapshot(btrfs: Path, copy: Path) -> None:
    run("btrfs", "subvolume", "create", str(btrfs / "attic"))
    run("cp", "--reflink=always", str(copy), str(btrfs / "attic" / "old.img"))
    run("sync", "-f", str(copy))
    (one,) = sharers(copy)
    assert not one.is_snapshot
    assert "attic" in one.words
