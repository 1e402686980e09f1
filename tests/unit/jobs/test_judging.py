"""From the steps of a job to its verdict: faults, the edits that mend them, and doubts."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.backups.job import declared
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject
from reclaim.inventory import BackupNotes
from tests.jobs import IMAGE, IMAGES, declared_job, job, judged, rsync, says_version
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
