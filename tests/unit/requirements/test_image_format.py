"""image-format: the check and the fixer as a pair, on images of qemu-img's own and on real filesystems."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import AgentAbsent, NotAssessable
from reclaim.base.verdict import Verdict
from reclaim.changes import power, preconditions
from reclaim.changes.kinds import from_json, to_json
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.engine import journal, undo
from reclaim.handles.guest import Disk
from reclaim.handles.health import Wellbeing
from reclaim.inventory import GuestNotes, Inventory
from reclaim.storage import host_image
from reclaim.storage.host_image import Punch
from reclaim.storage.shrinkable import inspect, obstacles
from tests import filesystems
from tests.support import (
    Inside,
    disk_xml,
    domain_xml,
    engine,
    executable,
    inhabited,
    opened,
    requirement,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reclaim.base.verdict import Result
    from reclaim.handles.hypervisor import Hypervisor
    from tests.support import InhabitedGuest

MIB = 1024**2
pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img (Debian and Ubuntu: qemu-utils)")


def _make(path: Path, *options: str, size: str = "64M", kind: str = "qcow2") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), size], check=True)
    return path


def _io(path: Path, *commands: str, kind: str = "qcow2") -> None:
    given = [part for command in commands for part in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-d", "unmap", "-f", kind, *given, str(path)], check=True, capture_output=True, text=True
    )
    assert "error" not in done.stdout + done.stderr


def _old_overlay(folder: Path, name: str = "disk.qcow2") -> Path:
    base = _make(folder / f"base-{name}")
    _io(base, "write -P 3 0 8M")
    overlay = _make(folder / name, "-o", "compat=0.10", "-b", str(base), "-F", "qcow2")
    _io(overlay, "write -P 4 4M 8M")
    return overlay


def _guest(folder: Path, *images: Path, running: bool = False, driver: str = "", **more: Any) -> InhabitedGuest:
    disks = [
        disk_xml(f"vd{letter}", source=str(path), driver=driver) for letter, path in zip("abc", images, strict=False)
    ]
    return inhabited(folder, more.pop("inside", Inside()), *disks, running=running, **more)


def _run(guest: InhabitedGuest, folder: Path, disk: str = "vda", **options: Any) -> Result:
    return engine(guest.hypervisor, folder, **options).run(requirement("image-format"), subject(guest, disk))


def _version(path: Path) -> int:
    return path.read_bytes()[7]


# An old image over a backing file -------------------------------------------------------------


@pytest.mark.slow
def test_an_old_image_over_a_backing_file_is_amended_while_the_guest_is_off(tmp_path: Path) -> None:
    overlay, bystander = _old_overlay(tmp_path), _old_overlay(tmp_path, "other.qcow2")
    base = tmp_path / "base-disk.qcow2"
    before = base.read_bytes(), bystander.read_bytes()
    blocks = overlay.stat().st_blocks
    _io(overlay, "discard 4M 8M")
    assert overlay.stat().st_blocks == blocks  # that is what is wrong with it
    guest = _guest(tmp_path, overlay, bystander)
    assert verdict_of(guest, "image-format", "vda") is Verdict.NONCOMPLIANT
    result = _run(guest, tmp_path)
    assert result.verdict is Verdict.FIXED, result.reason
    assert result.reason.startswith("was: qcow2 0.10 over the backing file")
    assert result.changes[0].diff == f"qemu-img amend -f qcow2 -o compat=1.1 {overlay}"
    assert _version(overlay) == 3
    assert (base.read_bytes(), bystander.read_bytes()) == before
    _io(overlay, "read -P 3 0 4M", "read -P 4 4M 8M")
    again = _run(guest, tmp_path)
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    _io(overlay, "discard 4M 8M")
    assert overlay.stat().st_blocks < blocks // 4  # and that it helped
    assert verdict_of(guest, "image-format", "vdb") is Verdict.NONCOMPLIANT


@pytest.mark.slow
def test_a_backing_file_that_the_header_names_is_not_opened(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    (tmp_path / "base-disk.qcow2").unlink()
    (tmp_path / "base-disk.qcow2").mkdir()  # qemu-img would fail on it
    guest = _guest(tmp_path, overlay)
    assert _run(guest, tmp_path).verdict is Verdict.FIXED
    assert _version(overlay) == 3


@pytest.mark.slow
def test_an_image_that_is_in_use_is_left(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    guest = _guest(tmp_path, overlay)
    holder = subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(overlay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write("read 0 512\n")
        holder.stdin.flush()
        while "ops" not in holder.stdout.readline():
            pass
        result = _run(guest, tmp_path)
    finally:
        holder.communicate("quit\n")
    assert result.verdict is Verdict.NONCOMPLIANT
    assert [change.applied for change in result.changes] == [False]
    assert "not fixed" in result.reason
    assert "lock" in result.reason
    assert _version(overlay) == 2


@pytest.mark.slow
def test_without_restart_a_running_guest_is_pending_with_the_command(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    guest = _guest(tmp_path, overlay, running=True)
    result = _run(guest, tmp_path)
    assert (result.verdict, result.changes) == (Verdict.PENDING, [])
    assert f"while it is off: qemu-img amend -f qcow2 -o compat=1.1 {overlay}" in result.reason
    assert guest.domain.isActive()
    assert _version(overlay) == 2


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_PAUSE", 0)


@pytest.mark.slow
@pytest.mark.usefixtures("_at_once")
def test_one_power_cycle_amends_every_image_of_the_guest(tmp_path: Path) -> None:
    images = [_old_overlay(tmp_path, name) for name in ("one.qcow2", "two.qcow2")]
    good = _make(tmp_path / "good.qcow2")
    content = good.read_bytes()
    guest = _guest(tmp_path, *images, good, running=True)
    offs: list[bool] = []

    def shut_down() -> None:
        offs.append(True)
        guest.domain.destroy()

    guest.answers |= {"guest-ping": dict, "guest-shutdown": shut_down}
    result = _run(guest, tmp_path, restart=True)
    assert result.verdict is Verdict.FIXED, result.reason
    assert [_version(path) for path in images] == [3, 3]
    assert good.read_bytes() == content
    assert guest.domain.isActive()
    again = _run(guest, tmp_path, "vdb", restart=True)
    assert (again.verdict, again.changes, offs) == (Verdict.COMPLIANT, [], [True])


@pytest.mark.slow
@pytest.mark.usefixtures("_at_once")
def test_a_guest_whose_image_cannot_be_amended_is_up_again(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    guest = _guest(tmp_path, overlay, running=True)

    def shut_down() -> None:
        guest.domain.destroy()
        overlay.write_bytes(overlay.read_bytes()[:40])

    guest.answers |= {"guest-ping": dict, "guest-shutdown": shut_down}
    result = _run(guest, tmp_path, restart=True)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "qemu-img amend" in result.reason.partition("not fixed")[2]
    assert "it was back after" in result.reason
    assert guest.domain.isActive()


@pytest.mark.slow
def test_a_guest_that_nobody_can_look_into_is_not_power_cycled_for_it(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    guest = _guest(tmp_path, overlay, running=True)
    guest.within.problem = AgentAbsent("one: no agent")
    result = _run(guest, tmp_path, restart=True)
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "see guest-access" in result.reason
    assert f"qemu-img amend -f qcow2 -o compat=1.1 {overlay}" in result.reason


def test_a_running_guest_and_a_saved_one_are_not_amended(tmp_path: Path) -> None:
    change = ImageAmend("one", "/images/vda.qcow2")
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    assert "it runs" in str(preconditions.why_not_applied(guest, change))
    guest.domain.managedSave(0)
    guest.forget()
    assert "managed-save" in str(preconditions.why_not_applied(guest, change))
    guest.domain.managedSaveRemove(0)
    assert preconditions.why_not_applied(guest, change) is None


def test_the_changes_come_back_from_the_journal(tmp_path: Path) -> None:
    wellbeing = Wellbeing({"/": "aaaa"}, ["/"], addresses=["192.0.2.1"])
    defined = "<domain><name>one</name><uuid>uuid</uuid></domain>"
    for change in (
        ImageAmend("one", "/images/vda.qcow2"),
        AmendCycle("one", defined, wellbeing, "why", defined, ["/images/vda.qcow2"]),
    ):
        book = journal.Journal(tmp_path / change.kind, "test:///x", "fix")
        book.done(book.intend("one", "uuid", "image-format", change), {})
        assert journal.read(tmp_path / change.kind).entries[0].change == change
        assert from_json(to_json(change)) == change


def test_an_undo_while_the_guest_runs_leaves_the_image_and_goes_on(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    book = journal.Journal(tmp_path / journal.NAME, guest.hypervisor.uri, "fix")
    for change in (ImageAmend("one", "/images/vda.qcow2"), Sparsify("one", "/images/vda.qcow2", "qcow2")):
        book.done(book.intend("one", guest.uuid, "image-format", change), {})
    said: list[str] = []
    assert undo.undo(tmp_path, said.append), said
    assert [line for line in said if "stays" in line] == said


# Other formats --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["-o", "compat=1.1"], "qcow2 1.1 on", id="1.1"),
        pytest.param(["-o", "compat=0.10"], "qcow2 0.10 on", id="0.10-without-a-backing-file"),
        pytest.param(["-o", "extended_l2=on,cluster_size=128k"], "extended_l2", id="extended-l2"),
        pytest.param(["-o", "cluster_size=2M"], "only whole clusters of 2.0 MiB come back", id="large-clusters"),
        pytest.param(["-o", "preallocation=metadata"], "qcow2 1.1", id="preallocated-metadata"),
        pytest.param(["-o", "preallocation=full"], "the host holds all of it", id="preallocated"),
    ],
)
def test_what_can_shrink_is_compliant_and_does(tmp_path: Path, options: list[str], words: str) -> None:
    image = _make(tmp_path / "disk.qcow2", *options)
    guest = _guest(tmp_path, image)
    result = _run(guest, tmp_path)
    assert (result.verdict, result.changes) == (Verdict.COMPLIANT, [])
    assert words in result.evidence
    _io(image, "write -P 5 0 16M")
    held = image.stat().st_blocks
    _io(image, "discard 0 16M")
    assert held - image.stat().st_blocks > 15 * MIB // 512


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qed", "vdi", "vmdk", "vpc", "qcow"])
def test_a_format_that_keeps_every_block_is_red_and_does(tmp_path: Path, kind: str) -> None:
    image = _make(tmp_path / f"disk.{kind}", kind=kind)
    xml = disk_xml(source=str(image)).replace("type='qcow2'", f"type='{kind}'")
    guest = inhabited(tmp_path, Inside(), xml, running=False)
    result = _run(guest, tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert f"qemu-img convert -p -f {kind} -O qcow2" in result.reason
    _io(image, "write -P 5 0 16M", kind=kind)
    held = image.stat().st_blocks
    _io(image, "discard 0 16M", kind=kind)
    assert image.stat().st_blocks == held


def test_a_raw_image_that_qemu_encrypts_is_red(tmp_path: Path) -> None:
    image = tmp_path / "disk.luks"
    image.write_bytes(bytes(MIB))
    secret = "<encryption format='luks'><secret type='passphrase' uuid='f52a81b2-424e-490c-823d-6bd4235bc572'/>"
    xml = (
        "<disk type='file' device='disk'><driver name='qemu' type='raw' discard='unmap'/>"
        f"<source file='{image}'>{secret}</encryption></source><target dev='vda' bus='virtio'/></disk>"
    )
    result = _run(inhabited(tmp_path, Inside(), xml, running=False), tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "encrypts (LUKS)" in result.reason


def test_internal_snapshots_are_named_and_kept(tmp_path: Path) -> None:
    image = _make(tmp_path / "disk.qcow2")
    for name in ("before upgrade", "<b>two</b>"):
        subprocess.run(["qemu-img", "snapshot", "-c", name, str(image)], check=True)
    content = image.read_bytes()
    result = _run(_guest(tmp_path, image), tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "2 internal snapshots (before upgrade, <b>two</b>)" in result.reason
    assert "virsh snapshot-delete one 'before upgrade'" in result.reason
    assert image.read_bytes() == content


@pytest.mark.slow
def test_an_old_image_with_a_snapshot_is_amended_and_stays_red_for_the_snapshot(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    subprocess.run(["qemu-img", "snapshot", "-c", "kept", str(overlay)], check=True)
    result = _run(_guest(tmp_path, overlay), tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.startswith("1 internal snapshot (kept)")
    assert [change.applied for change in result.changes] == [True]
    assert _version(overlay) == 3


def test_a_header_in_a_raw_disk_is_the_guests_affair(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    guest = inhabited(
        tmp_path, Inside(), disk_xml(source=str(overlay)).replace("type='qcow2'", "type='raw'"), running=False
    )
    result = _run(guest, tmp_path)
    assert (result.verdict, result.changes) == (Verdict.COMPLIANT, [])
    assert result.evidence.startswith("raw on ")


@pytest.mark.parametrize(
    ("content", "verdict", "words"),
    [
        pytest.param(b"no qcow2 at all", Verdict.NOT_ASSESSABLE, "does not begin like one", id="no-header"),
        pytest.param(b"", Verdict.NOT_ASSESSABLE, "its header cannot be read", id="empty"),
        pytest.param(b"QFI\xfb\0\0\0\x03", Verdict.NOT_ASSESSABLE, "the file ends within it", id="torn"),
        pytest.param(b"QFI\xfb\0\0\0\x09" + bytes(200), Verdict.NOT_ASSESSABLE, "version 9", id="from-the-future"),
        pytest.param(None, Verdict.NOT_ASSESSABLE, "No such file", id="gone"),
    ],
)
def test_what_cannot_be_read_is_no_finding(tmp_path: Path, content: bytes | None, verdict: Verdict, words: str) -> None:
    image = tmp_path / "disk.qcow2"
    if content is not None:
        image.write_bytes(content)
    result = _run(_guest(tmp_path, image), tmp_path)
    assert (result.verdict, result.changes) == (verdict, [])
    assert words in result.reason


def test_an_image_marked_corrupt_is_not_assessed(tmp_path: Path) -> None:
    image = _make(tmp_path / "disk.qcow2")
    with image.open("r+b") as stream:
        stream.seek(79)
        stream.write(b"\x02")  # incompatible feature bit 1
    result = _run(_guest(tmp_path, image), tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert "corrupt" in result.reason


@pytest.mark.parametrize(
    ("xml", "verdict", "words"),
    [
        pytest.param(
            "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='rbd' name='p/i'>"
            "<host name='ceph'/></source><target dev='vda' bus='virtio'/></disk>",
            Verdict.NOT_ASSESSABLE,
            "a network disk (rbd)",
            id="rbd",
        ),
        pytest.param(disk_xml(inner="<readonly/>"), Verdict.NOT_APPLICABLE, "read-only", id="read-only"),
        pytest.param(
            "<disk type='volume' device='disk'><driver name='qemu' type='raw'/>"
            "<source pool='none' volume='v'/><target dev='vda' bus='virtio'/></disk>",
            Verdict.NOT_ASSESSABLE,
            "the volume v of pool none",
            id="volume-of-no-pool",
        ),
    ],
)
def test_disks_without_an_image_here(tmp_path: Path, xml: str, verdict: Verdict, words: str) -> None:
    result = _run(inhabited(tmp_path, Inside(), xml, running=False), tmp_path)
    assert (result.verdict, result.changes) == (verdict, [])
    assert words in result.reason


def test_a_thick_disk_and_the_test_driver_are_left_alone(tmp_path: Path) -> None:
    overlay = _old_overlay(tmp_path)
    thick = _guest(tmp_path, overlay, inventory=Inventory(guest={"one": GuestNotes(thick=True)}))
    assert verdict_of(thick, "image-format", "vda") is Verdict.NOT_APPLICABLE
    sample = opened(tmp_path, domain_xml(disk_xml(source=str(overlay)))).guests[0]
    assert verdict_of(sample, "image-format", "vda") is Verdict.NOT_ASSESSABLE


def test_a_volume_of_a_pool_is_found(tmp_path: Path) -> None:
    _old_overlay(tmp_path)
    xml = (
        "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>"
        "<source pool='images' volume='disk.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    )
    guest = inhabited(tmp_path, Inside(), xml, running=False)
    pool = f"<pool type='dir'><name>images</name><target><path>{tmp_path}</path></target></pool>"
    made = guest.hypervisor.connection.storagePoolCreateXML(pool, 0)
    made.createXML("<volume><name>disk.qcow2</name><capacity>1</capacity></volume>", 0)
    result = _run(guest, tmp_path, mode="audit")
    assert result.verdict is Verdict.NONCOMPLIANT, result.reason


def test_the_bytes_below_an_overlay_are_told(tmp_path: Path) -> None:
    overlay, base = _make(tmp_path / "disk.qcow2"), tmp_path / "base.img"
    base.write_bytes(b"x" * MIB)
    chain = f"<backingStore type='file'><format type='raw'/><source file='{base}'/><backingStore/></backingStore>"
    guest = inhabited(tmp_path, Inside(), disk_xml(source=str(overlay), inner=chain), running=False)
    result = _run(guest, tmp_path)
    assert result.verdict is Verdict.COMPLIANT
    assert f"never that of its base (1.0 MiB in {base})" in result.evidence


# Where it lies --------------------------------------------------------------------------------


@pytest.fixture(params=["ext4", "xfs", "btrfs", "btrfs-compressed", "tmpfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    filesystems.require(request.param)
    with filesystems.mounted(request.param, tmp_path) as folder:
        yield folder


def test_a_filesystem_that_frees_holes_is_found_to(tmp_path: Path, place: Path) -> None:
    guest = _guest(tmp_path, _make(place / "disk.qcow2"))
    found = inspect(Disk(guest, "vda"))
    assert found.punch is not None
    assert found.punch.frees_pieces
    assert _run(guest, tmp_path).verdict is Verdict.COMPLIANT
    assert {path.name for path in place.iterdir()} - {"lost+found"} == {"disk.qcow2"}


@pytest.fixture
def ramfs(tmp_path: Path) -> Iterator[Path]:
    """The one filesystem without fallocate that every Linux can mount."""
    if os.geteuid() != 0:
        pytest.skip("not root")
    folder = tmp_path / "ramfs"
    folder.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_filesystem_without_holes_is_red_and_nothing_is_left_there(tmp_path: Path, ramfs: Path) -> None:
    guest = _guest(tmp_path, _make(ramfs / "disk.qcow2"))
    result = _run(guest, tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "punches no holes: fallocate says" in result.reason
    assert "move the image" in result.reason
    assert [path.name for path in ramfs.iterdir()] == ["disk.qcow2"]


def test_a_symbolic_link_is_followed_to_the_filesystem_behind_it(tmp_path: Path, ramfs: Path) -> None:
    _make(ramfs / "disk.qcow2")
    link = tmp_path / "link.qcow2"
    link.symlink_to(ramfs / "disk.qcow2")
    assert "punches no holes" in _run(_guest(tmp_path, link), tmp_path).reason


def test_a_read_only_filesystem_is_not_assessed(tmp_path: Path) -> None:
    filesystems.require("tmpfs")
    with filesystems.mounted("tmpfs", tmp_path) as place:
        image = _make(place / "disk.qcow2")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        result = _run(_guest(tmp_path, image), tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert "Read-only file system" in result.reason


@pytest.mark.slow
def test_a_full_filesystem_is_not_assessed(tmp_path: Path) -> None:
    filesystems.require("tmpfs")
    with filesystems.mounted("tmpfs", tmp_path) as place:
        image = _make(place / "disk.qcow2")
        filler = place / "filler"
        with filler.open("wb") as stream, pytest.raises(OSError, match="space"):
            os.posix_fallocate(stream.fileno(), 0, 500 * MIB)
        while True:
            try:
                with (place / "more").open("ab") as stream:
                    stream.write(bytes(4096))
            except OSError:
                break
        result = _run(_guest(tmp_path, image), tmp_path)
        assert not list(place.glob(".reclaim*"))
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])


def test_one_filesystem_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = host_image._punch

    def punch(host: Hypervisor, folder: str) -> Punch:
        asked.append(folder)
        return real(host, folder)

    monkeypatch.setattr(host_image, "_punch", punch)
    guest = _guest(tmp_path, _make(tmp_path / "one.qcow2"), _make(tmp_path / "two.qcow2"))
    for disk in ("vda", "vdb"):
        assert verdict_of(guest, "image-format", disk) is Verdict.COMPLIANT
    assert asked == [str(tmp_path)]


# Values that cannot be made here, shaped like those of real machines ------------------------------


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A block device that sysfs and dmsetup have as a volume of VDO; `dmsetup` in `bin` answers with what is in it."""
    if os.geteuid() != 0:
        pytest.skip("not root")
    sysfs, programs = tmp_path / "sys", tmp_path / "bin"
    for folder, name, uuid in (("7:0", "vg-lv", "LVM-aB1"), ("7:0/slaves/dm-1", "vg-vpool0-vpool", "LVM-aB2-vpool")):
        (sysfs / folder / "dm").mkdir(parents=True)
        (sysfs / folder / "dm" / "name").write_text(f"{name}\n")
        (sysfs / folder / "dm" / "uuid").write_text(f"{uuid}\n")
    (sysfs / "7:0" / "queue").mkdir()
    (sysfs / "7:0" / "queue" / "discard_max_bytes").write_text("2097152\n")
    programs.mkdir()
    for name, table in (("vg-lv", "0 2097152 linear 253:1 1024"), ("vg-vpool0-vpool", "0 4194304 vdo V4 /dev/dm-0")):
        (programs / f"table-{name}").write_text(f"{table}\n")
    program = programs / "dmsetup"
    executable(program, f'#!/bin/sh\n[ "$2" = -- ] && exec cat "{programs}/$1-$3"\n')
    script = host_image._LOOK.replace("/sys/dev/block", str(sysfs)).replace("PATH=", f"PATH={programs}:", 1)
    monkeypatch.setattr(host_image, "_LOOK", script)
    device = tmp_path / "lv"
    os.mknod(device, 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    return device


def _on(folder: Path, device: Path) -> Result:
    disk = disk_xml(source=str(device)).replace("type='file'", "type='block'").replace("file=", "dev=")
    return _run(inhabited(folder, Inside(), disk.replace("type='qcow2'", "type='raw'")), folder)


def test_a_volume_of_vdo_is_not_thick(tmp_path: Path, volume: Path) -> None:
    """Its own table is linear, as a thick one's: what it lies on frees what is discarded."""
    result = _on(tmp_path, volume)
    assert result.verdict is Verdict.COMPLIANT, result.reason
    (tmp_path / "bin" / "table-vg-vpool0-vpool").write_text("0 4194304 linear 8:16 2048\n")
    assert (_on(tmp_path, volume).verdict) is Verdict.NOT_APPLICABLE


def test_a_volume_of_which_dmsetup_says_nothing_is_not_called_thick(tmp_path: Path, volume: Path) -> None:
    (tmp_path / "bin" / "table-vg-lv").unlink()
    result = _on(tmp_path, volume)
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert "a logical volume, and dmsetup does not report its kind" in result.reason


@pytest.mark.slow
def test_what_was_freed_without_discards_is_no_leak_and_a_copy_is_without_it(tmp_path: Path) -> None:
    """A snapshot deleted while discards were off: its clusters are free, and the file holds them all the same."""
    image = _make(tmp_path / "disk.qcow2", size="96M")
    _io(image, "write -P 5 0 96M")
    subprocess.run(["qemu-img", "snapshot", "-c", "gone", image], check=True)
    _io(image, "write -P 6 0 96M")
    file = f"file.driver=file,file.filename={image},file.discard=ignore"
    subprocess.run(
        ["qemu-img", "snapshot", "-d", "gone", "--image-opts", f"driver=qcow2,discard=ignore,{file}"], check=True
    )
    disk = Disk(_guest(tmp_path, image), "vda")
    [found] = obstacles(inspect(disk), "one")
    _, check, convert = found.remedy.split(": ")
    subprocess.run(shlex.split(check.partition(";")[0]), check=True, stdout=subprocess.DEVNULL)
    assert obstacles(inspect(disk), "one") == [found]
    subprocess.run(shlex.split(convert), check=True)
    image.with_suffix(".qcow2.new").replace(image)
    assert obstacles(inspect(disk), "one") == []


def test_what_a_header_points_at_is_bounded(tmp_path: Path) -> None:
    image = _make(tmp_path / "disk.qcow2")
    with image.open("r+b") as stream:
        stream.seek(60)
        stream.write((7).to_bytes(4, "big") + (2**63).to_bytes(8, "big"))
    result = _run(_guest(tmp_path, image), tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])


def test_a_hypervisor_that_answers_gibberish_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = _guest(tmp_path, _make(tmp_path / "disk.qcow2"))
    monkeypatch.setattr(host_image, "_LOOK", "echo 'stat !!'")
    assert verdict_of(guest, "image-format", "vda") is Verdict.ERROR
    monkeypatch.setattr(host_image, "_LOOK", "echo 'stat Y2F0Cg=='")
    assert verdict_of(guest, "image-format", "vda") is Verdict.ERROR


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    guest = _guest(tmp_path, tmp_path)
    with pytest.raises(NotAssessable, match="a directory, not an image"):
        inspect(Disk(guest, "vda"))
