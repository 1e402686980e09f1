"""trim-backlog: the check and the fixer as a pair, on real files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import AgentBlocked
from reclaim.base.verdict import Verdict
from reclaim.changes.trim import Trim
from reclaim.inventory import GuestNotes, Inventory
from reclaim.space.backlog import backlog
from reclaim.storage.allocation_map import HostMap
from tests.support import (
    Inside,
    block,
    disk_xml,
    engine,
    inhabited,
    mounted,
    part,
    requirement,
    subject,
    verdict_of,
    without_guestfs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support import InhabitedGuest

MIB = 1024**2
SIZE = 256 * MIB


def _image(folder: Path, allocated: int) -> Path:
    """A sparse file of which the file system holds *allocated* bytes."""
    path = folder / "disk.img"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
        os.posix_fallocate(stream.fileno(), 0, allocated)
    return path


def _guest(folder: Path, allocated: int, used: int, **more: Any) -> InhabitedGuest:
    image = _image(folder, allocated)
    device = block("vda", part("vda1", fstype="ext4", size=SIZE - MIB), size=SIZE)
    inside = Inside(
        devices=[device],
        mounts=[mounted("/", "/dev/vda1", size=SIZE - MIB, used=used)],
        layout="device 254:0 - vda\ndevice 254:1 2048 vda1\n",
    )
    return inhabited(folder, inside, _raw(image, **more.pop("disk", {})), **more)


def _raw(image: Path, **more: Any) -> str:
    return disk_xml(source=str(image), **more).replace("type='qcow2'", "type='raw' discard='unmap'")


def _punch(guest: InhabitedGuest, folder: Path) -> Callable[[], Any]:
    def trim() -> Any:
        used = guest.within.mounts[0]["used"]
        image = folder / "disk.img"
        image.unlink()
        _image(folder, used)
        return {"paths": [{"path": "/", "trimmed": 100 * MIB, "minimum": 0}]}

    return trim


def test_a_backlog_is_trimmed_and_the_host_holds_less(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.answers["guest-fstrim"] = _punch(guest, tmp_path)
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NONCOMPLIANT
    assert requirement("trim-backlog").fixer(subject(guest, "vda").disk) == [Trim("one", "179.0 MiB")]
    held = guest.hypervisor.allocated(str(tmp_path / "disk.img"))
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED, result.reason
    assert result.reason.startswith("was: 179.0 MiB can come back")
    assert "180.0 MiB came back of 179.0 MiB that were expected" in result.reason
    assert "the guest reports a trim of 104857600 bytes" in result.reason
    assert held - guest.hypervisor.allocated(str(tmp_path / "disk.img")) >= 170 * MIB
    again = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_a_guest_that_says_it_trimmed_is_not_believed(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.answers["guest-fstrim"] = lambda: {"paths": [{"path": "/", "trimmed": 10**12}]}
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.endswith("the change was applied and did not help")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param({"paths": [{"path": "/", "error": "no"}]}, "nothing could be trimmed: /: no", id="all-failed"),
        pytest.param({}, "has no paths", id="no-paths"),
        pytest.param([], "has no paths", id="a-list"),
        pytest.param({"paths": ["/"]}, "cannot be parsed", id="no-objects"),
    ],
)
def test_a_trim_that_failed_is_told(tmp_path: Path, answer: Any, words: str) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.answers["guest-fstrim"] = lambda: answer
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert [change.applied for change in result.changes] == [False]
    assert words in result.reason.partition("; not fixed: one: ")[2]


def test_where_the_agent_does_not_trim_fstrim_does(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)

    def blocked() -> Any:
        raise AgentBlocked("one: the guest agent does not allow guest-fstrim")

    def fstrim(_inside: Inside) -> tuple[int, bytes, bytes]:
        _punch(guest, tmp_path)()
        said = b"/boot: 1 GiB (1073741824 bytes) trimmed on /dev/vda2\n/: 2 KiB (2048 bytes) trimmed on /dev/vda1\n"
        return 64, said, b"fstrim: /srv: FITRIM ioctl failed: Input/output error\n"  # "some filesystem discards failed"

    guest.answers["guest-fstrim"] = blocked
    guest.within.commands["LC_ALL=C fstrim -av"] = fstrim
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED, result.reason
    assert [command for command in guest.within.ran if "fstrim -av" in command] == ["LC_ALL=C fstrim -av"]
    assert "the guest reports a trim of 1073743872 bytes; not /srv: FITRIM ioctl failed" in result.reason


def test_an_fstrim_that_fails_is_told(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)

    def blocked() -> Any:
        raise AgentBlocked("one: the guest agent does not allow guest-fstrim")

    guest.answers["guest-fstrim"] = blocked
    guest.within.commands["LC_ALL=C fstrim -av"] = lambda _inside: (32, b"", b"fstrim: /: FITRIM ioctl failed: no\n")
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "not fixed: one: nothing could be trimmed: /: FITRIM ioctl failed: no" in result.reason


@pytest.mark.parametrize(
    ("allocated", "used", "verdict"),
    [
        pytest.param(84, 20, Verdict.COMPLIANT, id="64-MiB-more"),
        pytest.param(90, 20, Verdict.NONCOMPLIANT, id="70-MiB-more"),
        pytest.param(10, 200, Verdict.COMPLIANT, id="less-than-used"),
        pytest.param(0, 20, Verdict.COMPLIANT, id="nothing"),
    ],
)
def test_the_slack_is_tolerated(tmp_path: Path, allocated: int, used: int, verdict: Verdict) -> None:
    # the partition table's MiB is on no filesystem, and so is not the guest's need
    guest = _guest(tmp_path, max(allocated * MIB, 1), used * MIB)
    assert verdict_of(guest, "trim-backlog", "vda") is verdict


def test_an_image_that_is_gone_is_not_assessed(tmp_path: Path) -> None:
    guest = _guest(tmp_path, MIB, MIB)
    (tmp_path / "disk.img").unlink()
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NOT_ASSESSABLE


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        pytest.param({"disk": {"inner": "<readonly/>"}}, Verdict.NOT_APPLICABLE, id="read-only"),
        pytest.param(
            {"inventory": Inventory(guest={"one": GuestNotes(thick=True)})}, Verdict.NOT_APPLICABLE, id="thick"
        ),
        pytest.param({"running": False}, Verdict.NOT_ASSESSABLE, id="off"),
    ],
)
def test_verdicts_that_start_no_fixer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], verdict: Verdict
) -> None:
    monkeypatch.setenv("PATH", str(without_guestfs(tmp_path)))
    assert verdict_of(_guest(tmp_path, 200 * MIB, 20 * MIB, **more), "trim-backlog", "vda") is verdict


def test_a_disk_that_cannot_be_told_is_not_assessed(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.within.devices.append(block("vdb"))
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NOT_ASSESSABLE


def test_a_block_device_is_not_counted_as_a_file(tmp_path: Path) -> None:
    device = next((one.name for one in Path("/sys/block").iterdir() if Path("/dev", one.name).is_block_device()), None)
    if device is None:
        pytest.skip("no block device here")
    xml = f"<disk type='block' device='disk'><source dev='/dev/{device}'/><target dev='vda' bus='virtio'/></disk>"
    guest = inhabited(tmp_path, Inside(), xml)
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NOT_ASSESSABLE


def _fsinfo(used: Any) -> list[dict[str, Any]]:
    """guest-get-fsinfo of a guest with one ext4 on a virtio disk, mounted twice (QEMU's qapi-schema.json)."""
    disk = {"bus-type": "virtio", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/vda1"}
    one = {"name": "vda1", "type": "ext4", "total-bytes": SIZE, "used-bytes": used, "disk": [disk]}
    return [
        {**one, "mountpoint": "/"},
        {**one, "mountpoint": "/srv"},
        {"name": "tmpfs", "used-bytes": SIZE, "disk": []},
    ]


@pytest.mark.parametrize(
    ("used", "more", "verdict", "words"),
    [
        pytest.param(190 * MIB, [], Verdict.COMPLIANT, "", id="no-backlog"),
        pytest.param(20 * MIB, [], Verdict.NOT_ASSESSABLE, "the need of swap is unknown", id="perhaps-one"),
        pytest.param(True, [], Verdict.NOT_ASSESSABLE, "does not report the usage of its", id="true-is-no-byte"),
        pytest.param(190.5 * MIB, [], Verdict.NOT_ASSESSABLE, "does not report the usage of its", id="fraction"),
        pytest.param(None, [], Verdict.NOT_ASSESSABLE, "does not report the usage of its", id="not-reported"),
        pytest.param("20", [], Verdict.NOT_ASSESSABLE, "does not report the usage of its", id="gibberish"),
        pytest.param(-1, [], Verdict.NOT_ASSESSABLE, "does not report the usage of its", id="negative"),
        pytest.param(10**15, [], Verdict.NOT_ASSESSABLE, "does not report", id="more-than-there-is"),
        pytest.param(190 * MIB, [disk_xml("vdb")], Verdict.NOT_ASSESSABLE, "cannot find the disks of", id="two-disks"),
    ],
)
def test_an_agent_that_runs_no_commands_can_tell_that_there_is_none(
    tmp_path: Path, used: Any, more: list[str], verdict: Verdict, words: str
) -> None:
    image = _image(tmp_path, 200 * MIB)
    guest = inhabited(tmp_path, Inside(), _raw(image), *more)
    guest.within.problem = AgentBlocked("one: the guest agent does not allow guest-exec")
    guest.answers["guest-get-fsinfo"] = lambda: _fsinfo(used)
    result = engine(guest.hypervisor, tmp_path).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (result.verdict, result.changes) == (verdict, [])
    assert words in result.reason


# Told apart -----------------------------------------------------------------------------------


def _written(path: Path, *spans: tuple[int, int]) -> None:
    """A qcow2 in which the host holds *spans* (MiB), written as a guest writes."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1G"], check=True)
    for start, end in spans:
        write = ["-c", f"write -P 5 {start}M {end - start}M"]
        subprocess.run(["qemu-io", "-f", "qcow2", *write, str(path)], check=True, stdout=subprocess.DEVNULL)


needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img")


def _with_lvm(folder: Path, *spans: tuple[int, int], layout: bool = True) -> InhabitedGuest:
    """1 GiB: a partition of 100 MiB with swap, and one of 900 MiB for LVM: root of 400 MiB, srv of 200, 300 free."""
    image = folder / "disk.qcow2"
    _written(image, *spans)
    root = block("vg-root", type="lvm", path="/dev/mapper/vg-root", fstype="ext4", size=400 * MIB)
    srv = block("vg-srv", type="lvm", path="/dev/mapper/vg-srv", fstype="xfs", size=200 * MIB)
    disk = block(
        "vda",
        part("vda1", fstype="swap", size=100 * MIB),
        part("vda2", root, srv, fstype="LVM2_member", size=900 * MIB),
        size=1024 * MIB,
    )
    lines = [
        "device 254:0 - vda",
        "device 254:1 2048 vda1",
        f"device 254:2 {101 * 2048} vda2",
        "device 253:0 - vg-root",
        "device 253:1 - vg-srv",
        "table vg-root: 0 409600 linear 254:2 2048",
        "table vg-root: 409600 409600 linear 254:2 821248",
        "table vg-srv: 0 409600 linear 254:2 411648",
    ]
    inside = Inside(
        devices=[disk],
        mounts=[
            mounted("/", "/dev/mapper/vg-root", size=400 * MIB, used=50 * MIB),
            mounted("/srv", "/dev/mapper/vg-srv", "xfs", size=200 * MIB, used=20 * MIB),
        ],
        layout="".join(f"{line}\n" for line in lines) if layout else "",
    )
    return inhabited(folder, inside, disk_xml(source=str(image), driver="discard='unmap'"))


@pytest.mark.slow
@needs_qemu_img
def test_filesystems_through_lvm_swap_and_free_extents_are_told_apart(tmp_path: Path) -> None:
    # swap 20..80; root's first half 102..302 and its second 502..702; srv 302..502; free from 702 on
    guest = _with_lvm(tmp_path, (20, 80), (110, 290), (310, 400), (600, 690), (720, 860))
    found = backlog(subject(guest, "vda").disk)  # type: ignore[arg-type]
    assert found.used == 70 * MIB
    assert found.reclaimable == (180 + 90 - 50) * MIB + (90 - 20) * MIB
    assert found.perhaps == 0
    apart = dict(found.apart)
    assert apart.pop("in swap, which no trim empties") == 60 * MIB
    assert apart.pop("in free extents on /dev/vda2, which no filesystem trims") == 140 * MIB
    assert apart.pop("in the image's tables and snapshots, or not flushed yet") < MIB
    assert sum(apart.values()) == 0
    result = engine(guest.hypervisor, tmp_path, "plan", force=True).run(
        requirement("trim-backlog"), subject(guest, "vda")
    )
    assert result.reason.startswith("290.0 MiB can come back")
    assert "140.0 MiB in free extents on /dev/vda2, which no filesystem trims" in result.reason
    assert result.changes[0].diff == "guest-fstrim (guest agent): 290.0 MiB can come back"


@pytest.mark.slow
@needs_qemu_img
def test_what_only_swap_and_free_extents_hold_is_no_backlog(tmp_path: Path) -> None:
    guest = _with_lvm(tmp_path, (10, 100), (110, 160), (720, 900))
    result = engine(guest.hypervisor, tmp_path).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (result.verdict, result.changes) == (Verdict.COMPLIANT, [])
    assert "180.0 MiB in free extents" in result.evidence
    assert "90.0 MiB in swap" in result.evidence


@pytest.mark.slow
@needs_qemu_img
def test_where_nobody_knows_what_lies_where_nothing_is_promised(tmp_path: Path) -> None:
    guest = _with_lvm(tmp_path, (20, 80), (110, 290), (310, 400), (720, 860), layout=False)
    result = engine(guest.hypervisor, tmp_path).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert result.reason.startswith("between 0 B and 400.0 MiB can come back")


@pytest.mark.slow
@needs_qemu_img
def test_what_a_snapshot_holds_is_not_promised(tmp_path: Path) -> None:
    guest = _with_lvm(tmp_path, (110, 300), (310, 400))
    image = str(tmp_path / "disk.qcow2")
    before = backlog(subject(guest, "vda").disk)  # type: ignore[arg-type]
    assert before.reclaimable == (190 - 50 + 90 - 20) * MIB
    subprocess.run(["qemu-img", "snapshot", "-c", "kept", image], check=True)
    write = ["-c", "write -P 6 310M 90M"]
    subprocess.run(["qemu-io", "-f", "qcow2", *write, image], check=True, stdout=subprocess.DEVNULL)
    after = backlog(subject(guest, "vda").disk)  # type: ignore[arg-type]
    assert after.held - before.held >= 90 * MIB
    assert (after.reclaimable, after.perhaps, after.most) == (0, before.most, before.most)
    assert dict(after.apart)["in the image's tables and snapshots, or not flushed yet"] >= 90 * MIB
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    # and rightly so: what the snapshot holds too stays when it is discarded
    trim = ["qemu-io", "-f", "qcow2", "-d", "unmap", "-c", "discard 110M 190M", image]
    subprocess.run(trim, check=True, stdout=subprocess.DEVNULL)
    assert guest.hypervisor.allocated(image) >= after.held


def test_a_snapshot_on_the_host_makes_no_backlog_compliant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after a snapshot of the host's filesystem all of the image is shared, whatever is trimmed."""
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    shared = HostMap(((0, 200 * MIB),), 200 * MIB)
    monkeypatch.setattr("reclaim.space.backlog.host_map", lambda *_: shared)
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert result.reason.startswith("between 0 B and 179.0 MiB can come back")
    assert "200.0 MiB of the file come back with the last snapshot or reflink" in result.reason


@pytest.mark.slow
@needs_qemu_img
def test_an_overlay_full_of_what_was_deleted_is_not_compliant(tmp_path: Path) -> None:
    """All that the guest uses lies in the base; what the overlay holds was written later, and deleted since."""
    guest = _with_lvm(tmp_path, (110, 160), (310, 330))
    image = tmp_path / "disk.qcow2"
    base = image.rename(tmp_path / "base.qcow2")
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(image)]
    subprocess.run(command, check=True)
    verdict = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert verdict.verdict is Verdict.COMPLIANT
    write = ["qemu-io", "-f", "qcow2", "-c", "write -P 6 170M 68M", str(image)]
    subprocess.run(write, check=True, stdout=subprocess.DEVNULL)
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert result.reason.startswith("between 18.0 MiB and 68.0 MiB can come back")
    assert "the guest's filesystems use 70.0 MiB, perhaps in the backing file" in result.reason
