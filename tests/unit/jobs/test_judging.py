"""From the steps of a job to its verdict: faults, the edits that mend them, and doubts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reclaim.backups.job import declared
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject
from reclaim.inventory import BackupNotes
from reclaim.jobs import rsync as rsync_line
from reclaim.jobs.images import DiskImage, Map
from reclaim.jobs.judging import Assessment, Finding, Judge, LineEdit, edited
from reclaim.jobs.tools import steps_of
from tests.jobs import IMAGE, IMAGES, declared_job, job, judged, read_shell, rsync, says_version
from tests.support import disk_xml, domain_xml, engine, opened, requirement

__all__ = ["rsync"]


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("rsync -a {0}/now/ /backup/", Verdict.NONCOMPLIANT),
        ("rsync -a {0}/now/web.qcow2 /backup/", Verdict.NONCOMPLIANT),
        ("rsync -a {0}/now /backup/", Verdict.NOT_ASSESSABLE),  # the link itself is copied
        ("cp --sparse=never {0}/disk /backup/", Verdict.NONCOMPLIANT),
        ("cp -a --sparse=never {0}/disk /backup/", Verdict.NOT_ASSESSABLE),
        ("rsync -a --exclude='*.qcow2' {0}/now/ /backup/", Verdict.NOT_ASSESSABLE),
    ],
)
def test_a_source_behind_a_symbolic_link(command: str, verdict: Verdict, tmp_path: Path) -> None:
    (tmp_path / "now").symlink_to("/srv/images")
    (tmp_path / "disk").symlink_to(IMAGE)
    _, one = job(tmp_path, f"#!/bin/sh\n{command.format(tmp_path)}\n", "copy.sh")
    assert judged(one).verdict is verdict


@pytest.mark.parametrize("version", ["3.2.7", "3.0.9"])
@pytest.mark.parametrize(
    "text",
    [
        'A="-a --inplace"\nrsync $A IMG/db.img /b/\n',
        'A=(-a)\nA+=(--inplace --no-whole-file)\nrsync "${A[@]}" IMG/db.img /b/\n',
        'f() { rsync "$@" IMG/db.img /b/; }\nf -a --inplace\n',
        'o=--inplace\nrsync -a "$o" IMG/db.img /b/\n',
        'f() { rsync -a "$1" IMG/db.img /b/; }\nf --inplace\nf --delete\n',
        "rsync -a --inplace IMG/db.img nas:/b/\n",
        "rsync -a --inplace IMG/db.img rsync://nas/b/\n",
        "/opt/rsync/bin/rsync -a --inplace IMG/db.img /b/\n",
        "rsync -a -M--write-devices IMG/db.img nas:/dev/x\n",
        "rsync -a --rsync-path='rsync --write-devices' IMG/db.img nas:/x\n",
        "rsync --write-devices IMG/db.img /b/link-to-a-device\n",
        'T=/dev/vg/x\nrsync -a IMG/db.img "$T"\n',
        "dd if=IMG/db.img of=/dev/vg/x\n",
        "rsync -a --append IMG/db.img /b/\n",
        'put() { rsync -a $2 IMG/db.img "$1"; }\nput /b/ ""\nput /dev/vg/x --write-devices\n',
        "rsync -a IMG/db.img /b/\necho 'never closed\n",
    ],
)
def test_half_a_mend_is_not_made(tmp_path: Path, rsync: Path, version: str, text: str) -> None:
    says_version(rsync, version)
    one = declared_job(tmp_path, "job.sh", text="#!/bin/bash\n" + text.replace("IMG", IMAGES))
    before = Path(one.path).read_text()
    result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    assert Path(one.path).read_text() == before
    assert result.changes == []
    if "/dev/" in text or "devices" in text:
        assert "add --sparse" not in result.reason
        assert "add conv=sparse" not in result.reason


def test_the_price_of_both_is_told_where_snapshots_would_come_to_take_more(tmp_path: Path, rsync: Path) -> None:
    for version, price in (("3.4.1", "106 MiB"), ("3.5.0", "14.5 MiB")):
        says_version(rsync, version)
        text = f"#!/bin/sh\nrsync -a --inplace --no-whole-file {IMAGES}/db.img /b/\n"
        (tmp_path / version).mkdir()
        one = declared_job(tmp_path / version, "job.sh", "true", text)
        result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
        assert price in result.reason
        assert Path(one.path).read_text() == text


def test_what_lies_on_another_filesystem_is_not_copied(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    domain = domain_xml(disk_xml(source="/dev/shm/images/web.qcow2"), name="web")
    for command in ("rsync -aHx / nas:/host/", "tar -cf /b.tar --one-file-system /", "cp -ax / /b"):
        path = tmp_path / "job.sh"
        path.write_text(f"#!/bin/sh\n{command}\n")
        folder = tmp_path / command.split()[0]
        folder.mkdir()
        (one,) = declared(opened(folder, domain), [BackupNotes(job=path)])
        assert "no command in it copies" in judged(one).reason
        path.write_text(f"#!/bin/sh\n{command.replace('x ', ' ').replace('--one-file-system ', '')}\n")
        assert judged(one).verdict is Verdict.NONCOMPLIANT


# Without a hypervisor -------------------------------------------------------------------------

WEB = DiskImage("/images/web.qcow2", "web", "web", "vda", "uuid-of-web")
DB = DiskImage("/images/db.img", None, "db", "vda", "uuid-of-db")
NAMES = {"web": "web", "uuid-of-web": "web", "db": "db", "uuid-of-db": "db"}


@dataclass
class Answers:
    """A hypervisor's answers to the questions of a judge."""

    version: rsync_line.Version | None = (3, 4, 1)
    kept: str | None = None
    links: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    devices: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    def rsync_version(self, command: str) -> rsync_line.Version | None:
        self.asked.append(command)
        return self.version

    def snapshots(self, target: str) -> str | None:
        return self.kept

    def same_filesystem(self, one: str, other: str) -> bool:
        return one.split("/")[1] == other.split("/")[1]

    def real(self, path: str) -> str:
        for link, place in self.links.items():
            if f"{path}/".startswith(f"{link}/"):
                return place + path[len(link) :].rstrip("/")
        return path

    def size(self, path: str) -> int | None:
        return self.sizes.get(path)

    def is_block_device(self, path: str) -> bool:
        return path in self.devices


def judge_of(text: str, *images: DiskImage, answers: Answers | None = None, is_rsnapshot: bool = False) -> Judge:
    script = read_shell(text)
    where = Map(list(images or (WEB, DB)), script.origins)
    return Judge(
        steps_of(script),
        where,
        answers or Answers(),
        whole=script.whole,
        asked=frozenset(script.asked),
        is_rsnapshot=is_rsnapshot,
    )


def assess(text: str, *images: DiskImage, answers: Answers | None = None, is_rsnapshot: bool = False) -> Assessment:
    return judge_of(text, *images, answers=answers, is_rsnapshot=is_rsnapshot).judged()


def mended(text: str, answers: Answers | None = None, *, is_rsnapshot: bool = False) -> str:
    """The text with all edits that are proposed for it."""
    found = assess(text, DB, answers=answers, is_rsnapshot=is_rsnapshot)
    return edited(text.encode(), found.findings).decode()


SNAPSHOTS = Answers(kept="snapshots are kept")


@pytest.mark.parametrize(
    ("before", "after", "answers"),
    [
        ("rsync -a /images/ /b\n", "rsync --sparse -a /images/ /b\n", Answers()),
        ("rsync -aS /images/ /b\n", "rsync -aS /images/ /b\n", Answers()),
        ("rsync -a --no-sparse /images/ /b\n", "rsync --sparse -a /images/ /b\n", Answers()),
        ("rsync -a \\\n  --no-sparse \\\n  /images/ /b\n", "rsync --sparse -a \\\n  \\\n  /images/ /b\n", Answers()),
        ("rsync -aS --preallocate /images/ /b\n", "rsync -aS /images/ /b\n", Answers()),
        ("rsync -a --preallocate /images/ /b\n", "rsync --sparse -a /images/ /b\n", Answers()),
        ("rsync -aS --preallocate --inplace /images/ /b\n", "rsync -aS --inplace /images/ /b\n", Answers()),
        (
            "rsync -aS --preallocate --inplace /images/ /b\n",
            "rsync -aS --preallocate --inplace /images/ /b\n",
            Answers((3, 5, 0)),
        ),
        ("rsync -aS --inplace /images/ /b\n", "rsync -aS --inplace /images/ /b\n", Answers((3, 3, 0))),
        ("rsync -aS --inplace /images/ /b\n", "rsync -aS /images/ /b\n", Answers((3, 2, 7))),
        ("rsync -aS --inplace /images/ /b\n", "rsync -aS --inplace /images/ /b\n", Answers(None)),
        ("rsync -aS /images/ /b\n", "rsync --inplace --no-whole-file -aS /images/ /b\n", SNAPSHOTS),
        ("rsync -a /images/ /b\n", "rsync --sparse --inplace --no-whole-file -a /images/ /b\n", SNAPSHOTS),
        ("rsync -aS --inplace /images/ /b\n", "rsync --no-whole-file -aS --inplace /images/ /b\n", SNAPSHOTS),
        (
            "rsync -aS --inplace --whole-file /images/ /b\n",
            "rsync --no-whole-file -aS --inplace /images/ /b\n",
            SNAPSHOTS,
        ),
        ("rsync -aS --link-dest=/o /images/ /b\n", "rsync -aS --link-dest=/o /images/ /b\n", SNAPSHOTS),
        ("rsync -aS /images/ /b\n", "rsync -aS /images/ /b\n", Answers((3, 2, 7), "snapshots are kept")),
        ("rsync -aS /images/ /b\n", "rsync -aS /images/ /b\n", Answers(None, "snapshots are kept")),
        ("rsync -aS --partial-dir=.p /images/ /b\n", "rsync -aS --partial-dir=.p /images/ /b\n", SNAPSHOTS),
        ("rsync -aS --append /images/ /b\n", "rsync -aS --append /images/ /b\n", Answers()),
        ("rsync -a /images/ nas:/b\n", "rsync --sparse -a /images/ nas:/b\n", Answers(None)),
        ("rsync -a --inplace /images/ nas:/b\n", "rsync -a --inplace /images/ nas:/b\n", Answers()),
        ("rsync -a /images/ /dev/vg/x\n", "rsync -a /images/ /dev/vg/x\n", Answers()),
        ("rsync -a /images/ /b/link\n", "rsync -a /images/ /b/link\n", Answers(devices=frozenset({"/b/link"}))),
        ("rsync -a $X /images/ /b\n", "rsync -a $X /images/ /b\n", Answers()),
        ("rsync -a /etc/ /b\n", "rsync -a /etc/ /b\n", Answers()),
        ("rsync -a /images/ /b\necho '\n", "rsync -a /images/ /b\necho '\n", Answers()),
    ],
)
def test_the_options_that_mend_a_job(before: str, after: str, answers: Answers) -> None:
    assert mended(before, answers) == after
    if before != after:
        assert assess(after, DB, answers=answers).findings == []


def test_generations_of_hard_links_are_not_written_through() -> None:
    text = "cp -al /b/1 /b/2\nrsync -aS --inplace /images/ /b/1\n"
    assert mended(text) == text.replace(" --inplace", "")
    text = "rsync -aS --inplace /images/ /b\n"
    assert mended(text, is_rsnapshot=True) == text.replace(" --inplace", "")
    assert mended("rsync -aS /images/ /b\n", SNAPSHOTS, is_rsnapshot=True) == "rsync -aS /images/ /b\n"


@pytest.mark.parametrize(
    ("text", "answers", "words"),
    [
        ("rsync -aS --append /images/ /b\n", Answers(), "--append"),
        ("rsync -a --inplace /images/ nas:/b\n", Answers(), "3.3.0"),
        ("rsync -aS --partial-dir=.p --delay-updates /images/ /b\n", SNAPSHOTS, "--partial-dir and --delay-updates"),
        ("rsync -a --partial-dir=.p /images/ /b\n", SNAPSHOTS, "add --sparse"),
        ("rsync -a --inplace --no-whole-file /images/ /b\n", SNAPSHOTS, "106 MiB"),
        ("rsync -a --inplace --no-whole-file /images/ /b\n", Answers((3, 5, 0), "kept"), "14.5 MiB"),
        ("rsync -aS --inplace --no-whole-file /images/ /b\n", Answers((3, 2, 7), "kept"), "--inplace"),
        ("rsync -aS /images/ /dev/vg/x\n", Answers(), "--sparse"),
        ("o=--inplace\nrsync -aS $o /images/ /b\n", Answers((3, 2, 7)), "take --inplace out"),
        ("rsync -a /images/ /b\necho '\n", Answers(), "cannot be parsed"),
        ("scp /images/db.img nas:/b\n", Answers(), "rsync --sparse"),
    ],
)
def test_a_mend_that_is_left_to_a_person_is_told(text: str, answers: Answers, words: str) -> None:
    found = assess(text, DB, answers=answers)
    finding = next(one for one in found.findings if one.by_hand and words in one.advice)
    assert finding.edits == ()
    assert finding.advice.startswith(str(finding).partition(":")[0])
    assert mended(text, answers) == text


def test_a_copy_without_a_price_to_choose_gets_sparse() -> None:
    text = "rsync -a --inplace --no-whole-file /images/ /b\n"
    assert mended(text, Answers((3, 5, 0))) == text.replace("rsync", "rsync --sparse")


@pytest.mark.parametrize(
    ("text", "is_edited"),
    [
        ('f() { rsync "$@" /images/ /b; }\nf -a\nf -av\n', True),
        ('f() { rsync -a "$1" /images/ /b; }\nf --delete\nf --inplace\n', False),
        ('f() { rsync -a /images/ "$1"; }\nf /b\nf /c\n', True),
        ('f() { rsync -a /images/ "$1"; }\nf /b\nf /dev/vg/x\n', False),
        ('f() { rsync -a "$1" "$2"; }\nf /images/ /b\nf /etc/ /b\n', True),
        ('f() { rsync -a "$1" "$2"; }\nf /images/ /b\nf /etc/ /dev/x\n', False),
    ],
)
def test_a_line_is_edited_if_that_is_right_for_all_that_run_it(text: str, *, is_edited: bool) -> None:
    assert (mended(text, Answers((3, 2, 7))) != text) is is_edited


def test_a_line_that_runs_twice_is_one_finding_and_is_edited_once() -> None:
    text = "for x in 1 2; do rsync -a /images/ /b; done\n"
    assert len(assess(text, DB).findings) == 1
    assert mended(text).count("--sparse") == 1


def test_edits_are_made_from_the_end_and_each_once() -> None:
    first = Finding(1, "a", (LineEdit(5, 5, " --x"), LineEdit(8, 11, "")))
    second = Finding(1, "b", (LineEdit(5, 5, " --x"), LineEdit(5, 5, " --y")))
    assert edited(b"rsync a --b c\n", [first, second]) == b"rsync --x --y a c\n"
    assert edited(b"a\n--b\n", [Finding(1, "x", (LineEdit(2, 5, ""),))]) == b"a\n\n"
    assert edited(b"a\t--b\n", [Finding(1, "x", (LineEdit(2, 5, ""),))]) == b"a\n"
    assert edited(b"a\n", []) == b"a\n"


# Copies of running guests ---------------------------------------------------------------------


def torn(text: str, *images: DiskImage) -> bool:
    return any("while they are written to" in finding.text for finding in assess(text, *images).findings)


@pytest.mark.parametrize(
    ("text", "is_torn"),
    [
        ("rsync -aS /images/ /b\n", True),
        ("rsync -aS /images/db.img /b\n", False),
        ("virsh suspend web\nrsync -aS /images/ /b\n", False),
        ("virsh suspend db\nrsync -aS /images/ /b\n", True),
        ("cp --reflink=always /images/web.qcow2 /b\n", False),
        ("qemu-img convert /images/web.qcow2 /b\n", False),
        ("qemu-img convert -U /images/web.qcow2 /b\n", True),
        ("btrfs subvolume snapshot /images /s\nrsync -aS /s/ /b\n", False),
        ("rsync -aS /images/ /b\nvirsh suspend web\nrsync -aS /images/ /b\n", False),
        ("rsync -aS /images/ /b\nvirsh suspend web\nrsync -aS /images/ /c\n", True),
        ("rsync -aS /images/ /b\nrsync -aS /images/ /b\n", True),
        ("rsync -aSu /images/ /b\nvirsh suspend web\nrsync -aSu /images/ /b\n", True),
        ("rsync -aS --size-only /images/ /b\nvirsh suspend web\nrsync -aS --size-only /images/ /b\n", True),
        ("cp /images/web.qcow2 /b\nvirsh suspend web\ncp /images/web.qcow2 /b\n", False),
        ("cp -u /images/web.qcow2 /b\nvirsh suspend web\ncp -u /images/web.qcow2 /b\n", True),
        ("cp --no-clobber /images/web.qcow2 /b\nvirsh suspend web\ncp --no-clobber /images/web.qcow2 /b\n", True),
        ("tar -cSf /b /images\nvirsh suspend web\ntar -cSf /b /images\n", True),
        ("cp /images/web.qcow2 /b/x\nmv /b/x /c\n", True),
    ],
)
def test_an_image_that_its_guest_writes_to_is_torn(text: str, *, is_torn: bool) -> None:
    assert torn(text) is is_torn


def test_a_torn_copy_names_its_guests_and_no_more_than_three() -> None:
    images = [DiskImage(f"/images/{name}.img", name, name) for name in ("a1", "b2", "c3", "d4")]
    images.append(DiskImage("/images/more.img", "a1", "a1"))
    (finding,) = assess("rsync -aS /images/ /b\n", *images).findings
    assert "(a1, b2, c3)" in finding.text
    assert finding.by_hand


def test_whether_a_guest_holds_still_may_be_a_doubt() -> None:
    found = assess("virsh suspend $X\nrsync -aS /images/ /b\n")
    assert (found.findings, len(found.unclear)) == ([], 1)
    assert "line 1" in found.unclear[0]


@pytest.mark.parametrize(
    ("text", "is_clear"),
    [
        ("for g in $(virsh list --name); do virsh suspend $g; cp /images/$g.img /b; done\n", True),
        ("for g in $(virsh list --name); do cp /images/$g.img /b; done\n", False),
        ("for g in $(virsh list --name); do virsh suspend $g; cp $(virsh domblklist $g) /b; done\n", True),
        ("for g in $(virsh list --name); do cp $(virsh domblklist $g) /b; done\n", False),
    ],
)
def test_a_guest_that_is_not_known_holds_still_or_that_is_a_doubt(text: str, *, is_clear: bool) -> None:
    found = assess(text, DiskImage("/images/one.img", "one", "one"))
    assert found.findings == []
    assert (found.unclear == []) is is_clear


# Which images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "option", "is_copied", "is_in_doubt"),
    [
        ({"/images/db.img": 100}, "--max-size=99", False, False),
        ({"/images/db.img": 100}, "--max-size=100", True, False),
        ({}, "--max-size=100", False, True),
        ({"/images/db.img": 100}, "--max-size=x", False, True),
        ({"/images/db.img": 100}, "", True, False),
    ],
)
def test_an_image_that_is_too_large_is_left_out(
    size: dict[str, int],
    option: str,
    is_copied: bool,  # noqa: FBT001
    is_in_doubt: bool,  # noqa: FBT001
) -> None:
    found = assess(f"rsync -a {option} /images/ /b\n", DB, answers=Answers(sizes=size))
    assert bool(found.findings) is is_copied
    assert bool(found.unclear) is is_in_doubt


@pytest.mark.parametrize(
    ("command", "is_copied"),
    [
        ("rsync -ax /images /b", True),
        ("rsync -ax / /b", False),
        ("rsync -a / /b", True),
        ("cp -ax --sparse=never / /b", False),
        ("rsync -ax /images/db.img /b", True),
    ],
)
def test_images_of_another_filesystem_are_not_reached(command: str, *, is_copied: bool) -> None:
    assert bool(assess(f"{command}\n", DB).findings) is is_copied


@pytest.mark.parametrize(
    ("command", "is_copied"),
    [
        ("rsync -a /now/ /b", True),
        ("rsync -a /now/db.img /b", True),
        ("rsync -a /now /b", False),
        ("cp --sparse=never /now/db.img /b", True),
        ("cp --sparse=never /disk /b", True),
        ("rsync -a /disk /b", False),
        ("scp /disk nas:/b", True),
        ("rsync -a /now/*.img /b", False),
    ],
)
def test_symbolic_links_on_the_way_are_followed(command: str, *, is_copied: bool) -> None:
    links = {"/now": "/images", "/disk": "/images/db.img"}
    assert bool(assess(f"{command}\n", DB, answers=Answers(links=links)).findings) is is_copied


def test_a_copy_that_is_moved_is_no_move_of_an_image() -> None:
    found = assess("cp /images/db.img /b/x\nmv /b/x /c\n", DB)
    assert (found.findings, found.unclear) == ([], [])
    assert assess("mv /images/db.img /c\n", DB).unclear != []


def test_a_copy_that_the_job_copies_on_is_judged_there() -> None:
    copy = "virsh blockcopy db vda /b/db.img --wait --finish\n"
    assert assess(copy, DB).unclear != []
    assert assess(f"{copy}rsync -aS /b/db.img nas:/b\n", DB).unclear == []
    assert assess(f"{copy}true && rsync -aS /b/db.img nas:/b\n", DB).unclear != []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rsync -a --exclude-from=/r / /b\n", "filter rules"),
        ("tar -cf /b -X /r /\n", "exclusions"),
        ("cp $X /b\n", "cp"),
        ("btrfs send /etc\n", "btrfs send"),
        ("borg create repo::now /images\n", "borg"),
        ("rsync -a $X /images/ /b\n", "put together"),
        ("acme\n", "acme"),
    ],
)
def test_what_cannot_be_told_is_a_doubt(text: str, words: str) -> None:
    found = assess(text, DB)
    assert [one for one in found.unclear if words in one] != []


def test_doubts_are_kept_once_and_not_without_end() -> None:
    found = Assessment()
    for number in range(200):
        found.doubt(f"doubt {number % 100}\x1b")
    assert len(found.unclear) == 50
    assert len(set(found.unclear)) == 50
    assert all(text.isprintable() for text in found.unclear)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("rsync -aS /images/db.img /b\n", "--sparse"),
        ("rsync -aS --inplace --no-whole-file /images/db.img /b\n", "--sparse --inplace --no-whole-file"),
        ("qemu-img convert /images/db.img /b\n", "qemu-img convert"),
        ("rsync -a /images/db.img /dev/vg/x\n", "device"),
        ("cp /images/db.img /b\n", "holes"),
    ],
)
def test_a_copy_in_order_is_praised(text: str, good: str) -> None:
    found = assess(text, DB)
    assert (found.findings, found.unclear) == ([], [])
    (told,) = found.good
    assert told.startswith("line 1")
    assert good in told


@pytest.mark.parametrize("text", ["rsync -aS /etc/ /b\n", "cp /etc/x /b\n", "echo x\n"])
def test_a_job_that_copies_no_image_has_nothing_to_praise(text: str) -> None:
    found = assess(text, DB)
    assert (found.findings, found.unclear, found.good) == ([], [], [])


def test_the_version_of_another_rsync_is_not_asked_for() -> None:
    for text, asked in (
        ("/usr/bin/rsync -aS /images/ /b\n", ["/usr/bin/rsync"]),
        ("PATH=/opt/bin; rsync -aS /images/ /b\n", []),
        ("rsync -aS /images/ nas:/b\n", []),
    ):
        answers = Answers()
        assess(text, DB, answers=answers)
        assert answers.asked == asked


def test_a_finding_names_its_place() -> None:
    assert str(Finding(3, "x")).startswith("line 3:")
    assert str(Finding(3, "x", where="/opt/x line 9")).startswith("/opt/x line 9:")
    assert Finding(3, "x", by_hand="do").advice == "line 3: do"


# Trims before copies --------------------------------------------------------------------------


def untrimmed(text: str) -> tuple[list[str], list[str], bool]:
    """The guests that are copied before a trim, those that are trimmed, and whether there are doubts."""
    found = judge_of(text).untrimmed(NAMES)
    return [guest for guest, _ in found.copies], found.trimmed, bool(found.doubts)


@pytest.mark.parametrize(
    ("text", "copied", "trimmed", "in_doubt"),
    [
        ("cp /images/web.qcow2 /b\n", ["web"], [], False),
        ("cp /images/db.img /b\n", [], [], False),
        ("virsh domfstrim web\ncp /images/web.qcow2 /b\n", [], ["web"], False),
        ("virsh domfstrim uuid-of-web\ncp /images/web.qcow2 /b\n", [], ["web"], False),
        ("virsh domfstrim db\ncp /images/web.qcow2 /b\n", ["web"], [], False),
        ("cp /images/web.qcow2 /b\nvirsh domfstrim web\n", ["web"], [], False),
        ("cp /images/web.qcow2 /b\ncp /images/web.qcow2 /c\n", ["web", "web"], [], False),
        ("for x in 1 2; do cp /images/web.qcow2 /b; done\n", ["web"], [], False),
        ("virsh domfstrim other\ncp /images/web.qcow2 /b\n", ["web"], [], True),
        ("test -e /x && virsh domfstrim web\ncp /images/web.qcow2 /b\n", [], [], True),
        ("virsh suspend web\nvirsh domfstrim web\ncp /images/web.qcow2 /b\n", ["web"], [], False),
        ("virsh suspend web\nvirsh resume web\nvirsh domfstrim web\ncp /images/web.qcow2 /b\n", [], ["web"], False),
        ("virsh suspend db\nvirsh domfstrim web\ncp /images/web.qcow2 /b\n", [], ["web"], False),
        ("true && virsh suspend web\nvirsh domfstrim web\ncp /images/web.qcow2 /b\n", [], ["web"], False),
        ("virsh blockcommit web vda\nvirsh domfstrim web\ncp /images/web.qcow2 /b\n", [], ["web"], False),
        ("systemctl stop libvirt-guests\nvirsh domfstrim web\ncp /images/web.qcow2 /b\n", [], ["web"], False),
        ("virsh suspend web\nsystemctl start libvirt-guests\nvirsh domfstrim web\ncp /images/web.qcow2 /b\n",
         [], ["web"], False),
        ("acme\ncp /images/web.qcow2 /b\n", ["web"], [], True),
        ("cp $X /b\n", [], [], True),
        ("btrfs subvolume snapshot /images /s\ncp /s/web.qcow2 /b\n", ["web"], [], False),
    ],
)  # fmt: skip
def test_guests_that_are_copied_before_they_give_back_what_they_freed(
    text: str,
    copied: list[str],
    trimmed: list[str],
    in_doubt: bool,  # noqa: FBT001
) -> None:
    assert untrimmed(text) == (copied, trimmed, in_doubt)
