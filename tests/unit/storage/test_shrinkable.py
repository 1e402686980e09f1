"""The obstacles that keep an image from shrinking, on values shaped like those of real machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reclaim.storage.host_image import HostImage, Punch
from reclaim.storage.qcow2 import Qcow2
from reclaim.storage.shrinkable import Inspected, is_thick, notes, obstacles

MIB = 1024**2


def _device(**more: Any) -> Inspected:
    image = HostImage("/dev/vg/lv", True, "fd:5", 64 * MIB, None, discard_max=1 << 30, discard_granularity=65536)
    return Inspected("raw", False, replace(image, **more))


def test_a_thick_logical_volume_is_told_from_a_thin_one() -> None:
    assert is_thick(_device(mapper="LVM", targets=("linear",)))
    assert is_thick(_device(mapper="LVM", targets=("striped",)))
    assert not is_thick(_device(mapper="LVM", targets=("thin",)))
    assert not is_thick(_device(mapper="LVM", targets=("linear",), below=("vdo", "linear")))
    assert not is_thick(_device(mapper="mpath", targets=("multipath",)))
    assert not is_thick(_device())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({"mapper": "LVM", "targets": ("thin",)}, "lvchange --discards", id="thin-pool-that-ignores"),
        pytest.param({}, "look below it", id="disk-without-unmap"),
    ],
)
def test_a_device_without_discards_is_red(more: dict[str, Any], words: str) -> None:
    [found] = obstacles(_device(discard_max=0, **more), "one")
    assert "discard_max_bytes is 0" in found.what
    assert words in found.remedy
    assert obstacles(_device(discard_max=4096, **more), "one") == []


def test_a_thick_volume_without_discards_is_no_finding() -> None:
    assert obstacles(_device(discard_max=0, mapper="LVM", targets=("linear",)), "one") == []


def _file(length: int, allocated: int, **more: Any) -> Inspected:
    head = Qcow2(3, 64 * MIB, 65536, 0, 0, None, False, False)
    image = HostImage("/i/a.qcow2", False, "fe00", length, allocated, "nfs")
    return Inspected("qcow2", False, image, replace(head, **more), punch=Punch(MIB, MIB - 65536, 0))


def test_an_image_larger_than_its_disk_is_fragmented_or_leaks() -> None:
    assert not any("1621" in one for one in notes(_file(65 * MIB, 60 * MIB)))
    assert any("1621" in one for one in notes(_file(90 * MIB, 60 * MIB)))
    assert obstacles(_file(200 * MIB, 120 * MIB), "one") == []
    [found] = obstacles(_file(200 * MIB, 140 * MIB), "one")
    assert "qemu-img check -r leaks" in found.remedy
    assert obstacles(_file(200 * MIB, 140 * MIB, external_data=True), "one") == []
    [found] = obstacles(_file(200 * MIB, 140 * MIB, backing="/i/b c"), "one")
    assert "qemu-img convert -f qcow2 -O qcow2 -B '/i/b c' -F FORMAT /i/a.qcow2 /i/a.qcow2.new" in found.remedy


def test_what_xfs_allocates_ahead_of_a_file_that_grows_is_no_leak() -> None:
    """Measured: 2048 MiB of blocks for a file of 1024.4 MiB, copied by cp and written by a QEMU that has it open."""
    image = replace(_file(65 * MIB, 200 * MIB).image, filesystem="xfs", length=64 * MIB + 384 * 1024)
    found = replace(_file(65 * MIB, 200 * MIB), image=image)
    assert obstacles(found, "one") == []
    assert any("the host holds all of it" in one for one in notes(found))
    assert not any("holds all of it" in one for one in notes(replace(found, image=replace(image, length=60 * MIB))))


@pytest.mark.parametrize(
    ("punch", "words"),
    [
        pytest.param(Punch(MIB, refused="Operation not supported"), "vers=4.2", id="nfs-3"),
        pytest.param(Punch(MIB, MIB, MIB), "takes holes and keeps the blocks", id="kept"),
    ],
)
def test_storage_that_keeps_blocks_is_red(punch: Punch, words: str) -> None:
    [found] = obstacles(replace(_file(MIB, MIB), punch=punch), "one")
    assert words in found.what + found.remedy


def test_storage_that_frees_large_holes_only_is_told() -> None:
    found = replace(_file(MIB, MIB), punch=Punch(MIB, MIB, 0))
    assert obstacles(found, "one") == []
    assert any("no holes of 64 KiB" in one for one in notes(found))
