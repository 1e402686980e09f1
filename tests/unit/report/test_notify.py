"""The command of --notify: what it is given, and how little it can do to the run."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.report import notify
from tests import records
from tests.records import row

GOOD, BAD = [row("disk-bus", "compliant", "web", "sda")], [row("disk-bus", "noncompliant", "web", "sda")]


def part(reports: Path, rows: list[dict[str, Any]], *, hour: int = 9, **more: Any) -> Any:
    """Return the part of a run that was just recorded."""
    started = records.EPOCH.replace(hour=hour)
    document = records.document(rows, started=started, **more)
    folder = records.archive(reports, document)
    return SimpleNamespace(found=records.record(rows, started=started, **more), folder=folder, is_written=True)


@pytest.fixture
def hook(tmp_path: Path) -> list[str]:
    return ["/bin/sh", "-c", 'cat >"$0"', str(tmp_path / "heard")]


@pytest.mark.parametrize(
    ("before", "now", "is_told"),
    [
        (GOOD, BAD, True),
        (BAD, GOOD, True),
        (GOOD, GOOD, False),
        (BAD, BAD, False),
        (GOOD, [*GOOD, row("disc-max", "noncompliant", "new")], False),
    ],
    ids=["broken", "mended", "good", "still-bad", "a-new-guest"],
)
def test_it_hears_of_changes_alone(
    tmp_path: Path, hook: list[str], before: list[dict[str, Any]], now: list[dict[str, Any]], *, is_told: bool
) -> None:
    part(tmp_path / "r", before, hour=8)
    assert notify.notify(hook, part(tmp_path / "r", now)) == ""
    assert (tmp_path / "heard").exists() == is_told


def test_the_first_run_has_nothing_to_compare_with(tmp_path: Path, hook: list[str]) -> None:
    fixed = [row("disk-bus", "fixed", "web", "sda")]
    assert notify.notify(hook, part(tmp_path / "r", fixed)) == ""
    assert not (tmp_path / "heard").exists()


def test_a_run_of_a_choice_does_not_hide_the_one_before_it(tmp_path: Path, hook: list[str]) -> None:
    part(tmp_path / "r", GOOD, hour=7)
    part(tmp_path / "r", [row("disk-bus", "compliant", "db", "sda")], hour=8, arguments=["--guests", "db"])
    assert notify.notify(hook, part(tmp_path / "r", BAD)) == ""
    assert "web sda disk-bus: compliant → noncompliant" in (tmp_path / "heard").read_text(encoding="utf-8")


def test_a_record_that_cannot_be_read_is_passed_over(tmp_path: Path, hook: list[str]) -> None:
    part(tmp_path / "r", GOOD, hour=7)
    (part(tmp_path / "r", GOOD, hour=8).folder / "results.json").write_text("{", encoding="utf-8")
    assert notify.notify(hook, part(tmp_path / "r", BAD)) == ""
    assert (tmp_path / "heard").exists()


def test_it_is_told_where_the_report_is_if_there_is_one(tmp_path: Path, hook: list[str]) -> None:
    part(tmp_path / "r", GOOD, hour=8)
    now = part(tmp_path / "r", BAD)
    (now.folder / "report.html").touch()
    notify.notify(hook, now)
    text = (tmp_path / "heard").read_text(encoding="utf-8")
    assert text.startswith("reclaim audit of kvm1: 1 newly broken, 0 newly mended\n")
    assert text.endswith(f"report: {now.folder}/report.html\n")
    now.is_written = False
    notify.notify(hook, now)
    assert "report:" not in (tmp_path / "heard").read_text(encoding="utf-8")


def test_a_command_that_does_not_read_is_no_trouble(tmp_path: Path) -> None:
    many = [row("disk-bus", "compliant", f"guest-{number}", "sda") for number in range(5000)]
    bad = [row("disk-bus", "noncompliant", f"guest-{number}", "sda") for number in range(5000)]
    part(tmp_path / "r", many, hour=8)
    assert notify.notify(["true"], part(tmp_path / "r", bad)) == ""


def test_it_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "SECONDS", 0.2)
    part(tmp_path / "r", GOOD, hour=8)
    pid = tmp_path / "pid"
    words = ["/bin/sh", "-c", f"sleep 1000 & echo $! >{pid}; wait"]
    assert notify.notify(words, part(tmp_path / "r", BAD)) == (
        "--notify /bin/sh: it took longer than 0.2 seconds, and was ended"
    )


def test_a_program_that_went_away_meanwhile(tmp_path: Path) -> None:
    part(tmp_path / "r", GOOD, hour=8)
    assert notify.notify(["/nowhere/hook"], part(tmp_path / "r", BAD)) == (
        "--notify /nowhere/hook: /nowhere/hook: No such file or directory"
    )


@pytest.mark.parametrize("text", ["", "   ", "'open", "no-such-program x", "/etc/passwd", "/tmp"])
def test_a_command_that_cannot_run_is_refused_before_the_run(text: str) -> None:
    with pytest.raises(ReclaimError, match="--notify"):
        notify.expected(text)


def test_words_are_split_without_a_shell() -> None:
    assert notify.expected("env 'two words' $HOME;x") == ["env", "two words", "$HOME;x"]
    assert "HOME" in os.environ
