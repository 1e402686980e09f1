"""Backups in a whole run: `--backups`, `[[backup]]`, rows, journal, undo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.command import Outcome, audit, reclaim
from tests.support import disk_xml, domain_xml, node

MIB = 1024 * 1024
REFUSED = 4


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return node(
        tmp_path,
        domain_xml(disk_xml(source="/srv/web.img"), name="web", running=False),
        domain_xml(disk_xml(source="/srv/db.img"), name="db", running=False),
    )


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A copy of web's disk, made without holes; one of nobody's; none of db's."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("web.img", "stranger.img"):
        (folder / name).write_bytes(os.urandom(MIB) + bytes(31 * MIB))
    (folder / "notes.txt").write_text("no image")
    return folder


def rows(outcome: Outcome, requirement: str) -> list[tuple[str | None, str | None, str | None, str]]:
    return [
        (row["guest"], row["disk"], row["backup"], row["verdict"])
        for row in outcome.document["results"]
        if row["requirement"] == requirement
    ]


def test_copies_in_a_folder_are_judged_planned_mended_and_undone(tmp_path: Path, uri: str, copies: Path) -> None:
    web, stranger = copies / "web.img", copies / "stranger.img"
    before = web.stat()
    outcome = audit(tmp_path / "audit", "--backups", str(copies), uri=uri)
    assert outcome.status == 1
    expected = [
        ("db", "vda", None, "not-assessable"),
        ("web", "vda", str(web), "noncompliant"),
        (None, None, str(stranger), "noncompliant"),
    ]
    assert rows(outcome, "sparse-backup") == expected
    assert f"no copy of it was found in {copies}" in outcome.stdout
    assert rows(outcome, "backup-job") == []
    planned = audit(tmp_path / "plan", "--backups", str(copies), "--plan", "-k", "sparse_backup", uri=uri)
    assert rows(planned, "sparse-backup") == expected
    assert f"punch holes into the zeros of {web}: 31.0 MiB come back" in planned.stdout
    assert web.stat() == before
    fixed = audit(tmp_path / "fix", "--backups", str(copies), "--fix", "-k", "sparse_backup", uri=uri)
    assert fixed.status == 6, "a copy could not be assessed"
    assert [row[3] for row in rows(fixed, "sparse-backup")] == ["not-assessable", "fixed", "fixed"]
    assert web.stat().st_blocks * 512 < 2 * MIB
    assert fixed.document["reclaimed_bytes"] == 2 * 31 * MIB
    assert f"freed in this run: 62.0 MiB ({2 * 31 * MIB} bytes)" in fixed.stdout
    again = audit(tmp_path / "again", "--backups", str(copies), "--fix", "-k", "sparse_backup", uri=uri)
    assert [row[3] for row in rows(again, "sparse-backup")] == ["not-assessable", "compliant", "compliant"]
    assert not (again.folder / "journal.jsonl").exists()
    undone = reclaim("undo", fixed.folder)
    assert undone.returncode == 0
    assert undone.stdout.count("the holes stay: its content is the same") == 2


def test_guests_chooses_copies_too(tmp_path: Path, uri: str, copies: Path) -> None:
    outcome = audit(tmp_path / "reports", "--backups", str(copies), "--guests", "db", uri=uri)
    assert rows(outcome, "sparse-backup") == [("db", "vda", None, "not-assessable")]


def test_the_inventory_declares_copies_and_jobs(tmp_path: Path, uri: str, copies: Path) -> None:
    script = tmp_path / "backup.sh"
    script.write_text("#!/bin/sh\nrsync -a /srv/ /backup/\n")
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(
        f'[[backup]]\npath = "{copies}"\nguests = ["web"]\njob = "{script}"\n\n'
        '[guest.db.waive]\nsparse-backup = "it is backed up from within"\n'
    )
    outcome = audit(tmp_path / "reports", "--inventory", str(inventory), "--fix", "-k", "backup", uri=uri)
    assert outcome.status == 0
    assert rows(outcome, "backup-job") == [(None, None, str(script), "fixed")]
    assert ("db", "vda", None, "waived") in rows(outcome, "sparse-backup")
    assert script.read_text() == "#!/bin/sh\nrsync --sparse -a /srv/ /backup/\n"
    assert reclaim("undo", outcome.folder).returncode == 0
    assert script.read_text() == "#!/bin/sh\nrsync -a /srv/ /backup/\n"


def test_without_declared_backups_there_is_no_noise(tmp_path: Path, uri: str) -> None:
    outcome = audit(tmp_path / "reports", uri=uri)
    assert rows(outcome, "sparse-backup") == []
    assert rows(outcome, "backup-job") == []
    line = "reclaim: no backups are declared, so none is judged (--backups DIR, or [[backup]])"
    assert [one for one in outcome.lines if "backups are" in one] == [line]


def test_collect_only_names_copies(tmp_path: Path, uri: str, copies: Path) -> None:
    outcome = audit(tmp_path / "reports", "--backups", str(copies), "--co", "-q", "-k", "sparse_backup", uri=uri)
    assert f"checks/check_sparse_backup.py::check_sparse_backup[web/vda{copies}/web.img]" in outcome.lines


def test_a_hostile_name_is_shown_and_obeyed_by_nobody(tmp_path: Path, uri: str, copies: Path) -> None:
    hostile = copies / "a\x1b[31m<img src=x onerror=alert(1)>\n.img"
    (copies / "web.img").rename(hostile)
    outcome = audit(tmp_path / "reports", "--backups", str(copies), "--fix", "-k", "sparse_backup", uri=uri)
    assert outcome.status == 6
    assert "\x1b" not in outcome.said
    assert hostile.stat().st_blocks * 512 < 2 * MIB
    assert "<img src=x" not in (outcome.folder / "report.html").read_text()


def test_a_name_that_is_no_utf8(tmp_path: Path, uri: str, copies: Path) -> None:
    strange = os.fsencode(copies) + b"/\xff\xfe.img"
    os.rename(copies / "web.img", strange)  # noqa: PTH104
    outcome = audit(tmp_path / "reports", "--backups", str(copies), "--fix", "-k", "sparse_backup", uri=uri)
    assert outcome.status == 6
    assert os.stat(strange).st_blocks * 512 < 2 * MIB  # noqa: PTH116


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[backup]]\n", "give path"),
        ('[[backup]]\npath = "copies"\n', "absolute path"),
        ('[[backup]]\npath = "/b"\nkind = "x"\n', "line 3 ([[backup]].kind): there is no such key"),
        ('[backup]\npath = "/b"\n', "backup"),
    ],
)
def test_an_inventory_that_says_something_impossible(tmp_path: Path, uri: str, text: str, words: str) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(text)
    outcome = audit(tmp_path / "reports", "--inventory", str(inventory), uri=uri)
    assert outcome.status == REFUSED
    assert words in outcome.stderr
    assert "Traceback" not in outcome.said


def test_a_folder_that_is_not_there(tmp_path: Path, uri: str) -> None:
    outcome = audit(tmp_path / "reports", "--backups", str(tmp_path / "gone"), uri=uri)
    assert outcome.status == REFUSED
    assert f"--backups {tmp_path}/gone: No such file or directory" in outcome.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("web.qcow2.gz", "compressed by gzip, no image"),
        ("web-20261128.img.zst", "compressed by zstd, no image"),
        ("web.vma.zst", "a Proxmox archive (vma), no image"),
        ("web/vda.full.data", "a backup by virtnbdbackup, no image"),
    ],
)
def test_a_compressed_copy_is_there_and_said_why_it_is_not_judged(tmp_path: Path, name: str, words: str) -> None:
    copies = tmp_path / "copies"
    (copies / name).parent.mkdir(parents=True)
    (copies / name).write_bytes(b"\x1f\x8b" + bytes(4096))
    uri = node(tmp_path, domain_xml(disk_xml(), name="web"))
    outcome = audit(tmp_path / "audit", "--backups", str(copies), uri=uri)
    found = [row for row in outcome.document["results"] if row["requirement"] == "sparse-backup"]
    assert [(row["guest"], row["verdict"]) for row in found] == [("web", "not-assessable")]
    assert words in found[0]["reason"]


def test_an_archive_of_anything_is_no_copy(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "web.tar.gz").write_bytes(b"\x1f\x8b" + bytes(4096))
    uri = node(tmp_path, domain_xml(disk_xml(), name="web"))
    outcome = audit(tmp_path / "audit", "--backups", str(copies), uri=uri)
    found = [row for row in outcome.document["results"] if row["requirement"] == "sparse-backup"]
    assert [row["backup"] for row in found] == [None]
    assert "no copy of it was found" in found[0]["reason"]
