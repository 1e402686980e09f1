"""Copies of images: found in the declared places, matched to disks, and known before they may be written to."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra

from reclaim.backups import backup
from reclaim.backups.backup import (
    Backup,
    Candidate,
    FoundCopy,
    candidates,
    find,
    format_of_copy,
    match,
    rewritten,
    tolerated,
)
from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject, judge
from reclaim.files import replace
from reclaim.files.beneath import File, Folder, file_id
from reclaim.inventory import BackupNotes
from tests.copies import DATA, dense, noise, write
from tests.filesystems import MIB, mounted, require, run
from tests.support import disk_xml, domain_xml, opened, requirement
from tests.unit.requirements.test_sparse_backup import hypervisor, qcow2_full, sparse


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


# One copy -------------------------------------------------------------------------------------


def test_a_disk_without_a_copy_has_no_file(tmp_path: Path) -> None:
    absent = Backup(hypervisor(tmp_path), None, absent="no copy in /b")
    for ask in (lambda: absent.file, lambda: absent.located, absent.image, absent.scan):
        with pytest.raises(NotAssessable, match="no copy in /b"):
            ask()
    assert absent.stream is None


def test_a_copy_is_a_stream_by_its_name(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path)
    assert Backup(owner, "/b/web.img").stream is None
    stream = Backup(owner, "/b/web.img.gz").stream
    assert stream is not None


def test_a_copy_that_is_gone_is_told_with_its_path(tmp_path: Path) -> None:
    gone = tmp_path / "folder" / "web.img"
    for path in (gone, tmp_path / "web.img"):
        with pytest.raises(ProbeError) as caught:
            Backup(hypervisor(tmp_path), str(path)).scan()
        assert str(path) in str(caught.value)


def test_another_file_in_the_place_of_a_copy_is_not_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", (0, noise(4096)), size=MIB)
    one = Backup(hypervisor(tmp_path), str(path))
    with one.opened():
        pass
    (tmp_path / "other").write_bytes(b"x")
    (tmp_path / "other").replace(path)
    with pytest.raises(ProbeError, match=str(path)):
        one.scan()


def test_a_copy_that_this_run_wrote_anew_is_the_same_copy(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", (0, noise(4096)), size=MIB)
    owner = hypervisor(tmp_path)
    one = Backup(owner, str(path))
    with one.opened():
        before = file_id(path.stat())
    (tmp_path / "other").write_bytes(b"x" * 4096)
    (tmp_path / "other").replace(path)
    after = file_id(path.stat())
    rewritten(owner, before, after)
    assert one.scan().needed == 4096
    assert one.known == after
    # the number that is free now may be that of another file, which was never written anew
    rewritten(owner, after, before)
    second = Backup(owner, str(path), known=before)
    with pytest.raises(ProbeError):
        second.scan()


def test_a_copy_is_read_anew_only_if_it_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", (0, noise(MIB)), size=4 * MIB)
    one = Backup(hypervisor(tmp_path), str(path))
    first = one.scan()
    assert first.needed == MIB
    assert one.scan() is first
    with path.open("r+b") as stream:
        stream.seek(2 * MIB)
        stream.write(noise(MIB))
    assert one.scan().needed == 2 * MIB


def test_a_copy_that_only_has_another_time_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", (0, noise(MIB)), size=4 * MIB)
    one = Backup(hypervisor(tmp_path), str(path))
    first = one.scan()
    os.utime(path, ns=(0, 0))
    assert one.scan() is not first


@pytest.mark.parametrize(
    ("name", "kind", "image", "format_"),
    [
        ("web.img", "raw", "web.img", "raw"),
        ("web.qcow2", "raw", "web.img", None),
        ("web.qcow2", "raw", "web.qcow2", "raw"),
        ("web.img", "qcow2", "web.qcow2", None),
        ("web.img", None, "web.img", "raw"),
    ],
)
def test_the_format_of_a_copy_of_a_raw_disk(
    tmp_path: Path, name: str, kind: str | None, image: str, format_: str | None
) -> None:
    xml = disk_xml(source=f"/images/{image}")
    xml = xml.replace(" type='qcow2'", f" type='{kind}'" if kind else "")
    (disk,) = opened(tmp_path, domain_xml(xml)).guests[0].disks
    assert format_of_copy(f"/b/{name}", disk) == format_
    assert format_of_copy(f"/b/{name}", None) is None


def test_a_header_that_a_guest_wrote_into_its_raw_disk_is_data(tmp_path: Path) -> None:
    path = qcow2_full(tmp_path / "web.img")
    (disk,) = opened(tmp_path, domain_xml(disk_xml(source="/images/web.img").replace("qcow2", "raw"))).guests[0].disks
    assert Backup(hypervisor(tmp_path), str(path), disk=disk).image().qcow2 is None
    assert Backup(hypervisor(tmp_path), str(path)).image().qcow2 is not None
    assert Backup(hypervisor(tmp_path), str(path), disk=disk).stale() == 0


@pytest.mark.parametrize(
    ("needed", "more"),
    [(0, 4 * MIB), (80 * MIB, 4 * MIB), (81 * MIB, 81 * MIB // 20), (2048 * MIB, 2048 * MIB // 20)],
)
def test_bytes_that_a_copy_may_take_beyond_its_need(needed: int, more: int) -> None:
    assert tolerated(needed) == more


def of_image(folder: Path, copy: Path, image: Path) -> Backup:
    """The copy of the disk on *image*."""
    owner = hypervisor(folder, str(image))
    return Backup(owner, str(copy), owner.guests[0], owner.guests[0].disks[0])


def test_the_image_may_hold_less_than_its_copy(tmp_path: Path) -> None:
    copy = write(tmp_path / "copy.img", (0, noise(3 * MIB)), size=8 * MIB)
    image = write(tmp_path / "web.img", (0, noise(MIB)), size=8 * MIB)
    assert of_image(tmp_path, copy, image).discarded_since() == 2 * MIB
    assert of_image(tmp_path, image, copy).discarded_since() == 0
    assert of_image(tmp_path, copy, tmp_path / "gone").discarded_since() == 0
    assert Backup(hypervisor(tmp_path), str(copy)).discarded_since() == 0


def raw_disk_of(folder: Path, copy: Path, image: Path) -> Backup:
    owner = opened(folder, domain_xml(disk_xml(source=str(image)).replace("qcow2", "raw")))
    return Backup(owner, str(copy), owner.guests[0], owner.guests[0].disks[0])


def test_a_copy_may_be_shorter_than_its_image(tmp_path: Path) -> None:
    image = write(tmp_path / "web.img", size=8 * MIB)
    short, same = write(tmp_path / "short.img", size=5 * MIB), write(tmp_path / "same.img", size=8 * MIB)
    words = raw_disk_of(tmp_path, short, image).shorter()
    assert "5.0 MiB" in words
    assert "8.0 MiB" in words
    assert raw_disk_of(tmp_path, same, image).shorter() == ""
    assert raw_disk_of(tmp_path, image, short).shorter() == ""
    assert raw_disk_of(tmp_path, short, tmp_path / "gone").shorter() == ""
    assert raw_disk_of(tmp_path, tmp_path / "gone", image).shorter() == ""
    assert Backup(hypervisor(tmp_path), str(short)).shorter() == ""


def test_the_image_of_a_guest_is_told_from_a_copy(tmp_path: Path) -> None:
    image = write(tmp_path / "web.img", size=MIB)
    copy = write(tmp_path / "copy.img", size=MIB)
    owner = hypervisor(tmp_path, str(image))
    assert Backup(owner, str(image)).user() == "one"
    assert Backup(owner, str(copy)).user() is None


# The places that are declared -----------------------------------------------------------------


def found_in(folder: Path, *places: BackupNotes, images: tuple[str, ...] = ("/srv/web.qcow2",)) -> FoundCopy:
    owner = hypervisor(folder, *images)
    return find(owner, places, owner.guests)


def test_without_a_place_nothing_is_looked_for(tmp_path: Path) -> None:
    assert found_in(tmp_path) == FoundCopy()
    assert found_in(tmp_path, BackupNotes(job=tmp_path / "job.sh")) == FoundCopy()


def test_a_disk_that_is_only_read_needs_no_copy(tmp_path: Path) -> None:
    owner = opened(tmp_path, domain_xml(disk_xml(inner="<readonly/>"), disk_xml("vdb", source="/srv/b.img")))
    found = find(owner, [BackupNotes(path=copies(tmp_path, "x"))], owner.guests)
    assert [copy.disk.name for copy in found.backups if copy.disk] == ["vdb"]


def test_copies_of_guests_that_were_not_chosen_are_no_strangers(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path, "/srv/web.qcow2")
    found = find(owner, [BackupNotes(path=copies(tmp_path, "web.qcow2"))], [])
    assert found == FoundCopy()


def test_a_place_is_of_the_images_and_guests_that_are_declared(tmp_path: Path) -> None:
    top = copies(tmp_path, "web.qcow2")
    for notes, is_its in (
        (BackupNotes(path=top, images=["/srv/web.qcow2"]), True),
        (BackupNotes(path=top, images=["/srv/other.qcow2"]), False),
        (BackupNotes(path=top, guests=["o*"]), True),
        (BackupNotes(path=top, guests=["x*", "one"]), True),
        (BackupNotes(path=top, guests=["x*"]), False),
        (BackupNotes(path=top, images=["/srv/web.qcow2"], guests=["x*"]), False),
    ):
        found = found_in(tmp_path, notes)
        assert [copy.path is not None for copy in found.backups] == [is_its]
        assert len(found.strangers) == (not is_its)


def test_a_file_that_is_declared_itself_is_a_copy_by_any_name(tmp_path: Path) -> None:
    path = copies(tmp_path, "archive") / "archive"
    (stranger,) = found_in(tmp_path, BackupNotes(path=path)).strangers
    assert stranger.path == str(path)
    assert stranger.known == file_id(path.stat())
    assert found_in(tmp_path, BackupNotes(path=path.parent)).strangers == []


def test_a_file_that_is_declared_and_gone_has_a_row(tmp_path: Path) -> None:
    (stranger,) = found_in(tmp_path, BackupNotes(path=tmp_path / "gone.img")).strangers
    assert (stranger.path, stranger.known) == (str(tmp_path / "gone.img"), None)


def test_a_file_in_two_places_is_one_copy(tmp_path: Path) -> None:
    top = copies(tmp_path, "web.qcow2")
    found = found_in(tmp_path, BackupNotes(path=top), BackupNotes(path=top / "web.qcow2"))
    assert [copy.path for copy in found.backups] == [str(top / "web.qcow2")]


def test_an_archive_of_anything_is_no_copy(tmp_path: Path) -> None:
    found = found_in(tmp_path, BackupNotes(path=copies(tmp_path, "etc.gz", "web.qcow2.gz", "other.img.gz")))
    assert [Path(str(copy.path)).name for copy in found.backups] == ["web.qcow2.gz"]
    assert [Path(str(copy.path)).name for copy in found.strangers] == ["other.img.gz"]


def test_the_files_that_a_killed_rewrite_left_are_told_with_the_copy(tmp_path: Path) -> None:
    top = copies(tmp_path, "web.qcow2", "db.qcow2")
    left = top / replace.beside("web.qcow2", 7)
    left.write_bytes(b"x")
    found = found_in(tmp_path, BackupNotes(path=top))
    assert {Path(str(copy.path)).name: copy.left for copy in (*found.backups, *found.strangers)} == {
        "web.qcow2": (str(left),),
        "db.qcow2": (),
    }


def test_a_folder_of_more_files_than_images_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "_MOST_FILES", 3)
    top = copies(tmp_path, "web.qcow2", "a", "b")
    assert found_in(tmp_path, BackupNotes(path=top)).backups[0].path is not None
    (top / "c").write_bytes(b"")
    (one,) = found_in(tmp_path, BackupNotes(path=top)).backups
    assert one.path is None
    assert str(top) in one.absent
    assert "3 files" in one.absent


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = copies(tmp_path, "x")
    files = Folder.files

    def unreadable(self: Folder, *, unread: list[str], **more: Any) -> Iterator[tuple[File, os.stat_result]]:
        unread += [f"{top}/closed", f"{top}/closed too"]
        yield from files(self, unread=unread, **more)

    monkeypatch.setattr(Folder, "files", unreadable)
    (one,) = found_in(tmp_path, BackupNotes(path=top)).backups
    assert f"{top}/closed" in one.absent
    assert "1 more" in one.absent


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/srv/web.qcow2", "vda"),
        ("/b/daily/srv/web.qcow2", "vda"),
        ("/b/web.qcow2", "vda"),
        ("/b/web.img", "vda"),
        ("/b/one/web.img", "vda"),
        ("/b/backup-web.img", "vda"),
        ("/b/one-vdb.img", "vdb"),
        ("/b/one_vdb.img", "vdb"),
        ("/b/one.vdb.img", "vdb"),
        ("/b/one-vdb-20261128.img", "vdb"),
        ("/b/one/vdb.img", "vdb"),
        ("/b/other/vdb.img", None),
        ("/b/one.img", None),
        ("/b/intraweb.img", None),
    ],
)
def test_a_file_is_matched_to_the_disk_that_it_is_called_after(tmp_path: Path, path: str, target: str | None) -> None:
    owner = hypervisor(tmp_path, "/srv/web.qcow2", "/srv/data.qcow2")
    disk = match(path, candidates(owner.guests[0].disks))
    assert (disk and disk.name) == target


@pytest.mark.parametrize("path", ["/b/one.img", "/b/one-20261128.img", "/b/backup-one.img", "/b/one/x/vda.img"])
def test_the_only_disk_of_a_guest_is_called_after_the_guest(tmp_path: Path, path: str) -> None:
    owner = hypervisor(tmp_path, "/srv/web.qcow2")
    disk = match(path, candidates(owner.guests[0].disks))
    assert disk is not None
    assert disk.name == "vda"


def two_guests(folder: Path, first: str, second: str) -> list[Candidate]:
    owner = opened(
        folder,
        domain_xml(disk_xml(source=first), name="a-guest"),
        domain_xml(disk_xml(source=second), name="b-guest"),
    )
    return candidates(disk for guest in owner.guests for disk in guest.disks)


@pytest.mark.parametrize(
    ("path", "guest"),
    [
        ("/backup/disk.qcow2", None),
        ("/b/a-guest/disk.qcow2", "a-guest"),
        ("/b/b-guest/disk.img", "b-guest"),
        ("/b/b-guest/disk-20261128.img", "b-guest"),
        ("/b/srv/b/disk.qcow2", "b-guest"),
        ("/srv/b/disk.qcow2", "b-guest"),
        ("/b/a-guest/srv/b/disk.qcow2", "b-guest"),
    ],
)
def test_the_folder_decides_between_images_of_one_name(tmp_path: Path, path: str, guest: str | None) -> None:
    disk = match(path, two_guests(tmp_path, "/srv/a/disk.qcow2", "/srv/b/disk.qcow2"))
    assert (disk and disk.guest.name) == guest


def test_an_image_that_two_guests_share_has_one_copy(tmp_path: Path) -> None:
    disk = match("/b/disk.qcow2", two_guests(tmp_path, "/srv/disk.qcow2", "/srv/disk.qcow2"))
    assert disk is not None
    assert disk.guest.name == "a-guest"


# What may be done -----------------------------------------------------------------------------


def test_a_copy_that_nobody_has_open_may_be_written_to(tmp_path: Path) -> None:
    one = Backup(hypervisor(tmp_path), str(write(tmp_path / "web.img", size=MIB)))
    assert backup.why_not_written_to(one) is None
    gone = Backup(hypervisor(tmp_path), str(tmp_path / "gone"))
    assert "gone" in str(backup.why_not_written_to(gone))


def test_a_copy_that_something_has_open_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", size=MIB)
    one = Backup(hypervisor(tmp_path), str(path))
    with path.open("rb"):
        reason = backup.why_not_written_to(one)
    assert reason is not None
    assert str(path) in reason
    assert backup.why_not_written_to(one) is None


def test_a_rewrite_wants_room_for_what_the_copy_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Backup(hypervisor(tmp_path), str(write(tmp_path / "web.img", (0, noise(MIB)), size=2 * MIB)))
    assert backup.why_not_rewritten(one) is None
    real = os.fstatvfs

    def with_room(blocks: int) -> None:
        def answer(descriptor: int) -> os.statvfs_result:
            values = list(real(descriptor))
            values[1], values[4] = MIB, blocks
            return os.statvfs_result(values)

        monkeypatch.setattr(os, "fstatvfs", answer)

    with_room(5)
    assert backup.why_not_rewritten(one) is None
    with_room(4)
    reason = backup.why_not_rewritten(one)
    assert reason is not None
    assert "5.0 MiB" in reason
    assert "4.0 MiB" in reason


def test_a_copy_beside_a_folder_that_is_gone_cannot_be_asked_for_holes(tmp_path: Path) -> None:
    with pytest.raises(ProbeError):
        backup.punches(Backup(hypervisor(tmp_path), str(tmp_path / "gone" / "web.img")))


def test_zeros_that_a_reflink_shares_are_told(tmp_path: Path, btrfs: Path) -> None:
    path = write(btrfs / "web.img", (0, bytes(4 * MIB)), size=4 * MIB)
    owner = hypervisor(tmp_path)
    alone = Backup(owner, str(path))
    assert backup.snapshots_that_pin(alone) == ""
    assert backup.is_better_rewritten(alone)
    run("cp", "--reflink=always", str(path), str(btrfs / "clone"))
    run("btrfs", "filesystem", "sync", str(btrfs))
    shared = Backup(owner, str(path))
    assert "clone" in backup.pinned_by(shared)
    assert backup.snapshots_that_pin(shared) == ""
    assert not backup.is_better_rewritten(shared)


def test_zeros_that_snapshots_share_are_told_by_their_names(tmp_path: Path, btrfs: Path) -> None:
    path = write(btrfs / "current/web.img", (0, bytes(4 * MIB)), size=4 * MIB)
    run("btrfs", "subvolume", "snapshot", "-r", str(btrfs / "current"), str(btrfs / "hourly"))
    one = Backup(hypervisor(tmp_path), str(path))
    assert "hourly" in backup.pinned_by(one)
    assert "hourly" in backup.snapshots_that_pin(one)


def test_a_copy_that_is_not_on_btrfs_is_punched_in_its_place(tmp_path: Path) -> None:
    require("ext4")
    with mounted("ext4", tmp_path) as folder:
        one = Backup(hypervisor(tmp_path), str(write(folder / "web.img", (0, bytes(MIB)), size=MIB)))
        assert backup.punches(one)
        assert not backup.is_better_rewritten(one)
        assert backup.pinned_by(one) == "a reflink"
        assert backup.snapshots_that_pin(one) == ""


def test_the_words_for_stale_data_have_its_bytes() -> None:
    assert "3.0 MiB" in backup.stale_words(3 * MIB)
