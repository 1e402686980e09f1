"""The layer that keeps what was freed is named by the disk that it belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reclaim.handles.guest import Disk
from reclaim.inside.filesystems import filesystems
from reclaim.space import diagnosis
from reclaim.space.canary import Trimmed
from reclaim.space.counting import Store
from reclaim.storage.host_image import HostImage
from reclaim.storage.shrinkable import Inspected
from tests.support import Inside, block, disk_xml, drive, inhabited, mounted, part, scsi_xml

_REFUSED = Trimmed(1, "fstrim: /: the discard operation is not supported")

_IMAGE = Inspected("raw", encrypted=False, image=HostImage("/srv/one.img", False, "fd:1", 1 << 30, 0))


def _said(folder: Path, deaf: str, *, turned: bool, serials: bool) -> str:
    """What is said of a btrfs over a virtio-blk disk and a SCSI disk, of which one is deaf."""
    marks = {name: name if serials else None for name in ("vda", "sdb")}
    devices = [
        block(name, part(f"{name}1", fstype="btrfs", uuid="u-1", disc_max=0 if name == deaf else 512),
              disc_max=0 if name == deaf else 512, serial=marks[name])
        for name in ("vda", "sdb")
    ]  # fmt: skip
    virtio = disk_xml("vda", inner="<serial>vda</serial>" if serials else "")
    scsi = disk_xml("sdb", "scsi", inner=("<serial>sdb</serial>" if serials else "") + drive(0))
    inside = Inside(devices=devices, mounts=[mounted("/", "/dev/vda1", "btrfs")])
    guest = inhabited(folder, inside, virtio, scsi, scsi_xml(), machine="pc-q35-7.2")
    (one,) = filesystems(guest.facts)
    ways = tuple((device, device.children[0]) for device in guest.facts.block_devices)
    names = ("sdb", "vda") if turned else ("vda", "sdb")
    stores = [Store(Disk(guest, name), name, _IMAGE) for name in names]
    return diagnosis.layer(replace(one, ways=ways), stores, _REFUSED, 100, 0)


@pytest.mark.parametrize("serials", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_a_deaf_scsi_disk_beside_a_virtio_disk_is_named(tmp_path: Path, *, turned: bool, serials: bool) -> None:
    said = _said(tmp_path, "sdb", turned=turned, serials=serials)
    assert said.startswith("the virtual disk /dev/sdb offers no discard (see disc-max)")


@pytest.mark.parametrize("turned", [True, False])
def test_a_deaf_virtio_disk_beside_a_scsi_disk_is_its_driver_s(tmp_path: Path, *, turned: bool) -> None:
    said = _said(tmp_path, "vda", turned=turned, serials=True)
    assert said.startswith("the guest's virtio-blk driver takes no discards")


@pytest.mark.parametrize("turned", [True, False])
def test_a_disk_that_cannot_be_told_is_named_by_its_device(tmp_path: Path, *, turned: bool) -> None:
    said = _said(tmp_path, "vda", turned=turned, serials=False)
    assert "sdb" not in said


@pytest.mark.parametrize(
    ("filesystem", "words"),
    [("btrfs", "btrfs frees an extent only when nothing of it is in use any more"), ("xfs", ""), ("ext2/ext3", "")],
)
def test_the_extents_of_btrfs_are_named_although_a_canary_came_back(
    tmp_path: Path, filesystem: str, words: str
) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    image = replace(_IMAGE.image, filesystem=filesystem)
    store = Store(Disk(guest, "vda"), "vda", replace(_IMAGE, image=image))
    found = diagnosis.older(store)
    assert found.startswith(words)
    assert bool(found) == bool(words)
