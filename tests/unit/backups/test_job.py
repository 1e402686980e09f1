"""backup-job on jobs as people write them: tests/unit/backups/jobs, with the answers in expected.tsv.

Its columns: verdict (a|b: either will do), an expression that the reason or the evidence has to match, the lines that
--fix changes, the version that rsync tells, and whether the target keeps snapshots. The guests: web and shop run, db
and mail are off; mail lies on a logical volume.
"""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest

from reclaim.backups.job import declared
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject
from reclaim.inventory import BackupNotes
from tests.jobs import JOBS, declared_job, hypervisor, judged, rsync, says_version
from tests.support import disk_xml, domain_xml, engine, opened, requirement

__all__ = ["rsync"]

with (JOBS / "expected.tsv").open(encoding="utf-8") as _table:
    ROWS = list(csv.DictReader(_table, delimiter="\t", quoting=csv.QUOTE_NONE))


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


def test_an_image_behind_a_link_is_known_by_both_paths(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    (tmp_path / "pool").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "pool")
    path = tmp_path / "job.sh"
    path.write_text(f"#!/bin/sh\nrsync -aS {tmp_path}/pool/ /backup/\n")
    domain = domain_xml(disk_xml(source=f"{tmp_path}/images/web.qcow2"), name="web")
    (one,) = declared(opened(tmp_path, domain), [BackupNotes(job=path)])
    assert "running guests while they are written to (web)" in judged(one).reason


@pytest.mark.parametrize(
    ("content", "verdict", "words"),
    [
        (None, Verdict.ERROR, "no such file"),
        (b"\x7fELF\0\0", Verdict.NOT_ASSESSABLE, "a program"),
        (b"#" * 600_000, Verdict.NOT_ASSESSABLE, "more than 524288 bytes"),
        (b"#!/bin/sh\nrsync -a \xff\xfe /srv/images/ /b\n", Verdict.NONCOMPLIANT, "without --sparse"),
        (b"", Verdict.NOT_ASSESSABLE, "no command in it"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, content: bytes | None, verdict: Verdict, words: str) -> None:
    path = tmp_path / 'it\'s a "job".sh'
    if content is not None:
        path.write_bytes(content)
    owner = hypervisor(tmp_path)
    found = judged(declared(owner, [BackupNotes(job=path)])[0])
    assert found.verdict is verdict
    assert words in found.reason
    assert "\n" not in found.reason


def test_a_job_declared_twice_is_judged_once(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path)
    path = tmp_path / "backup.sh"
    both = [BackupNotes(job=path, images=["/a.img"]), BackupNotes(job=path, images=["/b.img"])]
    (one,) = declared(owner, both)
    assert [notes.images for notes in one.notes] == [["/a.img"], ["/b.img"]]
