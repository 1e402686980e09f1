"""The free extents of filesystems: the answer of the script, and the script itself on real filesystems."""

from __future__ import annotations

import json
import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from reclaim.changes.trim import xfs_script
from reclaim.inside.disk_layout import Area
from reclaim.space.backlog import HeldBytes
from reclaim.space.free_space import FreeSpace, free_space, parsed, script, whole_grains
from tests.filesystems import mounted, require
from tests.support import Inside, inhabited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024**2
END = "small 10\nmore 20\nend\n"


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        pytest.param(END, (), id="none"),
        pytest.param(f"0 5\n10 5\n{END}", ((0, 5), (10, 15)), id="two"),
        pytest.param(f"10 5\n0 5\n{END}", ((0, 5), (10, 15)), id="in-any-order"),
        pytest.param(f"0 5\n5 5\n{END}", ((0, 5), (5, 10)), id="neighbours-are-trimmed-apart"),
        pytest.param(f"0 10\n5 10\n2 3\n{END}", ((0, 10), (10, 15)), id="no-byte-counts-twice"),
        pytest.param(f"0 0\n{END}", (), id="empty"),
    ],
)
def test_the_extents_of_a_filesystem(text: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert parsed(text) == FreeSpace(spans, 10, 20)


@pytest.mark.parametrize(
    "text",
    ["", "0 5\n", "0 5\nsmall 1\nmore 1\n", f"0 x\n{END}", f"-1 5\n{END}", f"0 5 6\n{END}", f"{'9' * 19} 1\n{END}"],
)
def test_an_answer_that_is_cut_short_or_garbled_is_none(text: str) -> None:
    assert parsed(text) is None


@pytest.mark.parametrize(
    ("spans", "grains"),
    [
        ([(0, 64)], [(0, 64)]),
        ([(1, 63)], [(16, 48)]),
        ([(10, 40)], [(16, 32)]),
        ([(15, 17)], []),
        ([(16, 48)], [(16, 48)]),
    ],
)
def test_an_image_gives_whole_grains_back(spans: list[tuple[int, int]], grains: list[tuple[int, int]]) -> None:
    assert list(whole_grains(spans, 16)) == grains


def _area(device: str, fstype: str) -> Area:
    return Area("filesystem", device, MIB, ((0, MIB),), 0, trims=True, device=device, fstype=fstype, mount="/m")


def test_the_guest_is_asked_once_for_all_filesystems_of_a_disk(tmp_path: Path) -> None:
    inside = Inside(free_space=f"filesystem\n0 5\n{END}filesystem\n")
    guest = inhabited(tmp_path, inside)
    areas = [_area("/dev/vda1", "ext4"), _area("/dev/vda2", "xfs"), _area("/dev/vda3", "vfat"), _area("", "ext4")]
    for _ in range(2):
        assert free_space(guest, areas, 65536) == {"/dev/vda1": FreeSpace(((0, 5),), 10, 20)}
    (asked,) = inside.ran
    assert asked.endswith("reclaim 65536 ext4 /dev/vda1 /m xfs /dev/vda2 /m")
    guest.forget()
    free_space(guest, areas, 4096)
    assert inside.ran[-1].endswith("reclaim 16384 ext4 /dev/vda1 /m xfs /dev/vda2 /m")
    assert free_space(guest, areas[2:], 4096) == {}
    assert len(inside.ran) == 2


# Real filesystems -----------------------------------------------------------------------------


@pytest.fixture(params=("ext4", "xfs", "btrfs"))
def fragmented(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path, Path]]:
    """A filesystem in a file, and in it many small files of which three in five are deleted."""
    kind = request.param
    require(kind)
    with mounted(kind, tmp_path) as mount:
        # btrfs discards by itself
        subprocess.run(["mount", "-o", "remount,nodiscard", str(mount)], check=True)
        chosen = random.Random(5)
        files = [mount / f"{number}" for number in range(1500)]
        for path in files:
            path.write_bytes(chosen.randbytes(chosen.randrange(1, 40) * 4096))
        os.sync()
        for path in files:
            if chosen.random() < 0.6:
                path.unlink()
        os.sync()
        yield kind, tmp_path / f"{kind}.img", mount


def _map(kind: str, mount: Path, smallest: int = 4096) -> FreeSpace:
    device = subprocess.check_output(["findmnt", "-no", "SOURCE", str(mount)], text=True).strip()
    given = ["/bin/sh", "-c", script(), "reclaim", str(smallest), kind, device, str(mount)]
    said = subprocess.run(given, capture_output=True, text=True, check=True)
    free = parsed(said.stdout.partition("filesystem\n")[2])
    assert free is not None, said
    return free


@pytest.mark.slow
def test_the_map_has_just_the_bytes_that_a_trim_gives_back(fragmented: tuple[str, Path, Path]) -> None:
    kind, image, mount = fragmented
    free = _map(kind, mount)
    assert free.small < MIB
    assert free.more == 0
    with image.open("rb") as stream:
        held = HeldBytes.of(_data(stream.fileno()))
    expected = held.within(whole_grains(free.spans, 4096))
    assert expected > 60 * MIB
    before = image.stat().st_blocks
    _trim(kind, mount)
    os.sync()
    came = (before - image.stat().st_blocks) * 512
    assert abs(came - expected) <= 0.01 * expected, f"{came / MIB:.2f} of {expected / MIB:.2f} MiB"


def _trim(kind: str, mount: Path) -> None:
    """Trim as `Trim` does."""
    subprocess.run(["fstrim", str(mount)], check=True)
    if kind == "xfs":
        given = ["/bin/sh", "-c", xfs_script(), "reclaim", str(mount)]
        assert subprocess.check_output(given) == b""


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [65536, 2 * MIB])
def test_qemu_gives_whole_clusters_back(fragmented: tuple[str, Path, Path], cluster: int) -> None:
    kind, image, mount = fragmented
    qcow2 = image.with_suffix(".qcow2")
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", f"cluster_size={cluster}"]
    subprocess.run([*convert, str(image), str(qcow2)], check=True)
    mapped = json.loads(subprocess.check_output(["qemu-img", "map", "--output=json", str(qcow2)]))
    held = HeldBytes.of((part["start"], part["start"] + part["length"]) for part in mapped if part["data"])
    every = _map(kind, mount).spans
    listed = _map(kind, mount, cluster).spans
    expected = held.within(whole_grains(listed, cluster))
    assert expected == held.within(whole_grains(every, cluster))
    assert expected < held.within(every) - 10 * MIB
    before = qcow2.stat().st_blocks
    discards = "".join(f"discard {start} {end - start}\n" for start, end in every)
    qemu = ["qemu-io", "-f", "qcow2", "-d", "unmap", str(qcow2)]
    subprocess.run(qemu, input=discards, text=True, check=True, capture_output=True)
    os.sync()
    came = (before - qcow2.stat().st_blocks) * 512
    assert abs(came - expected) < MIB, f"{came / MIB:.2f} of {expected / MIB:.2f} MiB"


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that the host holds (lseek(2))."""
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
