"""The commands that the terminal prints: each can be typed, and the next one is never undo."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from reclaim.base import typed
from reclaim.handles.guest import OFF, UNSTARTED
from reclaim.report.steps import next_steps, undo_line
from tests import records
from tests.records import row

APPLIED = records.change(applied=True)


def _steps(rows: list[dict[str, Any]], mode: str = "audit", *more: str) -> list[str]:
    mode_flag = [] if mode == "audit" else [f"--{mode}"]
    found = records.record(rows, mode=mode, arguments=["checks/", *mode_flag, *more])
    return next_steps(found)


BROKEN = row("disk-bus", "noncompliant")
WITHHELD = row(
    "disk-bus", "noncompliant", reason="it is on virtio; withheld: depends on fstab-uuid, which has no row in this run"
)
FIXED = row("disk-bus", "fixed", changes=[APPLIED])
PENDING = row("live-definition", "pending")
IS_OFF = row("fstab-uuid", "not-assessable", "c", reason=OFF)


@pytest.mark.parametrize(
    ("rows", "mode", "more", "expected"),
    [
        pytest.param([BROKEN], "audit", [], ["plan"], id="audit-plan"),
        pytest.param([BROKEN], "plan", [], ["fix"], id="plan-fix"),
        pytest.param([BROKEN], "plan", ["--force"], ["fix --force"], id="forced-plan"),
        pytest.param([FIXED, PENDING], "fix", [], ["fix --restart"], id="fix-restart"),
        pytest.param(
            [FIXED, row("live-definition", "noncompliant")], "fix", [], ["fix --restart"], id="fix-live-finding"
        ),
        pytest.param([FIXED, PENDING], "fix", ["--restart"], ["audit"], id="restarted-pending-audit-again"),
        pytest.param([FIXED, BROKEN], "fix", [], ["fix"], id="fix-rest"),
        pytest.param([FIXED, WITHHELD], "fix", [], [], id="fix-rest-depends"),
        pytest.param([WITHHELD, BROKEN], "fix", [], ["fix"], id="fix-some-of-the-rest-depends"),
        pytest.param([WITHHELD, IS_OFF], "fix", [], ["audit --boot-stopped"], id="fix-rest-depends-on-a-start"),
        pytest.param([FIXED], "fix", [], ["audit"], id="fix-all-audit-again"),
        pytest.param([row("disk-bus", "compliant")], "fix", [], [], id="fix-nothing-to-do"),
        pytest.param([row("disk-bus", "compliant")], "audit", [], [], id="all-good"),
        pytest.param([IS_OFF], "audit", [], ["audit --boot-stopped"], id="off"),
        pytest.param([BROKEN, IS_OFF], "audit", [], ["plan", "audit --boot-stopped"], id="off-and-findings"),
        pytest.param([IS_OFF], "audit", ["--boot-stopped"], [], id="off-and-asked"),
        pytest.param(
            [IS_OFF, row("guest-access", "not-assessable", "c", reason=f"{UNSTARTED}x")],
            "audit",
            [],
            [],
            id="unstartable",
        ),
    ],
)
def test_the_next_steps(
    monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], mode: str, more: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr(typed, "_program", lambda _stand: ["reclaim"])
    found = _steps(rows, mode, *more)
    assert [step.partition("reclaim ")[2] for step in found] == expected
    assert not any("undo" in step or "#" in step or "(" in step for step in found)


def test_samples_are_not_started() -> None:
    document = records.document([IS_OFF])
    document["hypervisor"]["uri"] = "test:///x"
    assert next_steps(type(records.record([])).model_validate(document)) == []


def test_undo_is_for_a_fix_that_changed_something(tmp_path: Path) -> None:
    folder = tmp_path / "my runs/1"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").touch()
    line = undo_line(records.record([FIXED], mode="fix"), folder)
    assert line is not None
    assert line.startswith("undo:   ")
    assert shlex.split(line)[-2:] == ["undo", str(folder)]
    assert undo_line(records.record([BROKEN], mode="fix"), folder) is None
    planned = row("disk-bus", "noncompliant", changes=[records.change()])
    assert undo_line(records.record([planned], mode="plan"), folder) is None


def test_no_undo_without_a_journal(tmp_path: Path) -> None:
    line = undo_line(records.record([FIXED], mode="fix"), tmp_path)
    assert line == f"the journal {tmp_path}/journal.jsonl is gone: undo cannot take back the changes of this run"
