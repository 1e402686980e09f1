"""The index of the archive, and its pruning."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.changes.trim import Trim
from reclaim.engine.journal import Journal
from reclaim.record import record
from reclaim.report import archive
from reclaim.report.archive import prune, update
from reclaim.report.archived import IndexState
from tests import records
from tests.records import EPOCH, GIB, document, row, storage


def day(number: int, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The document of the run on one day."""
    return document(rows or [row("disk-bus", "compliant", "a", "sda")], started=EPOCH + timedelta(days=number), **more)


def bus(verdict: str, guest: str = "a") -> dict[str, Any]:
    return row("disk-bus", verdict, guest, "sda")


def state(reports: Path) -> IndexState:
    return IndexState.model_validate_json((reports / ".index.json").read_bytes())


def changes(reports: Path) -> list[dict[str, int]]:
    """What changed in each run, the oldest first."""
    runs = sorted(state(reports).runs.items())
    return [entry.delta.counts for _, entry in runs if entry.delta is not None]


def index(reports: Path) -> str:
    return (reports / "index.html").read_text(encoding="utf-8")


def test_what_changed_since_the_run_before(tmp_path: Path) -> None:
    for number, rows in enumerate(
        [
            [bus("noncompliant"), bus("compliant", "b")],
            [bus("compliant"), bus("noncompliant", "b")],
            [bus("compliant"), bus("compliant", "c")],
        ]
    ):
        records.archive(tmp_path, day(number, *rows))
        update(tmp_path)
    assert changes(tmp_path) == [{}, {"newly broken": 1, "newly mended": 1}, {"gone": 1, "new guests": 1}]
    text = index(tmp_path)
    assert text.index("2026-01-03") < text.index("2026-01-02") < text.index("2026-01-01")
    assert "b sda disk-bus: compliant → noncompliant" in text


def test_one_by_one_and_at_once_come_to_the_same(tmp_path: Path) -> None:
    verdicts = ["noncompliant", "compliant", "compliant", "noncompliant", "fixed", "not-assessable"]
    once, apart = tmp_path / "once", tmp_path / "apart"
    for number, verdict in enumerate(verdicts):
        for reports in (once, apart):
            folder = records.archive(reports, day(number, bus(verdict), mode="fix"))
            os.utime(folder / record.NAME, (number, number))
        update(apart)
    update(once)
    assert index(once) == index(apart)
    assert state(once) == state(apart)


def test_a_run_that_comes_late_is_put_where_it_belongs(tmp_path: Path) -> None:
    records.archive(tmp_path, day(0, bus("compliant")))
    records.archive(tmp_path, day(2, bus("compliant")))
    update(tmp_path)
    assert changes(tmp_path) == [{}, {}]
    records.archive(tmp_path, day(1, bus("noncompliant")))
    update(tmp_path)
    assert changes(tmp_path) == [{}, {"newly broken": 1}, {"newly mended": 1}]


def test_a_new_run_reads_no_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        records.archive(tmp_path, day(number))
    update(tmp_path)
    records.archive(tmp_path, day(30))
    read: list[Path] = []
    honest = record.read

    def counted(run: Path) -> record.Record:
        read.append(run)
        return honest(run)

    monkeypatch.setattr(record, "read", counted)
    update(tmp_path)
    assert {path.name for path in read} == {"20260131T000000Z-audit", "20260130T000000Z-audit"}


def test_behind_a_narrow_run_the_one_before_it_is_looked_at(tmp_path: Path) -> None:
    records.archive(tmp_path, day(0, bus("compliant"), bus("compliant", "b")))
    records.archive(tmp_path, day(1, bus("fixed"), arguments=["checks/", "--guests", "a", "--fix"]))
    records.archive(tmp_path, day(2, bus("compliant"), bus("noncompliant", "b")))
    update(tmp_path)
    assert changes(tmp_path) == [{}, {"newly mended": 1}, {"newly broken": 1}]


def test_sample_definitions_are_not_held_against_others_of_the_same_name(tmp_path: Path) -> None:
    for number, uri in enumerate(["test:///one.xml", "test:///two.xml"]):
        one = day(number, bus("compliant", f"guest {number}"))
        one["hypervisor"]["uri"] = uri
        records.archive(tmp_path, one)
    update(tmp_path)
    assert changes(tmp_path) == [{}, {}]


def test_hypervisors_are_not_held_against_each_other(tmp_path: Path) -> None:
    records.archive(tmp_path, day(0, bus("noncompliant"), hypervisor="kvm1"))
    records.archive(tmp_path, day(1, bus("compliant", "b"), hypervisor="kvm2"))
    update(tmp_path)
    assert changes(tmp_path) == [{}, {}]


@pytest.mark.parametrize("torn", ["", "{", '{"schema": 1', "[]", '{"schema": 7}', "\x00\xff"])
def test_a_half_written_run_breaks_nothing(tmp_path: Path, torn: str) -> None:
    records.archive(tmp_path, day(0, bus("compliant")))
    bad = tmp_path / "kvm1/20260102T000000Z-audit"
    bad.mkdir()
    (bad / "results.json").write_text(torn, encoding="latin-1")
    (tmp_path / "kvm1/20260103T000000Z-fix").mkdir()
    (tmp_path / "kvm1/notes.txt").write_text("mine", encoding="ascii")
    (tmp_path / "kvm1/latest").symlink_to("20260102T000000Z-audit")
    records.archive(tmp_path, day(4, bus("noncompliant")))
    update(tmp_path)
    assert "could not be read" in index(tmp_path)
    assert "1 without a record" in index(tmp_path)
    assert changes(tmp_path) == [{}, {"newly broken": 1}]
    (bad / "results.json").write_text(json.dumps(day(1, bus("noncompliant"))), encoding="utf-8")
    update(tmp_path)
    assert "could not be read" not in index(tmp_path)
    assert changes(tmp_path) == [{}, {"newly broken": 1}, {}]


@pytest.mark.parametrize(
    "damage", ["", "{", '{"version": 2}', '{"version": 4}', '{"version": 1, "runs": {"x": {}}}', "\x00"]
)
def test_a_damaged_memory_is_made_again(tmp_path: Path, damage: str) -> None:
    records.archive(tmp_path, day(0, bus("noncompliant")))
    records.archive(tmp_path, day(1, bus("compliant")))
    update(tmp_path)
    before = index(tmp_path)
    (tmp_path / ".index.json").write_text(damage, encoding="ascii")
    update(tmp_path)
    assert index(tmp_path) == before


def test_a_removed_run_leaves_the_index(tmp_path: Path) -> None:
    gone = records.archive(tmp_path, day(0))
    records.archive(tmp_path, day(1))
    update(tmp_path)
    (gone / "results.json").unlink()
    gone.rmdir()
    update(tmp_path)
    assert "2026-01-01" not in index(tmp_path)


def test_bytes_are_drawn_over_time(tmp_path: Path) -> None:
    for number, held in enumerate([8, 6, 2]):
        disk = storage("a", allocated_before=held * GIB, allocated_after=held * GIB)
        records.archive(tmp_path, day(number, bus("compliant"), disks=[disk]))
    update(tmp_path)
    assert "8.0 GiB at first, 2.0 GiB now, in 3 runs" in index(tmp_path)
    assert 'points="2.0,2.0 60.0,7.0 118.0,17.0"' in index(tmp_path)


def test_only_the_newest_runs_keep_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_DRAWN", 2)
    for number in range(4):
        disk = storage("a", allocated_before=GIB, allocated_after=GIB)
        records.archive(tmp_path, day(number, bus("compliant"), disks=[disk]))
        update(tmp_path)
    kept = [entry.allocated for _, entry in sorted(state(tmp_path).runs.items())]
    assert kept == [None, None, {"a": GIB}, {"a": GIB}]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    tag = "<script>alert(1)</script>"
    records.archive(tmp_path, day(0, bus("compliant", tag), disks=[storage(tag)]))
    records.archive(tmp_path, day(1, bus("noncompliant", tag), disks=[storage(tag)]))
    update(tmp_path)
    assert tag not in index(tmp_path)
    assert index(tmp_path).count("<script") == 1, "our own"
    assert "&lt;script&gt;" in index(tmp_path)


def _add(reports: Path, number: int) -> None:
    records.archive(reports, day(number))
    update(reports)


def test_runs_that_end_at_once_are_all_in_the_index(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add, args=(tmp_path, number)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 6
    assert len(state(tmp_path).runs) == 6
    assert "6 runs" in index(tmp_path)


# Pruning --------------------------------------------------------------------------------------


def names(reports: Path) -> list[str]:
    return sorted(path.name for path in reports.glob("*/*"))


def test_the_newest_runs_of_each_hypervisor_are_kept(tmp_path: Path) -> None:
    for number in range(4):
        records.archive(tmp_path, day(number, hypervisor="kvm1"))
    records.archive(tmp_path, day(0, hypervisor="kvm2"))
    update(tmp_path, keep=2)
    assert sorted(state(tmp_path).runs) == [
        "kvm1/20260103T000000Z-audit",
        "kvm1/20260104T000000Z-audit",
        "kvm2/20260101T000000Z-audit",
    ]
    assert not (tmp_path / "kvm1/20260101T000000Z-audit").exists()


def test_of_runs_of_one_second_the_latest_is_kept(tmp_path: Path) -> None:
    first = records.archive(tmp_path, day(0))
    for number in range(2, 12):
        shutil.copytree(first, first.with_name(f"{first.name}-{number}"))
    assert len(prune(tmp_path, 2)) == 9
    assert names(tmp_path) == [f"{first.name}-10", f"{first.name}-11"]
    shutil.copytree(tmp_path / "kvm1" / f"{first.name}-10", tmp_path / "kvm1/20260101T000000Z-fix")
    (tmp_path / "kvm1/latest").symlink_to(f"{first.name}-11")
    prune(tmp_path, 1)
    assert names(tmp_path) == [f"{first.name}-11", "latest"]


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [("done", True), ("died", True), ("undone", False), ("failed", False)],
)
def test_a_run_that_can_be_taken_back_is_kept(tmp_path: Path, outcome: str, kept: bool) -> None:  # noqa: FBT001
    folder = records.archive(tmp_path, day(0, mode="fix"))
    book = Journal(folder / "journal.jsonl", "qemu:///system", "fix")
    seq = book.intend("a", "uuid", "trim-backlog", Trim("a"))
    if outcome in ("done", "undone"):
        book.done(seq, {})
    if outcome == "undone":
        book.undone(seq, "taken back")
    if outcome == "failed":
        book.failed(seq, "no")
    records.archive(tmp_path, day(1))
    assert [path.name for path in prune(tmp_path, 1)] == ([] if kept else [folder.name])


def test_what_is_no_finished_run_stays(tmp_path: Path) -> None:
    old = tmp_path / "kvm1"
    (old / "20250101T000000Z-fix").mkdir(parents=True)  # under way, or died
    (old / "mine").mkdir()
    (old / "mine/results.json").write_text("{}", encoding="ascii")
    (old / "20240101T000000Z-audit").symlink_to("mine")
    records.archive(tmp_path, day(0))
    records.archive(tmp_path, day(1))
    removed = prune(tmp_path, 1)
    assert [path.name for path in removed] == ["20260101T000000Z-audit"]
    assert names(tmp_path) == ["20240101T000000Z-audit", "20250101T000000Z-fix", "20260102T000000Z-audit", "mine"]


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    """Halves of the index, and of a run that was being removed; nothing else that is called alike."""
    folder = records.archive(tmp_path, day(0))
    for name in (".index.html.7.new", "..index.json.7.new", ".mine.7.new"):
        (tmp_path / name).write_text("half")
    for name in (".20250101T000000Z-audit.removed", ".mine.removed"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "report.html").write_text("half")
    (folder.parent / ".20250102T000000Z-audit.removed").symlink_to(folder.name)
    update(tmp_path)
    assert [path.name for path in tmp_path.glob(".*.new")] == [".mine.7.new"]
    left = {path.name for path in folder.parent.glob(".*.removed")}
    assert left == {".mine.removed", ".20250102T000000Z-audit.removed"}
    assert (folder / "results.json").exists()


def test_a_journal_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    folder = records.archive(tmp_path, day(0))
    (folder / "journal.jsonl").write_text("no journal\n", encoding="ascii")
    records.archive(tmp_path, day(1))
    assert prune(tmp_path, 1) == []


# Where others can write -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "endless", "huge"])
@pytest.mark.parametrize("name", [".index.json", "results.json"])
def test_what_never_ends_is_not_read(tmp_path: Path, name: str, kind: str) -> None:
    records.archive(tmp_path, day(0, bus("compliant")))
    other = tmp_path / "hv" / "20250101T000000Z-audit"
    other.mkdir(parents=True)
    planted = tmp_path / name if name == ".index.json" else other / name
    if kind == "pipe":
        os.mkfifo(planted)
    elif kind == "endless":
        planted.symlink_to("/dev/zero")
    else:
        with planted.open("wb") as stream:
            stream.truncate(1 << 40)
    update(tmp_path)
    assert "2026-01-01" in index(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_lock_is_not_waited_for(tmp_path: Path) -> None:
    records.archive(tmp_path, day(0, bus("compliant")))
    path = tmp_path / ".index.lock"
    path.touch()
    os.chown(path, 65534, 65534)
    with path.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(ReclaimError, match=r"\.index\.lock: another user holds this lock"):
            update(tmp_path)
    update(tmp_path)
