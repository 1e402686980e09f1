"""The bytes that disks take on the host, before and after a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.space.fullness import FilesystemSpace
from reclaim.space.measured import DiskSpace, measure, reclaimed
from tests.support import Inside, block, disk_xml, domain_xml, hang_up, inhabited, mounted, opened, part

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import InhabitedGuest

MIB = 1024**2
SIZE = 64 * MIB


def hold(path: Path, count: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(SIZE)
        os.posix_fallocate(stream.fileno(), 0, count)


def held(path: Path) -> int:
    return path.stat().st_blocks * 512


def one(folder: Path, **more: Any) -> tuple[InhabitedGuest, Path]:
    """A guest with one raw disk of 64 MiB, of which it uses 20 MiB and the host holds 40."""
    image = folder / "a.img"
    hold(image, 40 * MIB)
    inside = Inside(
        devices=[block("vda", fstype="ext4", size=SIZE)],
        mounts=[mounted("/", "/dev/vda", size=SIZE, used=20 * MIB)],
    )
    device = disk_xml(source=str(image)).replace("type='qcow2'", "type='raw'")
    return inhabited(folder, inside, device, **more), image


def counted(guest: InhabitedGuest, storage: dict[tuple[str, str], DiskSpace], *, after: bool) -> DiskSpace:
    measure(guest.hypervisor, [guest], storage, after=after)
    (space,) = storage.values()
    return space


def test_a_guest_that_was_looked_into_is_counted_whole(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    assert guest.facts
    space = counted(guest, {}, after=False)
    count = held(image)
    assert (space.guest, space.disk, space.path) == ("one", "vda", str(image))
    assert (space.allocated_before, space.allocated_after, space.used) == (count, count, 20 * MIB)
    assert (space.reclaimable_before, space.reclaimable_after) == (count - 20 * MIB, count - 20 * MIB)


def test_a_disk_names_the_filesystem_of_its_image(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    storage: dict[tuple[str, str], DiskSpace] = {}
    filesystems: dict[str, FilesystemSpace] = {}
    for after in (False, True):
        measure(guest.hypervisor, [guest], storage, filesystems, after=after)
    (space,), (filesystem,) = storage.values(), filesystems.values()
    assert space.filesystem == filesystem.mount
    assert image.is_relative_to(str(filesystem.mount))
    assert filesystem.images == 1
    assert filesystem.used_before


def test_what_is_counted_afterwards_leaves_what_was_before(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    assert guest.facts
    storage: dict[tuple[str, str], DiskSpace] = {}
    before = held(image)
    counted(guest, storage, after=False)
    hold(image, 8 * MIB)
    guest.within.mounts[0]["used"] = 4 * MIB
    guest.forget()
    assert guest.facts
    space = counted(guest, storage, after=True)
    assert (space.allocated_before, space.allocated_after, space.used) == (before, held(image), 4 * MIB)
    assert reclaimed(storage.values()) == before - held(image)


def test_what_can_come_back_is_counted_before_and_after(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    guest.within.devices[0]["size"] = guest.within.mounts[0]["size"] = 512 * MIB
    with image.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, 200 * MIB)
    assert guest.facts
    storage: dict[tuple[str, str], DiskSpace] = {}
    before = counted(guest, storage, after=False).reclaimable_before
    assert before is not None
    assert before > 100 * MIB
    hold(image, 8 * MIB)
    space = counted(guest, storage, after=True)
    assert (space.reclaimable_before, space.reclaimable_after) == (before, 0)


def test_a_guest_that_nobody_looked_into_has_no_use(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    space = counted(guest, {}, after=False)
    assert (space.allocated_before, space.used, space.reclaimable_before) == (held(image), None, None)


def test_the_use_is_kept_before_and_counted_again_afterwards(tmp_path: Path) -> None:
    guest, _ = one(tmp_path)
    assert guest.facts
    storage: dict[tuple[str, str], DiskSpace] = {}
    counted(guest, storage, after=False)
    guest.within.mounts[0]["used"] = 30 * MIB
    guest.forget()
    assert guest.facts
    assert counted(guest, storage, after=False).used == 20 * MIB
    assert counted(guest, storage, after=True).used == 30 * MIB


def test_a_guest_that_is_off_again_keeps_the_figures_of_when_it_ran(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    assert guest.facts
    storage: dict[tuple[str, str], DiskSpace] = {}
    counted(guest, storage, after=False)
    guest.domain.destroy()
    guest.forget()
    hold(image, 8 * MIB)
    space = counted(guest, storage, after=True)
    assert (space.used, space.allocated_after) == (20 * MIB, held(image))


def test_a_disk_keeps_the_name_that_the_run_began_with(tmp_path: Path) -> None:
    guest, _ = one(tmp_path)
    storage: dict[tuple[str, str], DiskSpace] = {}
    counted(guest, storage, after=False)
    xml = guest.persistent.xml.replace("dev='vda' bus='virtio'", "dev='sda' bus='scsi'")
    guest.hypervisor.connection.defineXML(xml)
    guest.forget()
    guest.renamed["vda"] = "sda"
    counted(guest, storage, after=True)
    assert list(storage) == [("one", "vda")]


def test_only_disks_on_files_are_counted(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    hold(image, MIB)
    device = "<disk type='block' device='disk'><source dev='/dev/sdz'/><target dev='vdb' bus='virtio'/></disk>"
    hypervisor = opened(tmp_path, domain_xml(disk_xml(source=str(image)), device), domain_xml(name="none"))
    storage: dict[tuple[str, str], DiskSpace] = {}
    measure(hypervisor, hypervisor.guests, storage, after=False)
    assert list(storage) == [("one", "vda")]


def test_an_image_that_is_gone_is_not_counted(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    image.unlink()
    storage: dict[tuple[str, str], DiskSpace] = {}
    space = counted(guest, storage, after=False)
    assert (space.allocated_before, space.allocated_after) == (None, None)
    assert reclaimed(storage.values()) == 0


def test_a_libvirt_that_is_gone_costs_its_own_guests(tmp_path: Path) -> None:
    guest, _ = one(tmp_path)
    hang_up(guest)
    guest.forget()
    storage: dict[tuple[str, str], DiskSpace] = {}
    measure(guest.hypervisor, [guest], storage, after=False)
    assert storage == {}


def test_an_answer_that_is_broken_costs_the_use_alone(tmp_path: Path) -> None:
    guest, image = one(tmp_path)
    guest.within.devices.append(part("vdb1"))
    guest.within.devices.append(block("vdb"))
    assert guest.facts
    space = counted(guest, {}, after=False)
    assert (space.allocated_before, space.used) == (held(image), None)  # which of two disks is not clear


def _space(before: int | None, after: int | None) -> DiskSpace:
    return DiskSpace("g", "vda", None, None, before, after, None)


@pytest.mark.parametrize(
    ("spaces", "less"),
    [
        ([], 0),
        ([_space(10, 4)], 6),
        ([_space(10, 4), _space(5, 6)], 5),
        ([_space(4, 10)], 0),
        ([_space(None, 4), _space(10, None), _space(3, 1)], 2),
    ],
)
def test_the_bytes_that_came_back(spaces: list[DiskSpace], less: int) -> None:
    assert reclaimed(spaces) == less
