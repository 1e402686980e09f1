"""Copies of images: found in the declared places, matched to disks, and known before they may be written to."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import testinfra

from reclaim.backups import backup
from reclaim.backups.backup import Backup, find
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject, judge
from reclaim.inventory import BackupNotes
from tests.filesystems import MIB
from tests.support import disk_xml, domain_xml, opened, requirement
from tests.unit.requirements.test_sparse_backup import DATA, dense, hypervisor, noise, qcow2_full, sparse, write


def copies(folder: Path, *names: str) -> Path:
    top = folder / "backup"
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, (0, noise(4096)), size=MIB)
    return top


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("srv/images/web.qcow2", "vda"),
        ("daily.0/localhost/srv/images/web.qcow2", "vda"),
        ("web.qcow2", "vda"),
        ("web.img", "vda"),
        ("web.qcow2.bak", "vda"),
        ("web-2026-11-22.qcow2", "vda"),
        ("web_20261122T0300Z.qcow2", "vda"),
        ("data.qcow2.1", "vdb"),
        ("one-vdb.qcow2", "vdb"),
        ("one/vdb.qcow2", "vdb"),
        ("website.qcow2", None),
        ("one.qcow2", None),
    ],
)
def test_a_copy_is_matched_by_path_and_name(tmp_path: Path, name: str, target: str | None) -> None:
    owner = hypervisor(tmp_path, "/srv/images/web.qcow2", "/srv/images/data.qcow2")
    found = find(owner, [BackupNotes(path=copies(tmp_path, name))], owner.guests)
    matched = [(one.disk.name if one.disk else None) for one in found.backups if one.path] or [None]
    assert matched == [target]
    assert len(found.strangers) == (target is None)
    # the disk without a copy is told
    absent = [one.disk.name for one in found.backups if one.path is None and one.disk]
    assert absent == [one for one in ("vda", "vdb") if one != target]


def test_a_name_of_many_numbers_is_read_in_one_way(tmp_path: Path) -> None:
    # each number more would double the ways to read it
    top = copies(tmp_path, "web" + "-1" * 100 + "x", "web" + "-1" * 100)
    found = find(hypervisor(tmp_path, "/srv/images/web.qcow2"), [BackupNotes(path=top)], [])
    assert [one.path for one in found.strangers] == []


def test_the_longer_path_decides_between_images_of_one_name(tmp_path: Path) -> None:
    owner = opened(
        tmp_path,
        domain_xml(disk_xml(source="/srv/a/disk.qcow2"), name="a-guest"),
        domain_xml(disk_xml(source="/srv/b/disk.qcow2"), name="b-guest"),
    )
    top = copies(tmp_path, "srv/b/disk.qcow2", "disk.qcow2")
    found = find(owner, [BackupNotes(path=top)], owner.guests)
    assert [(one.guest.name, one.path) for one in found.backups if one.guest and one.path] == [
        ("b-guest", str(top / "srv/b/disk.qcow2"))
    ]
    assert [one.path for one in found.strangers] == [str(top / "disk.qcow2")]


def test_the_longer_name_decides_between_guests_with_numbers(tmp_path: Path) -> None:
    names = ("db", "db-01", "db-02", "db1")
    owner = opened(tmp_path, *(domain_xml(disk_xml(source=f"/srv/{name}.qcow2"), name=name) for name in names))
    top = copies(tmp_path, "db-01-2026-11-22.qcow2", "db1_3.qcow2", "db.qcow2~", "db-02.old.qcow2")
    found = find(owner, [BackupNotes(path=top)], owner.guests)
    matched = {Path(one.path).name: one.guest.name for one in found.backups if one.path and one.guest}
    assert matched == {
        "db-01-2026-11-22.qcow2": "db-01",
        "db1_3.qcow2": "db1",
        "db.qcow2~": "db",
        "db-02.old.qcow2": "db-02",
    }


def test_hard_linked_generations_are_judged_once(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path, "/srv/web.qcow2")
    top = copies(tmp_path, "daily.0/web.qcow2")
    (top / "daily.1").mkdir()
    os.link(top / "daily.0/web.qcow2", top / "daily.1/web.qcow2")
    found = find(owner, [BackupNotes(path=top)], owner.guests)
    assert [one.path for one in found.backups] == [str(top / "daily.0/web.qcow2")]


def test_other_files_are_no_copies(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path, "/srv/web.qcow2")
    found = find(owner, [BackupNotes(path=copies(tmp_path, "web.xml", "notes.txt", "run.log"))], owner.guests)
    assert [one.path for one in found.backups] == [None]
    assert found.strangers == []


@pytest.mark.slow
def test_a_thousand_copies_of_a_thousand_guests_are_matched_in_no_time(tmp_path: Path) -> None:
    domains = [domain_xml(disk_xml(source=f"/srv/g{number}.qcow2"), name=f"g{number}") for number in range(1000)]
    owner = opened(tmp_path, *domains)
    top = copies(tmp_path, *(f"day/g{number}-2026-11-22.qcow2" for number in range(1000)))
    started = time.process_time()
    found = find(owner, [BackupNotes(path=top)], owner.guests)
    assert time.process_time() - started < 20
    assert all(one.guest and one.path and f"/{one.guest.name}-" in one.path for one in found.backups)
    assert len(found.backups) == 1000


def test_a_file_that_qemu_has_open_is_left(tmp_path: Path) -> None:
    path = qcow2_full(tmp_path / "web.qcow2")
    with subprocess.Popen(["qemu-io", "-f", "qcow2", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        deadline = time.monotonic() + 20
        while not _opened_by(qemu.pid, path) and time.monotonic() < deadline:
            time.sleep(0.05)
        owner = hypervisor(tmp_path)
        found = Backup(owner, str(path))
        reason = backup.why_not_written_to(found)
        qemu.communicate(b"quit\n")
    assert reason is not None
    assert f"qemu-io ({qemu.pid})" in reason


def _opened_by(pid: int, path: Path) -> bool:
    return any(os.path.realpath(f"/proc/{pid}/fd/{number}") == str(path) for number in os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def test_a_rewrite_parts_no_hard_links(tmp_path: Path) -> None:
    path = dense(tmp_path / "web.img")
    os.link(path, tmp_path / "older.img")
    assert "hard links" in str(backup.why_not_rewritten(Backup(hypervisor(tmp_path), str(path))))


def test_a_disk_without_a_copy_is_not_assessable(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path, "/srv/web.qcow2")
    top = copies(tmp_path, "other/readme")
    (one,) = find(owner, [BackupNotes(path=top)], owner.guests).backups
    found = judge(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
    assert found.verdict is Verdict.NOT_ASSESSABLE
    assert found.reason == f"no copy of it was found in {top}"


def test_what_the_image_gave_back_since_is_told(tmp_path: Path) -> None:
    live = write(tmp_path / "web.img", (0, noise(2 * MIB)))
    owner = hypervisor(tmp_path, str(live))
    top = tmp_path / "backup"
    top.mkdir()
    write(top / "web.img", (0, noise(DATA * MIB)))
    (one,) = find(owner, [BackupNotes(path=top)], owner.guests).backups
    found = judge(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
    assert found.verdict is Verdict.COMPLIANT
    assert "the image has given back 6.0 MiB since" in found.evidence


def test_a_copy_that_is_shorter_than_its_image_is_told(tmp_path: Path) -> None:
    live = sparse(tmp_path / "web.img")
    owner = opened(tmp_path, domain_xml(disk_xml(source=str(live))))
    top = tmp_path / "backup"
    top.mkdir()
    write(top / "web.img", (0, noise(DATA * MIB)), size=40 * MIB)
    (one,) = find(owner, [BackupNotes(path=top)], owner.guests).backups
    found = judge(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
    assert "it has 40.0 MiB of the 64.0 MiB of its image: truncated, or made before the image grew" in found.evidence


def test_copies_of_another_machine_are_told_to_be_looked_at_there(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path, "/srv/web.qcow2")
    owner.shell = testinfra.get_host("ssh://kvm1")
    found = find(owner, [BackupNotes(path=copies(tmp_path, "web.qcow2"))], owner.guests)
    (one,) = found.backups
    reason = judge(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one)).reason
    assert reason == "reclaim judges copies only on the machine that holds them: run reclaim on test-driver"
    assert found.strangers == []
