"""results.json written: whole, a row a line, and what was taken back marked in it."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.base.verdict import ChangeRecord
from reclaim.record import record, results
from tests import records
from tests.records import change, row

if TYPE_CHECKING:
    from pathlib import Path

TARGET = "definition of one"


def _written(folder: Path, *rows: dict[str, Any]) -> Path:
    results.write(folder, results.written(records.document(rows)))
    return folder / results.NAME


def _undone(path: Path) -> list[list[bool]]:
    return [[bool(one.undone) for one in each.changes] for each in record.read(path).results]


# Writing --------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    document = records.document([row("disk-bus", "fixed", "Žofie\U0001f600", "sda", changes=[change(applied=True)])])
    results.write(tmp_path, results.written(document))
    assert json.loads((tmp_path / results.NAME).read_text(encoding="utf-8")) == document
    assert record.read(tmp_path).guests == ["Žofie\U0001f600"]


def test_every_row_is_one_line() -> None:
    rows = [row("disk-bus", "noncompliant", f"guest-{number}\n", "sda") for number in range(3)]
    lines = results.written(records.document(rows)).splitlines()
    assert len([line for line in lines if '"requirement"' in line]) == 3
    assert (lines[0], lines[-1]) == ("{", "}")
    assert '"storage": [],' in lines
    assert results.written({}) == "{\n\n}\n"
    assert json.loads(results.written({})) == {}


def test_a_record_is_for_its_owner_and_replaces_the_one_that_was_there(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = _written(tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    _written(tmp_path, row("disk-bus", "compliant"))
    assert len(record.read(path).results) == 1
    assert [one.name for one in tmp_path.iterdir()] == [results.NAME]


def test_moments_are_written_in_utc() -> None:
    assert results.rfc3339(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone.utc)) == "2026-01-02T03:04:05Z"


# The link -------------------------------------------------------------------------------------


def test_latest_leads_to_the_last_run_by_a_relative_name(tmp_path: Path) -> None:
    for name in ("1-audit", "2-audit"):
        (tmp_path / "reports" / name).mkdir(parents=True)
        results.point_latest(tmp_path / "reports" / name)
    latest = tmp_path / "reports/latest"
    assert str(latest.readlink()) == "2-audit"
    (tmp_path / "reports").rename(tmp_path / "moved")
    assert (tmp_path / "moved/latest").resolve() == tmp_path / "moved/2-audit"
    assert sorted(one.name for one in (tmp_path / "moved").iterdir()) == ["1-audit", "2-audit", "latest"]


def test_what_a_killed_run_left_of_a_link_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / ".latest.new").symlink_to("gone")
    (tmp_path / "latest").symlink_to("gone")
    results.point_latest(tmp_path / "run")
    assert str((tmp_path / "latest").readlink()) == "run"


# What was taken back --------------------------------------------------------------------------


def test_the_change_of_its_guest_and_requirement_is_marked_and_no_other(tmp_path: Path) -> None:
    rows = [
        row("disk-bus", "fixed", "one", "sda", changes=[change(applied=True), change(applied=True, target="other")]),
        row("disk-bus", "fixed", "two", "sda", changes=[change(applied=True)]),
        row("disk-discard", "fixed", "one", "sda", changes=[change(applied=True)]),
        row("backup-job", "fixed", None, changes=[change(applied=True)]),
    ]
    path = _written(tmp_path, *rows)
    results.mark_undone(tmp_path, [("one", "disk-bus", TARGET)])
    assert _undone(path) == [[True, False], [False], [False], [False]]
    results.mark_undone(tmp_path, [("", "backup-job", TARGET)])
    assert _undone(path)[-1] == [True]


def test_the_outcome_counts_the_changes_that_stand(tmp_path: Path) -> None:
    rows = [
        row("disk-bus", "fixed", "one", "sda", changes=[change(applied=True), change(applied=True, target="other")])
    ]
    path = _written(tmp_path, *rows)
    assert record.read(path).outcome.applied == 2
    results.mark_undone(tmp_path, [("one", "disk-bus", TARGET)])
    assert record.read(path).outcome.applied == 1


def test_of_several_alike_one_is_marked_for_each_that_was_taken_back(tmp_path: Path) -> None:
    changes = [change(applied=False), change(applied=True, undone=True), change(applied=True), change(applied=True)]
    path = _written(tmp_path, row("disk-bus", "fixed", "one", "sda", changes=changes))
    results.mark_undone(tmp_path, [("one", "disk-bus", TARGET)])
    assert _undone(path) == [[False, True, True, False]]
    results.mark_undone(tmp_path, [("one", "disk-bus", TARGET)] * 2)
    assert _undone(path) == [[False, True, True, True]], "one more than there are is no error"


def test_a_target_is_known_by_the_words_that_the_record_shows(tmp_path: Path) -> None:
    target = "qemu+ssh://root:hunter2@kvm1/system"
    shown = ChangeRecord("definition", target, "").target
    assert "hunter2" not in shown
    path = _written(tmp_path, row("disk-bus", "fixed", "one", "sda", changes=[change(applied=True, target=shown)]))
    results.mark_undone(tmp_path, [("one", "disk-bus", target)])
    assert _undone(path) == [[True]]


def test_a_run_that_was_killed_has_no_record_to_mark(tmp_path: Path) -> None:
    results.mark_undone(tmp_path, [("one", "disk-bus", TARGET)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "7",
        "{}",
        '{"results": 7}',
        '{"results": [{}]}',
        '{"results": [{"requirement": "disk-bus", "guest": "one", "changes": [7]}]}',
        "[" * 200_000,
    ],
)
def test_what_is_no_record_is_told_and_left(tmp_path: Path, text: str) -> None:
    (tmp_path / results.NAME).write_text(text, encoding="utf-8")
    with pytest.raises(ReclaimError) as caught:
        results.mark_undone(tmp_path, [("one", "disk-bus", TARGET)])
    assert str(caught.value).startswith(f"{tmp_path / results.NAME}: ")
    assert (tmp_path / results.NAME).read_text(encoding="utf-8") == text


def test_bytes_that_are_no_text_are_no_record(tmp_path: Path) -> None:
    (tmp_path / results.NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(ReclaimError):
        results.mark_undone(tmp_path, [])
