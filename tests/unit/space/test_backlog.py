"""The bytes that the host holds for a disk, weighed against those that its guest uses."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from reclaim.base.errors import AgentBlocked, NotApplicable, NotAssessable, ProbeError
from reclaim.handles.guest import Disk
from reclaim.inside.disk_layout import Area
from reclaim.space import backlog as module
from reclaim.space import virt_df
from reclaim.space.backlog import Backlog, HeldBytes, backlog, between, known_backlog, promised, tolerated, weighed
from reclaim.space.free_space import FreeSpace
from reclaim.storage import host_image
from reclaim.storage.allocation_map import HostMap
from reclaim.storage.host_image import HostImage
from tests.images import qcow2_header
from tests.support import Inside, block, disk_xml, inhabited, mounted, part

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest
    from tests.support import InhabitedGuest

MIB = 1024**2
GIB = 1024**3
SIZE = 256 * MIB


def test_shared_extents_are_not_promised() -> None:
    area = Area("filesystem", "/", 100 * MIB, ((0, 100 * MIB),), 10 * MIB, trims=True)
    whole = HostMap(((0, 100 * MIB),), 0)
    assert weighed(100 * MIB, [area], whole).reclaimable == 90 * MIB
    found = weighed(100 * MIB, [area], HostMap(whole.spans, 70 * MIB))
    assert (found.reclaimable, found.perhaps, found.most) == (20 * MIB, 70 * MIB, 90 * MIB)
    assert "70.0 MiB of the file come back with the last snapshot or reflink" in found.words
    found = weighed(100 * MIB, [area], HostMap(whole.spans, 95 * MIB))
    assert (found.reclaimable, found.perhaps) == (0, 90 * MIB)


def test_a_filesystem_that_cannot_be_trimmed_promises_nothing() -> None:
    area = Area("filesystem", "/old (reiserfs)", 100 * MIB, ((0, 100 * MIB),), 10 * MIB, trims=False)
    found = weighed(100 * MIB, [area], HostMap(((0, 100 * MIB),), 0))
    assert (found.reclaimable, found.perhaps) == (0, 0)
    assert "90.0 MiB free in /old (reiserfs), which cannot be trimmed" in found.words
    assert weighed(100 * MIB, [area], None).reclaimable == 0


@pytest.mark.parametrize("spans", [pytest.param(((0, 100 * MIB),), id="placed"), pytest.param(None, id="nowhere")])
def test_what_is_used_may_lie_below_an_overlay(spans: tuple[tuple[int, int], ...] | None) -> None:
    """An overlay that holds less than is used may hold nothing of that; one that holds more surely has more."""
    area = Area("filesystem", "/", 100 * MIB, spans, 60 * MIB, trims=True, tables=2 * MIB)
    for held, sure, most in ((20, 0, 20), (50, 0, 42), (90, 30, 42)):
        for known in (None, HostMap(((0, held * MIB),), 0)):
            found = weighed(held * MIB, [area], known, based=True)
            assert (found.reclaimable, found.perhaps, found.most) == (sure * MIB, (most - sure) * MIB, most * MIB)
    # without a base below, what is used is in what is held
    assert weighed(50 * MIB, [area], None).perhaps == 0
    read_only = Area("filesystem", "/old (reiserfs)", 100 * MIB, spans, 10 * MIB, trims=False)
    assert weighed(50 * MIB, [read_only], HostMap(((0, 50 * MIB),), 0), based=True).most == 0


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        pytest.param([(0, 10)], [(5, 15)], 5, id="partly"),
        pytest.param([(0, 10), (20, 30)], [(5, 25)], 10, id="across-a-gap"),
        pytest.param([(20, 30), (0, 10)], [(25, 40), (2, 4)], 7, id="in-any-order"),
        pytest.param([], [(0, 10)], 0, id="nothing"),
        pytest.param([(0, 10)], [(10, 20)], 0, id="side-by-side"),
    ],
)
def test_the_overlap_of_spans(first: list[tuple[int, int]], second: list[tuple[int, int]], both: int) -> None:
    assert HeldBytes.of(first).within(second) == both
    assert HeldBytes.of(second).within(first) == both


# Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("needed", "count"), [(0, 64), (640, 64), (650, 65), (10_000, 1000)])
def test_a_tenth_or_64_mib_is_tolerated(needed: int, count: int) -> None:
    assert tolerated(needed * MIB) == count * MIB


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [
        (0, 0, "0 B to 0 B"),
        (96, 100, "96.0 MiB"),
        (95, 100, "95.0 MiB to 100.0 MiB"),
        (0, 100, "0 B to 100.0 MiB"),
    ],
)
def test_two_counts_that_are_close_are_one(least: int, most: int, words: str) -> None:
    assert between(least * MIB, most * MIB) == words


def test_a_backlog_in_words() -> None:
    parts = (
        ("in swap", 5 * MIB),
        ("small", 4 * MIB - 1),
        ("b", 7 * MIB),
        ("c", 4 * MIB),
        ("d", 6 * MIB),
        ("e", MIB * 9),
    )
    count = Backlog(100 * MIB, 20 * MIB, 96 * MIB, 100 * MIB, 0, parts, 3 * MIB, based=True)
    assert count.come == "96.0 MiB"
    assert count.words == (
        "the host holds 100.0 MiB, the guest's filesystems use 20.0 MiB, perhaps in the backing file, "
        "9.0 MiB e, 7.0 MiB b, 6.0 MiB d, 5.0 MiB in swap, "
        "3.0 MiB of the file come back with the last snapshot or reflink that shares them"
    )
    plain = Backlog(MIB, MIB, 0, 0)
    assert plain.words == "the host holds 1.0 MiB, the guest's filesystems use 1.0 MiB"


# Weighing -------------------------------------------------------------------------------------


def _area(kind: Any, mebibytes: int, used: int = 0, start: int | None = None, **more: Any) -> Area:
    spans = None if start is None else ((start * MIB, (start + mebibytes) * MIB),)
    return Area(kind, f"the {kind}", mebibytes * MIB, spans, used * MIB, **more)


def _told(count: Backlog) -> tuple[int, int, int]:
    return count.reclaimable // MIB, count.perhaps // MIB, count.most // MIB


@pytest.mark.parametrize(
    ("held", "areas", "told"),
    [
        pytest.param(90, [_area("filesystem", 100, 20, trims=True)], (70, 0, 70), id="one-filesystem"),
        pytest.param(10, [_area("filesystem", 100, 20, trims=True)], (0, 0, 0), id="less-than-used"),
        pytest.param(90, [_area("filesystem", 100, 20, trims=True), _area("swap", 30)], (40, 30, 70), id="swap"),
        pytest.param(90, [_area("filesystem", 100, 20, trims=True), _area("free", 80)], (0, 70, 70), id="free-space"),
        pytest.param(
            90, [_area("filesystem", 100, 20, trims=True), _area("filesystem", 50, 10)], (20, 40, 60), id="untrimmed"
        ),
        pytest.param(90, [_area("swap", 100)], (0, 0, 0), id="nothing-to-trim"),
        pytest.param(90, [], (0, 0, 0), id="nothing"),
    ],
)
def test_without_a_map_the_bytes_may_lie_anywhere(held: int, areas: list[Area], told: tuple[int, int, int]) -> None:
    count = weighed(held * MIB, areas, None)
    assert _told(count) == told
    assert (count.held, count.used, count.apart) == (held * MIB, sum(area.used for area in areas), ())


def test_with_a_map_each_area_has_its_own_bytes() -> None:
    areas = [
        _area("filesystem", 100, 20, 0, trims=True),
        _area("swap", 50, start=100),
        _area("free", 50, start=150),
        _area("filesystem", 100, 10, 200),
        _area("unknown", 100, start=300),
    ]
    known = HostMap(((0, 60 * MIB), (100 * MIB, 130 * MIB), (150 * MIB, 155 * MIB), (200 * MIB, 302 * MIB)), 0)
    count = weighed(205 * MIB, areas, known)
    assert _told(count) == (40, 0, 40)
    assert {words: held // MIB for words, held in count.apart} == {
        "in swap, which no trim empties": 30,
        "in the free, which no filesystem trims": 5,
        "free in the filesystem, which cannot be trimmed": 90,
        "in the unknown": 2,
        "in the image's tables and snapshots, or not flushed yet": 8,
    }


def test_parts_of_one_kind_are_counted_together() -> None:
    areas = [_area("swap", 50, start=0), _area("swap", 50, start=50)]
    count = weighed(80 * MIB, areas, HostMap(((10 * MIB, 90 * MIB),), 0))
    assert dict(count.apart)["in swap, which no trim empties"] == 80 * MIB


def test_tables_that_were_never_written_may_come_back_too() -> None:
    area = _area("filesystem", 100, 20, 0, trims=True, tables=5 * MIB)
    count = weighed(60 * MIB, [area], HostMap(((0, 60 * MIB),), 0))
    assert (count.reclaimable, count.most) == (40 * MIB, 45 * MIB)


def test_what_has_no_place_shares_what_is_left() -> None:
    areas = [_area("filesystem", 100, 20, 0, trims=True), _area("filesystem", 50, 10, trims=True), _area("swap", 20)]
    known = HostMap(((0, 50 * MIB), (100 * MIB, 140 * MIB)), 0)
    count = weighed(90 * MIB, areas, known)
    # of 40 MiB without a place 10 are used, and 20 may be swap
    assert _told(count) == (40, 20, 60)


# With a filesystem's own map --------------------------------------------------------------------

CLUSTER = MIB


def _mapped_area(**more: Any) -> Area:
    """100 MiB of a filesystem from 10 MiB on, with 20 MiB in use."""
    return _area("filesystem", 100, 20, 10, trims=True, device="/dev/vda1", fstype="ext4", mount="/", **more)


def _free(*spans: tuple[float, float], small: float = 0, more: float = 0) -> dict[str, FreeSpace]:
    """Free extents in MiB of the device."""
    parts = tuple((int(start * MIB), int(end * MIB)) for start, end in spans)
    return {"/dev/vda1": FreeSpace(parts, int(small * MIB), int(more * MIB))}


@pytest.mark.parametrize(
    ("free", "told"),
    [
        pytest.param(_free((0, 80)), (80, 0, 80), id="one-piece"),
        pytest.param(_free((0.5, 3.5), (4.5, 6)), (3, 0, 3), id="whole-clusters"),
        pytest.param(_free((0.1, 0.9), (1.1, 1.9), small=50), (0, 0, 0), id="pieces-smaller-than-a-cluster"),
        pytest.param(_free((0, 2), (2, 4)), (4, 0, 4), id="neighbours"),
        pytest.param(_free((0, 1.5), (1.5, 3)), (2, 0, 2), id="two-discards-that-share-a-cluster"),
        pytest.param(_free((0, 10), more=30), (10, 0, 40), id="too-many-to-be-listed"),
        pytest.param(_free((0, 10), more=300), (10, 0, 100), id="never-more-than-is-held"),
        pytest.param(_free((90, 200)), (10, 0, 10), id="behind-the-end"),
    ],
)
def test_whole_clusters_of_free_extents_come_back(free: dict[str, FreeSpace], told: tuple[int, int, int]) -> None:
    known = HostMap(((10 * MIB, 110 * MIB),), 0)
    count = weighed(100 * MIB, [_mapped_area()], known, free, CLUSTER)
    assert _told(count) == told


def test_what_the_host_does_not_hold_does_not_come_back() -> None:
    known = HostMap(((20 * MIB, 30 * MIB), (50 * MIB, 51 * MIB)), 0)
    count = weighed(11 * MIB, [_mapped_area()], known, _free((5, 15), (39, 42)), CLUSTER)
    assert _told(count) == (6, 0, 6)


def test_free_pieces_that_no_trim_returns_are_told() -> None:
    known = HostMap(((10 * MIB, 110 * MIB),), 0)
    count = weighed(100 * MIB, [_mapped_area()], known, _free((0, 30), small=50), CLUSTER)
    assert dict(count.apart)["free in pieces that are smaller than the image's clusters (1.0 MiB)"] == 50 * MIB
    assert "50.0 MiB free in pieces that are smaller than the image's clusters (1.0 MiB)" in count.words


def test_a_raw_image_may_give_small_pieces_back() -> None:
    known = HostMap(((10 * MIB, 110 * MIB),), 0)
    count = weighed(100 * MIB, [_mapped_area()], known, _free((0, 30), small=50))
    assert _told(count) == (30, 0, 80)


def test_a_filesystem_in_two_pieces_is_followed() -> None:
    spans = ((10 * MIB, 20 * MIB), (50 * MIB, 140 * MIB))
    area = replace(_mapped_area(), spans=spans)
    known = HostMap(((15 * MIB, 60 * MIB),), 0)
    assert list(area.places([(5 * MIB, 20 * MIB)])) == [(15 * MIB, 20 * MIB), (50 * MIB, 60 * MIB)]
    assert _told(weighed(45 * MIB, [area], known, _free((5, 20)), CLUSTER)) == (15, 0, 15)


def test_below_an_overlay_only_what_it_holds_itself_comes_back() -> None:
    known = HostMap(((10 * MIB, 30 * MIB),), 0)
    count = weighed(20 * MIB, [_mapped_area()], known, _free((10, 80)), CLUSTER, based=True)
    assert _told(count) == (10, 0, 10)


def test_a_fragmented_guest_is_not_asked_to_trim_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its free space lies in pieces that no trim gives back."""
    _mapped(monkeypatch, HostMap(((0, 200 * MIB),), 0))
    guest = _guest(tmp_path, 200, 20, kind="qcow2", head=qcow2_header())
    guest.within.free_space = f"filesystem\n1048576 32768\nsmall {150 * MIB}\nmore 0\nend\n"
    count = backlog(_disk(guest))
    assert (count.reclaimable, count.perhaps, count.most) == (0, 0, 0)
    assert "in pieces that are smaller than the image's clusters (64.0 KiB)" in count.words
    guest.forget()
    guest.within.free_space = "filesystem\n"
    assert backlog(_disk(guest)).reclaimable > 100 * MIB


# Counting -------------------------------------------------------------------------------------


def _guest(folder: Path, held: int, used: int, *, kind: str = "raw", head: bytes = b"", **more: Any) -> InhabitedGuest:
    """A guest with one filesystem on one disk; the host holds *held* MiB of its image."""
    path = folder / "disk.img"
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(SIZE)
        os.posix_fallocate(stream.fileno(), 0, held * MIB)
        # a filesystem may count blocks of its own: those of a tree of extents, for a file in many pieces
        extra = os.fstat(stream.fileno()).st_blocks * 512 - held * MIB
        if extra > 0:
            stream.truncate(held * MIB - extra)
            stream.truncate(SIZE)
    inside = Inside(
        devices=[block("vda", part("vda1", fstype="ext4", size=SIZE - MIB), size=SIZE)],
        mounts=[mounted("/", "/dev/vda1", size=SIZE - MIB, used=used * MIB)],
        layout="device 254:0 - vda\ndevice 254:1 2048 vda1\n",
    )
    device = disk_xml(source=str(path)).replace("type='qcow2'", f"type='{kind}'")
    return inhabited(folder, inside, device, *more.pop("others", ()), **more)


def _disk(guest: Guest) -> Disk:
    return Disk(guest, "vda")


def test_a_disk_is_counted_by_its_places(tmp_path: Path) -> None:
    count = backlog(_disk(_guest(tmp_path, 200, 20)))
    assert count.held == (tmp_path / "disk.img").stat().st_blocks * 512
    assert count.used == 20 * MIB
    # the MiB in front of the partition is no filesystem's
    assert count.reclaimable == 179 * MIB


def test_a_disk_within_the_slack_needs_no_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module, "host_map", lambda *arguments: asked.append(arguments))
    count = backlog(_disk(_guest(tmp_path, 84, 20)))
    assert _told(count) == (63, 1, 64)
    assert asked == []
    backlog(_disk(_guest(tmp_path, 85, 20)))
    assert len(asked) == 1


def _mapped(monkeypatch: pytest.MonkeyPatch, known: HostMap | None) -> None:
    monkeypatch.setattr(module, "host_map", lambda *_arguments: known)


@pytest.mark.parametrize(("filesystem", "is_sure"), [("btrfs", False), ("xfs", False), ("ext2/ext3", True)])
def test_where_images_share_blocks_nothing_is_sure_without_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filesystem: str, *, is_sure: bool
) -> None:
    _mapped(monkeypatch, None)
    real = host_image.look
    monkeypatch.setattr(host_image, "look", lambda owner, path: replace(real(owner, path), filesystem=filesystem))
    count = backlog(_disk(_guest(tmp_path, 200, 20)))
    assert (count.reclaimable > 0) is is_sure
    if not is_sure:
        assert count.perhaps == count.most > 0


def test_internal_snapshots_may_hold_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mapped(monkeypatch, HostMap(((0, 200 * MIB),), 0))
    plain = backlog(_disk(_guest(tmp_path, 200, 20, kind="qcow2", head=qcow2_header())))
    assert plain.reclaimable > 0
    head = qcow2_header(snapshots=1, snapshots_at=262_144)
    count = backlog(_disk(_guest(tmp_path, 200, 20, kind="qcow2", head=head)))
    assert (count.reclaimable, count.perhaps) == (0, count.most)


def test_an_external_data_file_is_not_counted(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200, 20, kind="qcow2", head=qcow2_header(incompatible=4))
    with pytest.raises(NotAssessable, match=r"disk\.img: its data lies in an external"):
        backlog(_disk(guest))


OVERLAY = qcow2_header(backing_at=104, backing_size=4) + b"base"


def test_an_overlay_may_hold_none_of_what_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mapped(monkeypatch, HostMap(((0, 200 * MIB),), 0))
    count = backlog(_disk(_guest(tmp_path, 200, 20, kind="qcow2", head=OVERLAY)))
    assert count.based
    assert "perhaps in the backing file" in count.words
    assert not backlog(_disk(_guest(tmp_path, 200, 20))).based


def test_a_device_that_the_pool_does_not_count_is_not_assessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = HostImage("/dev/sdx", True, "8:0", SIZE, None)
    monkeypatch.setattr(host_image, "look", lambda _owner, _path: device)
    with pytest.raises(NotAssessable, match="/dev/sdx is a device"):
        backlog(_disk(_guest(tmp_path, 1, 1)))


def test_a_disk_that_cannot_be_told_inside_is_not_assessed(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200, 20)
    guest.within.devices.append(block("vdb"))
    with pytest.raises(NotAssessable, match="block device of the guest"):
        backlog(_disk(guest))


def test_a_guest_that_is_off_is_seen_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    area = _area("filesystem", 100, 20, trims=True)
    monkeypatch.setattr(virt_df, "areas", lambda _disk, least: (90 * MIB, [area], least == 64 * MIB))
    guest = _guest(tmp_path, 1, 1, running=False)
    count = backlog(_disk(guest))
    assert (count.held, count.used, count.based) == (90 * MIB, 20 * MIB, True)
    guest.hypervisor.readonly = True
    with pytest.raises(NotAssessable):
        backlog(_disk(guest))


# An agent that runs no commands ---------------------------------------------------------------


def _blocked(folder: Path, fsinfo: Any, held: int = 200, **more: Any) -> InhabitedGuest:
    guest = _guest(folder, held, 20, **more)
    guest.within.problem = AgentBlocked("one: the guest agent does not allow guest-exec")
    guest.answers["guest-get-fsinfo"] = lambda: fsinfo
    return guest


def _filesystem(name: str, used: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "mountpoint": "/", "used-bytes": used, "disk": [{"bus-type": "virtio"}], **more}


def test_typed_calls_can_prove_that_there_is_none(tmp_path: Path) -> None:
    fsinfo = [
        _filesystem("vda1", 100 * MIB),
        _filesystem("vda1", 100 * MIB, mountpoint="/srv"),
        _filesystem("vda2", 60 * MIB),
        _filesystem("tmpfs", GIB, disk=[]),
        _filesystem("proc", None),
    ]
    count = backlog(_disk(_blocked(tmp_path, fsinfo)))
    assert count == Backlog(200 * MIB, 160 * MIB, 0, 0)


@pytest.mark.parametrize(
    ("fsinfo", "words"),
    [
        pytest.param(
            [_filesystem("vda1", 135 * MIB)], "holds 200.0 MiB, the filesystems use 135.0 MiB", id="a-backlog"
        ),
        pytest.param([_filesystem("vda1", 265 * MIB)], "does not report the usage", id="more-than-held"),
        pytest.param([_filesystem("vda1", -1)], "does not report the usage", id="negative"),
        pytest.param([_filesystem("vda1", "20")], "does not report the usage", id="text"),
        pytest.param([], "does not report the usage", id="none"),
        pytest.param([_filesystem("vda1", 20 * MIB), "odd"], "does not report the usage", id="one-garbled-element"),
        pytest.param({}, "does not report the usage", id="no-list"),
        pytest.param(None, "does not report the usage", id="nothing"),
    ],
)
def test_typed_calls_never_prove_a_backlog(tmp_path: Path, fsinfo: Any, words: str) -> None:
    with pytest.raises(NotAssessable, match=words):
        backlog(_disk(_blocked(tmp_path, fsinfo)))


@pytest.mark.parametrize(("used", "is_none"), [(136, True), (264, True)])
def test_the_slack_holds_for_typed_calls_too(tmp_path: Path, used: int, *, is_none: bool) -> None:
    count = backlog(_disk(_blocked(tmp_path, [_filesystem("vda1", used * MIB)])))
    assert (count.most == 0) is is_none


def test_typed_calls_know_no_disks_and_no_layers(tmp_path: Path) -> None:
    fsinfo = [_filesystem("vda1", 190 * MIB)]
    with pytest.raises(NotAssessable, match="reclaim cannot find the disks of its filesystems"):
        backlog(_disk(_blocked(tmp_path, fsinfo, others=[disk_xml("vdb")])))
    cdrom = disk_xml("sdc", "sata", device="cdrom")
    assert backlog(_disk(_blocked(tmp_path, fsinfo, others=[cdrom]))).used == 190 * MIB
    with pytest.raises(NotAssessable, match="from its base"):
        backlog(_disk(_blocked(tmp_path, fsinfo, kind="qcow2", head=OVERLAY)))


# Over all disks -------------------------------------------------------------------------------


def test_a_backlog_that_cannot_be_counted_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = _disk(_guest(tmp_path, 200, 20))
    assert known_backlog(disk) == backlog(disk)
    for error in (NotAssessable("x"), NotApplicable("x"), ProbeError("x"), libvirt.libvirtError("x")):

        def fail(_disk: Disk, error: Exception = error) -> Backlog:
            raise error

        monkeypatch.setattr(module, "backlog", fail)
        assert known_backlog(disk) is None
        assert promised(disk.guest) == ""


def test_what_is_promised_is_the_sum_over_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"vda": Backlog(0, 0, 10 * MIB, 20 * MIB), "vdb": Backlog(0, 0, 5 * MIB, 30 * MIB)}

    def counted(disk: Disk) -> Backlog:
        if disk.name not in counts:
            raise NotAssessable("a device")
        return counts[disk.name]

    monkeypatch.setattr(module, "backlog", counted)
    guest = _guest(tmp_path, 1, 1, others=[disk_xml("vdb"), disk_xml("vdc")])
    assert promised(guest) == "15.0 MiB to 50.0 MiB"
