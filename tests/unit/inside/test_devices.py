"""Block devices and mounts as values."""

from __future__ import annotations

import pytest

from tests.support import Inside, block, mounted, part


def test_a_device_is_walked_with_all_that_lies_on_it_from_the_disk_up() -> None:
    inside = Inside(
        devices=[
            block("vda", part("vda1"), part("vda2", part("dm-0", part("dm-1", type="lvm"), type="crypt"))),
            block("vdb"),
        ]
    )
    disk, bare = inside.facts().block_devices
    assert [device.name for device in disk.walk()] == ["vda", "vda1", "vda2", "dm-0", "dm-1"]
    assert [device.name for device in bare.walk()] == ["vdb"]


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ("/dev/vda1", "/dev/vda1"),
        ("/dev/vda1[/@home]", "/dev/vda1"),
        ("/dev/vda1[/a[b]]", "/dev/vda1"),
        ("tmpfs", "tmpfs"),
        ("", ""),
    ],
)
def test_the_device_of_a_mount_is_without_the_folder_of_it(source: str, device: str) -> None:
    [mount] = Inside(mounts=[mounted("/", source)]).facts().mounts
    assert mount.device == device
