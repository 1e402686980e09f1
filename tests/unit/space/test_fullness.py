"""The fullness of the host's filesystems that hold images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.space import fullness
from reclaim.space.fullness import FilesystemSpace, Fullness, measure, parsed
from tests.filesystems import mounted, require, run
from tests.support import domain_xml, opened

if TYPE_CHECKING:
    from reclaim.handles.hypervisor import Hypervisor

MIB = 1024**2


@pytest.fixture
def node(tmp_path: Path) -> Hypervisor:
    return opened(tmp_path, domain_xml())


def image(folder: Path, name: str = "a.img", mib: int = 1) -> str:
    path = folder / name
    with path.open("wb") as stream:
        stream.write(os.urandom(mib * MIB))
        os.fsync(stream.fileno())
    return str(path)


def count(node: Hypervisor, paths: list[str], spaces: dict[str, FilesystemSpace], *, after: bool) -> dict[str, str]:
    return measure(node, node.status_each(paths), spaces, after=after)


def test_one_filesystem_with_two_images_is_one_and_is_counted_as_statvfs_counts(
    node: Hypervisor, tmp_path: Path
) -> None:
    require("ext4")
    spaces: dict[str, FilesystemSpace] = {}
    with mounted("ext4", tmp_path, 64) as folder:
        (folder / "deep er").mkdir()
        paths = [image(folder), image(folder / "deep er")]
        assert count(node, paths, spaces, after=False) == dict.fromkeys(paths, str(folder))
        before = os.statvfs(folder)
        image(folder, "more.img", 8)
        count(node, paths, spaces, after=True)
        after = os.statvfs(folder)
    (space,) = spaces.values()
    unit = after.f_frsize
    assert (space.mount, space.type, space.images) == (str(folder), "ext4", 2)
    assert str(space.source).startswith("/dev/loop")
    assert space.size == after.f_blocks * unit
    assert space.used_before == (before.f_blocks - before.f_bfree) * unit
    assert space.used_after == (after.f_blocks - after.f_bfree) * unit
    assert (space.free_before, space.free_after) == (before.f_bavail * unit, after.f_bavail * unit)
    assert space.used_after - space.used_before >= 8 * MIB


def test_subvolumes_of_one_btrfs_are_one_filesystem(node: Hypervisor, tmp_path: Path) -> None:
    require("btrfs")
    spaces: dict[str, FilesystemSpace] = {}
    with mounted("btrfs", tmp_path, 200) as folder:
        for name in ("one", "two"):
            run("btrfs", "subvolume", "create", str(folder / name))
        paths = [image(folder / "one"), image(folder / "two")]
        assert len({os.stat(path).st_dev for path in paths}) == 2  # noqa: PTH116
        mounts = count(node, paths, spaces, after=False)
    (space,) = spaces.values()
    assert (space.type, space.images, space.mount) == ("btrfs", 2, str(folder))
    assert mounts == dict.fromkeys(paths, str(folder))


def test_two_filesystems_are_two(node: Hypervisor, tmp_path: Path) -> None:
    require("tmpfs")
    spaces: dict[str, FilesystemSpace] = {}
    with mounted("tmpfs", tmp_path) as folder:
        count(node, [image(tmp_path), image(folder)], spaces, after=False)
    assert [space.images for space in spaces.values()] == [1, 1]
    assert {space.mount for space in spaces.values()} > {str(folder)}


def test_a_link_leads_to_the_filesystem_of_its_image(node: Hypervisor, tmp_path: Path) -> None:
    require("tmpfs")
    spaces: dict[str, FilesystemSpace] = {}
    with mounted("tmpfs", tmp_path) as folder:
        link = tmp_path / "link"
        link.symlink_to(image(folder))
        assert count(node, [str(link)], spaces, after=False) == {str(link): str(folder)}


def test_a_filesystem_that_cannot_be_read_is_unknown(
    node: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fullness, "_LOOK", "exit 1\n")
    spaces: dict[str, FilesystemSpace] = {}
    assert count(node, [image(tmp_path)], spaces, after=False) == {}
    assert list(spaces.values()) == [FilesystemSpace(str(tmp_path), images=1)]


def test_a_filesystem_that_is_only_seen_afterwards_has_no_figures_before(node: Hypervisor, tmp_path: Path) -> None:
    spaces: dict[str, FilesystemSpace] = {}
    count(node, [image(tmp_path)], spaces, after=True)
    (space,) = spaces.values()
    assert space.used_before is space.free_before is None
    assert space.used_after


def test_an_image_that_is_not_there_has_no_filesystem(node: Hypervisor) -> None:
    spaces: dict[str, FilesystemSpace] = {}
    assert count(node, ["/nonexistent/a.img"], spaces, after=False) == {}
    assert spaces == {}


def test_without_findmnt_stat_names_mount_and_type(
    node: Hypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fullness, "_LOOK", fullness._LOOK.replace("findmnt", "no-such-program"))
    seen = fullness.look(node, image(tmp_path))
    assert seen is not None
    assert Path(seen.mount).is_mount()
    assert seen.type
    assert seen.source == ""


@pytest.mark.parametrize(
    "counts", ["", "x", "4096|1|1", "4096|-1|0|0", "4096|1|1|1|1", f"4096|{'9' * 40}|1|1", "4096|٣|1|1"]
)
def test_an_answer_that_is_none_of_statvfs_is_unknown(counts: str) -> None:
    assert parsed({"counts": counts.encode()}) is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [("4096|100|40|30", (409600, 245760, 122880)), ("512|10|20|5", (5120, 0, 2560)), ("1|0|0|0", (0, 0, 0))],
)
def test_bytes_are_blocks_times_their_unit(counts: str, expected: tuple[int, int, int]) -> None:
    answers: dict[str, Any] = {"counts": counts.encode(), "mount": b"/a b\xff", "type": b"ext4"}
    assert parsed(answers) == Fullness("/a b\ufffd", "ext4", "", *expected)
