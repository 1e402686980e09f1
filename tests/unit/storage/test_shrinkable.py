"""The obstacles that keep an image from shrinking, on values shaped like those of real machines."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.handles.guest import Disk
from reclaim.storage import host_image, shrinkable
from reclaim.storage.host_image import HostImage, Punch
from reclaim.storage.qcow2 import Qcow2
from reclaim.storage.shrinkable import Inspected, inspect, is_thick, notes, obstacles, path_of
from tests.support import Inside, disk_xml, domain_xml, inhabited, opened

if TYPE_CHECKING:
    from pathlib import Path

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


# Formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bochs", "cloop", "cow", "dmg", "ploop", "qcow", "qed", "vdi", "vhd", "vmdk", "vpc"])
def test_a_format_that_keeps_its_blocks_is_converted(kind: str) -> None:
    image = HostImage("/i/a b.img", False, "fe00", MIB, MIB, "ext4")
    [found] = obstacles(Inspected(kind, False, image, punch=Punch(MIB, MIB - 65536, 0)), "one")
    assert kind in found.what
    assert f"qemu-img convert -p -f {kind} -O qcow2 '/i/a b.img' '/i/a b.img'.qcow2" in found.remedy
    assert not found.amend


@pytest.mark.parametrize(
    ("kind", "encrypted", "count"), [("raw", True, 1), ("raw", False, 0), ("qcow2", True, 0), ("luks", True, 1)]
)
def test_an_image_that_qemu_encrypts_keeps_its_blocks_unless_it_is_a_qcow2(
    kind: str, *, encrypted: bool, count: int
) -> None:
    found = obstacles(replace(_file(MIB, MIB), format=kind, encrypted=encrypted, qcow2=None), "one")
    assert len(found) == count
    assert all("LUKS" in one.what for one in found)


@pytest.mark.parametrize(
    ("version", "backing", "is_obstacle"), [(2, "/i/base", True), (2, None, False), (3, "/i/base", False)]
)
def test_an_old_qcow2_over_a_backing_file_is_amended(version: int, backing: str | None, *, is_obstacle: bool) -> None:
    found = obstacles(_file(MIB, MIB, version=version, backing=backing), "one")
    assert [one.amend for one in found] == [True] * is_obstacle
    for one in found:
        assert "/i/base" in one.what
        assert one.remedy.endswith(shrinkable.amend_command("/i/a.qcow2"))


def test_the_command_that_amends_takes_any_path() -> None:
    assert shrinkable.amend_command("/i/a b") == "qemu-img amend -f qcow2 -o compat=1.1 '/i/a b'"


@pytest.mark.parametrize(
    ("count", "names", "what", "remedy"),
    [
        pytest.param(1, ("monday",), "1 internal snapshot (monday)", "snapshot-delete 'a b' monday", id="one"),
        pytest.param(
            3, ("a", "it's"), "3 internal snapshots (a, it's and 1 more)", "qemu-img snapshot -d a", id="some"
        ),
        pytest.param(2, (), "2 internal snapshots (without readable names and 2 more)", "NAME", id="none"),
        pytest.param(1, ("a b",), "(a b)", "snapshot-delete 'a b' 'a b'", id="quoted"),
    ],
)
def test_internal_snapshots_are_named(count: int, names: tuple[str, ...], what: str, remedy: str) -> None:
    [found] = obstacles(replace(_file(MIB, MIB, snapshots=count), snapshots=names), "a b")
    assert what in found.what
    assert remedy in found.remedy
    assert "/i/a.qcow2" in found.remedy


def test_what_a_snapshot_holds_is_no_leak() -> None:
    [found] = obstacles(_file(200 * MIB, 180 * MIB, snapshots=1), "one")
    assert "snapshot" in found.what


@pytest.mark.parametrize(("filesystem", "told"), [("nfs", True), ("vfat", False)])
def test_storage_without_holes_is_named_with_its_error(filesystem: str, *, told: bool) -> None:
    image = replace(_file(MIB, MIB).image, filesystem=filesystem)
    refused = Punch(MIB, refused="fallocate says Operation not supported")
    [found] = obstacles(replace(_file(MIB, MIB), image=image, punch=refused), "one")
    assert f"/i ({filesystem}) punches no holes: fallocate says Operation" in found.what
    assert ("vers=4.2" in found.remedy) is told


def test_several_obstacles_are_all_told() -> None:
    found = obstacles(replace(_file(MIB, MIB, version=2, backing="b", snapshots=1), punch=Punch(MIB, MIB, MIB)), "one")
    assert len(found) == 3


# Devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discard_max", "words"),
    [(4096, "go on to the disks below it (discard_max_bytes 4096)"), (0, "end there"), (None, "end there")],
)
def test_why_nothing_is_asked_of_a_thick_volume(discard_max: int | None, words: str) -> None:
    assert words in shrinkable.thick_words(_device(discard_max=discard_max).image)


def test_a_device_of_which_sysfs_says_nothing_is_no_finding() -> None:
    assert obstacles(_device(discard_max=None), "one") == []


# Notes ----------------------------------------------------------------------------------------


def _note(inspected: Inspected, words: str, granularity: int | None = None) -> list[str]:
    return [note for note in notes(inspected, granularity) if words in note]


@pytest.mark.parametrize(
    ("inspected", "words"),
    [
        pytest.param(_file(MIB, MIB), "qcow2 1.1 on nfs; holes punched there free blocks", id="qcow2"),
        pytest.param(_file(MIB, MIB, version=2), "qcow2 0.10 on nfs; holes", id="old"),
        pytest.param(replace(_file(MIB, MIB), qcow2=None, format="raw", punch=None), "raw on nfs", id="raw"),
        pytest.param(_device(), "raw on a device", id="device"),
        pytest.param(_device(targets=("crypt", "linear")), "raw on crypt over linear", id="mapped"),
    ],
)
def test_an_image_that_can_shrink_is_described(inspected: Inspected, words: str) -> None:
    assert notes(inspected)[0].startswith(words)


def test_large_clusters_are_told_with_what_the_guest_trims() -> None:
    found = _file(MIB, MIB, cluster=2 * MIB)
    assert _note(found, "whole clusters of 2.0 MiB", 4096)[0].endswith("from 4.0 KiB on")
    assert _note(found, "whole clusters of 2.0 MiB") == ["only whole clusters of 2.0 MiB come back"]
    assert _note(_file(MIB, MIB), "whole clusters", 4096) == []


def test_features_that_a_trim_meets_are_told() -> None:
    assert _note(_file(MIB, MIB, extended_l2=True), "extended_l2")
    assert _note(_file(MIB, MIB, external_data=True), "external data file")
    assert not _note(_file(MIB, MIB), "extended_l2")
    assert not _note(_file(MIB, MIB), "external data file")


def test_a_preallocated_image_is_told() -> None:
    assert _note(_file(65 * MIB, 64 * MIB), "the host holds all of it")
    assert not _note(_file(65 * MIB, 64 * MIB - 1), "the host holds all of it")
    device = replace(_file(MIB, MIB), image=_device(allocated=64 * MIB, length=200 * MIB).image, punch=None)
    assert not _note(device, "the host holds all of it")
    assert not _note(device, "1621")


def test_a_long_file_with_snapshots_is_not_called_fragmented() -> None:
    assert _note(_file(90 * MIB, MIB), "1621")
    assert not _note(_file(90 * MIB, MIB, snapshots=1), "1621")


def test_an_overlay_is_told_with_its_bases() -> None:
    over = _file(MIB, MIB, backing="/i/base")
    assert _note(over, "never that of its base (/i/base)")
    one = replace(over, bases=("/i/base",), base_bytes=3 * MIB)
    assert _note(one, "never that of its base (3.0 MiB in /i/base)")
    several = replace(over, bases=tuple("abcd"), base_bytes=3 * MIB)
    assert _note(several, "never that of its bases (3.0 MiB in a, b, c …)")
    assert not _note(_file(MIB, MIB), "overlay")


def test_the_pieces_that_a_device_frees_are_told() -> None:
    assert _note(_device(), "frees pieces of 64.0 KiB")
    assert not _note(_device(discard_granularity=0), "frees pieces")


# Gathering ------------------------------------------------------------------------------------


def _disk(folder: Path, device: str) -> Disk:
    return Disk(inhabited(folder, Inside(), device, running=False), "vda")


NETWORK = (
    "<disk type='network' device='disk'><source protocol='rbd' name='p/i'><host name='h'/></source>"
    "<target dev='vda' bus='virtio'/></disk>"
)
EMPTY = "<disk type='file' device='cdrom'><target dev='vda' bus='sata'/></disk>"
NVME = (
    "<disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1'>"
    "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source><target dev='vda' bus='virtio'/></disk>"
)


def test_the_path_of_an_image(tmp_path: Path) -> None:
    assert path_of(_disk(tmp_path, disk_xml(source="/srv/a.qcow2"))) == "/srv/a.qcow2"


@pytest.mark.parametrize(
    ("device", "error", "words"),
    [
        pytest.param(NETWORK, NotAssessable, r"a network disk \(rbd\)", id="network"),
        pytest.param(NVME, NotApplicable, "NVMe", id="nvme"),
        pytest.param(EMPTY, NotAssessable, "of type file without a path", id="empty"),
    ],
)
def test_a_disk_without_an_image_here_has_no_path(
    tmp_path: Path, device: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        path_of(_disk(tmp_path, device))


def test_the_test_driver_has_no_images(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    with pytest.raises(NotAssessable, match="test driver"):
        path_of(Disk(guest, "vda"))


def _volume(pool: str, volume: str) -> str:
    return (
        disk_xml()
        .replace("type='file' device", "type='volume' device")
        .replace("file='/images/vda.qcow2'", f"pool='{pool}' volume='{volume}'")
    )


def test_a_volume_is_looked_up_in_its_pool(tmp_path: Path) -> None:
    disk = _disk(tmp_path, _volume("images", "a"))
    connection = disk.guest.hypervisor.connection
    with pytest.raises(NotAssessable, match="the volume a of pool images: "):
        path_of(disk)
    pool = connection.storagePoolCreateXML(
        "<pool type='dir'><name>images</name><target><path>/srv/images</path></target></pool>"
    )
    with pytest.raises(NotAssessable, match="the volume a of pool images: "):
        path_of(disk)
    pool.createXML("<volume><name>a</name><capacity>1048576</capacity></volume>")
    assert path_of(disk) == "/srv/images/a"


def test_a_volume_that_is_no_path_lies_elsewhere(tmp_path: Path) -> None:
    disk = _disk(tmp_path, _volume("images", "a"))

    class Pools:
        """A pool of RBD: its volumes have names, and no paths."""

        def storagePoolLookupByName(self, _name: str) -> Pools:  # noqa: N802
            return self

        def storageVolLookupByName(self, _name: str) -> Pools:  # noqa: N802
            return self

        def path(self) -> str:
            return "pool/a"

    disk.guest.hypervisor.connection = Pools()
    with pytest.raises(NotAssessable, match="volume a of pool images"):
        path_of(disk)


def test_what_is_known_of_an_image_is_gathered(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(os.urandom(8192))
    base = tmp_path / "base.img"
    base.write_bytes(b"x" * 4096)
    chain = f"<backingStore type='file'><format type='raw'/><source file='{base}'/><backingStore/></backingStore>"
    source = disk_xml(source=str(image), inner=chain).replace("name='qemu' type='qcow2'", "name='qemu' type='raw'")
    found = inspect(_disk(tmp_path, source))
    assert (found.format, found.encrypted, found.qcow2, found.snapshots) == ("raw", False, None, ())
    assert found.image.path == str(image)
    assert found.punch is not None
    assert (found.unprobed, found.bases) == ("", (str(base),))
    assert found.base_bytes == base.stat().st_blocks * 512


@pytest.mark.parametrize("place", ["in", "beside"])
def test_an_encrypted_disk_is_known(tmp_path: Path, place: str) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 4096)
    secret = "<encryption format='luks'><secret type='passphrase' usage='u'/></encryption>"
    device = disk_xml(source=str(image), inner=secret if place == "beside" else "").replace("qcow2", "raw")
    if place == "in":
        device = device.replace(f"<source file='{image}'/>", f"<source file='{image}'>{secret}</source>")
    assert inspect(_disk(tmp_path, device)).encrypted


def test_a_raw_disk_is_raw_whatever_header_its_guest_wrote(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"QFI\xfb" + bytes(4092))
    device = disk_xml(source=str(image))
    assert inspect(_disk(tmp_path, device.replace("type='qcow2'", "type='raw'"))).qcow2 is None
    with pytest.raises(NotAssessable, match="broken qcow2 header"):
        inspect(_disk(tmp_path, device))


def test_a_filesystem_that_could_not_be_tried_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 4096)
    monkeypatch.setattr(host_image, "_PUNCH", "exit 1")
    found = inspect(_disk(tmp_path, disk_xml(source=str(image)).replace("type='qcow2'", "type='raw'")))
    assert found.punch is None
    assert str(tmp_path) in found.unprobed
    assert obstacles(found, "one") == []


@pytest.mark.parametrize(
    ("mapper", "targets", "refused"), [("LVM", (), True), ("LVM", ("linear",), False), ("", (), False)]
)
def test_a_volume_of_an_unknown_kind_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapper: str, targets: tuple[str, ...], *, refused: bool
) -> None:
    device = _device(mapper=mapper, targets=targets).image
    monkeypatch.setattr(host_image, "look", lambda _hypervisor, _path: device)
    disk = _disk(tmp_path, disk_xml().replace("type='qcow2'", "type='raw'"))
    if refused:
        with pytest.raises(NotAssessable, match=r"/dev/vg/lv: .*dmsetup"):
            inspect(disk)
        return
    found = inspect(disk)
    assert (found.image, found.punch, found.unprobed) == (device, None, "")
