"""backup-job on jobs as people write them: tests/unit/backups/jobs, with the answers in expected.tsv.

Its columns: verdict (a|b: either will do), an expression that the reason or the evidence has to match, the lines that
--fix changes, the version that rsync tells, and whether the target keeps snapshots. The guests: web and shop run, db
and mail are off; mail lies on a logical volume.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reclaim.backups.job import Job, declared
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject
from reclaim.inventory import BackupNotes
from tests.support import disk_xml, domain_xml, engine, opened, requirement, uuid_of
from tests.unit.requirements.test_backup_job import judged, says_version

JOBS = Path(__file__).parent / "jobs"
with (JOBS / "expected.tsv").open(encoding="utf-8") as _table:
    ROWS = list(csv.DictReader(_table, delimiter="\t", quoting=csv.QUOTE_NONE))
IMAGES = "/var/lib/libvirt/images"
VOLUME = (
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vgvm/mail'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)
DOMAINS = (
    domain_xml(disk_xml(source=f"{IMAGES}/web.qcow2"), name="web"),
    domain_xml(
        disk_xml("vda", source="/srv/vm/shop.qcow2"), disk_xml("vdb", source="/srv/vm/shop-data.img"), name="shop"
    ),
    domain_xml(disk_xml(source=f"{IMAGES}/db.img"), name="db", running=False),
    domain_xml(VOLUME, name="mail", running=False),
)


@pytest.fixture(autouse=True)
def rsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which an rsync tells a version and does nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin")
    return folder / "rsync"


def declared_job(folder: Path, name: str, snapshots: str = "-", text: str | None = None) -> Job:
    path = folder / "jobs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        shutil.copyfile(JOBS / name, path)
    else:
        path.write_text(text)
    notes = {"job": path} if snapshots == "-" else {"job": path, "snapshots": snapshots == "true"}
    (one,) = declared(opened(folder, *DOMAINS), [BackupNotes.model_validate(notes)])
    return one


def options(line: str) -> list[str]:
    return line.split()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["job"])
def test_a_job_is_judged_and_mended_as_the_table_says(row: dict[str, str], tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, row["rsync"])
    one = declared_job(tmp_path, row["job"], row["snapshots"])
    found = judged(one)
    said = (found.reason or found.evidence).replace(one.path, "")
    assert found.verdict.value in row["verdict"].split("|"), said
    assert row["says"] == "-" or re.search(row["says"], said), said

    before = Path(one.path).read_bytes().decode().splitlines(keepends=True)
    if found.verdict is Verdict.NONCOMPLIANT:
        engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    after = Path(one.path).read_bytes().decode().splitlines(keepends=True)
    assert len(before) == len(after)
    changed = [number for number, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] != pair[1]]
    wanted = [] if row["edited"] == "-" else list(map(int, row["edited"].split(",")))
    assert not set(wanted) - set(changed)
    assert bool(wanted) == bool(changed)
    for number in changed:
        old, new = options(before[number - 1]), options(after[number - 1])
        assert [one for one in new if one not in ("--sparse", "--inplace", "--no-whole-file")] == [
            one for one in old if one not in ("--inplace", "--preallocate", "--no-sparse", "--whole-file")
        ]
    if changed and one.path.endswith(".sh"):
        assert subprocess.run(["bash", "-O", "extglob", "-n", one.path], check=False).returncode == 0


def test_every_job_is_in_the_table_once() -> None:
    names = sorted(row["job"] for row in ROWS)
    files = sorted(str(path.relative_to(JOBS)) for path in JOBS.rglob("*") if path.is_file())
    assert names == [one for one in files if one != "expected.tsv"]


# What is a mend only as a whole -----------------------------------------------------------------


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


# One step into what is started ------------------------------------------------------------------


def test_a_script_that_cron_starts_is_read_and_not_edited(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    script = tmp_path / "copy-images"
    script.write_text(f'#!/bin/bash\n. {tmp_path}/settings\nrsync -a "$FROM/" "$1/"\n')
    (tmp_path / "settings").write_text(f"FROM={IMAGES}\n")
    one = declared_job(tmp_path, "cron.d/copies", text=f"0 3 * * * root {script} /backup\n")
    result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"{script} line 3: rsync without --sparse" in result.reason
    assert result.changes == []
    assert "--sparse" not in script.read_text()


def test_scripts_that_run_one_another_come_to_an_end(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    first, second = tmp_path / "first.sh", tmp_path / "second.sh"
    first.write_text(f"#!/bin/sh\n{second}\n")
    second.write_text(f"#!/bin/sh\n{first}\n")
    one = declared_job(tmp_path, "job.sh", text=f"#!/bin/sh\n{first}\n")
    found = judged(one)
    assert found.verdict is Verdict.NOT_ASSESSABLE
    assert "run one another too deep" in found.reason


def test_only_a_regular_text_is_read(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\0\0")
    for name, words in (
        (str(program), "a program"),
        ("/dev/zero", "a character device"),
        (str(tmp_path), "not a file"),
    ):
        one = declared_job(tmp_path, "job.sh", text=f"#!/bin/sh\nbash {name}\n")
        assert words in judged(one).reason


# Other filesystems ------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "command",
    [f"cat {IMAGES}/web.qcow2 >/dev/null", f"pv {IMAGES}/web.qcow2 | sha256sum", f"dd if={IMAGES}/db.img of=/dev/null"],
)
def test_what_is_only_read_is_not_copied(tmp_path: Path, rsync: Path, command: str) -> None:
    says_version(rsync, "3.4.1")
    assert "no command in it copies" in judged(declared_job(tmp_path, "job.sh", text=f"#!/bin/sh\n{command}\n")).reason


def test_an_image_behind_a_link_is_known_by_both_paths(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    (tmp_path / "pool").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "pool")
    path = tmp_path / "job.sh"
    path.write_text(f"#!/bin/sh\nrsync -aS {tmp_path}/pool/ /backup/\n")
    domain = domain_xml(disk_xml(source=f"{tmp_path}/images/web.qcow2"), name="web")
    (one,) = declared(opened(tmp_path, domain), [BackupNotes(job=path)])
    assert "running guests while they are written to (web)" in judged(one).reason


# Odd and hostile texts --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000 + ")" * 100_000,
        "echo " + "$(" * 30_000 + ")" * 30_000,
        "a && " * 50_000 + "b\n",
        "x=aaaaaaaaaaaaaaaa\n" + "x=$x$x\n" * 10_000,
        "a=(" + "w " * 500 + ")\n" + 'cp "${a[@]}" /b\n' * 3000,
        "".join(f"for v{n} in {'w ' * 40}; do " for n in range(8)) + "cp /a /b; " + "done; " * 8,
        "".join(f"f{n}() {{ f{n + 1}; f{n + 1}; }}\n" for n in range(500)) + "f0\n",
        "f() { f; }\nf\n",
        'rsync() { command rsync "$@"; }\nrsync -a IMG/ /b\n',
        "cp /" + "*a" * 5000 + " /b\n",
        "cp /v$a/$b/$c/$d/$e/$f/$g/i /b\n" * 500,
        "for x in a; do\n" + "b && continue\ncp /x /y\n" * 5000 + "done\n",
        "\n" * 200_000,
        "if\n" + "!(a)" * 2000,
        "\U000f0000\U000f0001 -a \ufffd\n",
        "trap 'trap \"x\" EXIT' EXIT\neval 'eval \"eval a\"'\nset --\nshift 99999\n. \n$\n`\n",
        "rsync\ncp\ntar\ndd\nvirsh\nlvcreate -s\nbtrfs send\nmount\nmv\nssh\nfind -exec\nxargs\n",
        "screen\nsu -c\nborg create\n",
        "rsync --exclude\nrsync -e\ntar -f\ntar c -C\nvirsh --domain\nvirsh -c\ndd if\nqemu-img convert\n",
        "cp -t\nssh -p\n",
    ],
)  # fmt: skip
def test_odd_texts_are_read_to_an_end(tmp_path: Path, rsync: Path, text: str) -> None:
    says_version(rsync, "3.4.1")
    one = declared_job(tmp_path, "job.sh", text="#!/bin/bash\n" + text.replace("IMG", IMAGES))
    assert judged(one).verdict in (Verdict.NOT_ASSESSABLE, Verdict.NONCOMPLIANT)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 20_000, "- " * 20_000, "a: &a [x]\nb: *a\n", "a: !!python/object:x {}\n", "\0"])
def test_odd_yaml_is_read_to_an_end(tmp_path: Path, rsync: Path, text: str) -> None:
    one = declared_job(tmp_path, "job.yaml", text=text)
    assert judged(one).verdict is Verdict.NOT_ASSESSABLE


def test_a_guest_is_known_by_its_uuid(tmp_path: Path) -> None:
    text = f"virsh suspend {uuid_of('web')}\nrsync -aS {IMAGES}/web.qcow2 /backup/\n"
    found = judged(declared_job(tmp_path, "by-uuid.sh", text=text))
    assert found.verdict is Verdict.COMPLIANT, found.reason
