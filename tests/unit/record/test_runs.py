"""Runs by the names that people type."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.record import runs

NAMES = (
    "kvm1/20260101T000000Z-audit",
    "kvm1/20260101T000000Z-audit-2",
    "kvm1/20260102T000000Z-fix",
    "kvm2/20260103T000000Z-audit",
)


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in NAMES:
        (tmp_path / "reports" / name).mkdir(parents=True)
    (tmp_path / "reports/kvm2/latest").symlink_to("20260103T000000Z-audit")
    (tmp_path / "reports/kvm2/notes").mkdir()
    (tmp_path / "reports/index.html").touch()
    (tmp_path / "reports/kvm1/20260102T000000Z-fix/journal.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports"


def test_the_newest_comes_first_and_a_link_is_no_run(reports: Path) -> None:
    assert [f"{run.parent.name}/{run.name}" for run in runs.every(reports)] == [*reversed(NAMES)]
    assert runs.every(reports / "nothing") == []


@pytest.mark.parametrize("last", ["audit", "fix", "fix-2"])
def test_of_one_second_the_link_names_the_latest(reports: Path, last: str) -> None:
    for name in ("audit", "audit-2", "fix", "fix-2"):
        (reports / f"kvm2/20260104T000000Z-{name}").mkdir()
    (reports / "kvm2/latest").unlink()
    (reports / "kvm2/latest").symlink_to(f"20260104T000000Z-{last}")
    assert runs.find("latest", reports) == reports / f"kvm2/20260104T000000Z-{last}"


def test_a_link_that_leads_nowhere_is_no_obstacle(reports: Path) -> None:
    (reports / "kvm2/latest").unlink()
    (reports / "kvm2/latest").symlink_to("latest")
    assert runs.find("latest", reports) == reports / NAMES[3]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("latest", NAMES[3]),
        (NAMES[3], NAMES[3]),
        ("20260103", NAMES[3]),
        ("kvm2/2026", NAMES[3]),
        ("20260101T000000Z-audit", NAMES[0]),  # the whole name of one is the beginning of another's
        ("20260101T000000Z-audit-2", NAMES[1]),
        ("20260102T000000Z", NAMES[2]),
    ],
)
def test_a_run_has_its_name_and_every_beginning_of_it_that_fits_no_other(reports: Path, text: str, name: str) -> None:
    assert runs.find(text, reports) == reports / name


def test_a_path_comes_before_a_name(reports: Path, tmp_path: Path) -> None:
    assert runs.find(f"reports/{NAMES[0]}", reports) == Path("reports", NAMES[0])
    (tmp_path / "latest").mkdir()
    assert runs.find("latest", reports) == Path("latest")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026", "2026 fits 4 runs: kvm2/20260103T000000Z-audit, kvm1/20260102T000000Z-fix, kvm1/2026"),
        ("2026", " and 1 more"),
        ("20260102T000000Z-audit", "; the nearest: kvm1/20260102T000000Z-fix, "),
        ("20260101T000000Z-fix", "; the nearest: kvm1/20260101T000000Z-audit, "),
        ("nope", "nope: there is no such file or folder, and no run of this name below "),
        ("nope", "; the newest: kvm2/20260103T000000Z-audit, "),
        ("", ": there is no such file or folder"),
    ],
)
def test_a_name_that_fits_none_or_several_is_one_line_with_the_nearest(reports: Path, text: str, words: str) -> None:
    with pytest.raises(ReclaimError) as caught:
        runs.find(text, reports)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_any_run_the_folder_is_named(tmp_path: Path) -> None:
    for text in ("latest", "20260101"):
        with pytest.raises(ReclaimError, match=rf"^{text}: there is no .*, and no run below {tmp_path}$"):
            runs.find(text, tmp_path)


def test_the_latest_that_changed_nothing_cannot_be_taken_back(reports: Path) -> None:
    with pytest.raises(ReclaimError) as caught:
        runs.find("latest", reports, "journal.jsonl")
    assert str(caught.value) == f"the latest run, {NAMES[3]}, changed nothing; the newest that did is {NAMES[2]}"
    (reports / NAMES[3] / "journal.jsonl").touch()
    assert runs.find("latest", reports, "journal.jsonl") == reports / NAMES[3]


def test_the_latest_run_over_several_hypervisors_is_taken_back_by_its_parts(reports: Path) -> None:
    for name in ("kvm1", "kvm2", "kvm3"):
        (reports / name / "20260105T000000Z-fix").mkdir(parents=True)
    (reports / "kvm1/20260105T000000Z-fix/journal.jsonl").touch()
    assert runs.find("latest", reports, "journal.jsonl") == reports / "kvm1/20260105T000000Z-fix"
    (reports / "kvm3/20260105T000000Z-fix/journal.jsonl").touch()
    with pytest.raises(ReclaimError) as caught:
        runs.find("latest", reports, "journal.jsonl")
    assert str(caught.value) == (
        "the latest run has 2 hypervisors: give one after the other: "
        "kvm1/20260105T000000Z-fix, kvm3/20260105T000000Z-fix"
    )
    assert runs.find("kvm3/2026", reports, "journal.jsonl") == reports / "kvm3/20260105T000000Z-fix"


def test_a_link_that_leads_nowhere_is_not_the_run_of_another_folder(
    reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reports / "kvm2/latest").unlink()
    (reports / "kvm2/latest").symlink_to("removed")
    monkeypatch.chdir(reports / "kvm2")
    assert runs.find("latest", reports.parent / "others") == Path("latest")
