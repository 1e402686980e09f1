"""Verdicts, and the row that is kept of one."""

from __future__ import annotations

import pytest

from reclaim.base.secret import MARK
from reclaim.base.verdict import ChangeRecord, Judgement, Result, Verdict

S = "Zq7Hunter2xW"
URI = f"qemu+ssh://root:{S}@kvm1/system"


def row(reason: str = "", evidence: str = "") -> Result:
    return Result("disk-bus", "The title", "kvm1", "web", "vda", None, Verdict.NONCOMPLIANT, reason, evidence)


@pytest.mark.parametrize(
    ("outcome", "verdicts"),
    [
        ("passed", {Verdict.COMPLIANT, Verdict.FIXED}),
        ("failed", {Verdict.PENDING, Verdict.NONCOMPLIANT, Verdict.ERROR}),
        ("skipped", {Verdict.NOT_APPLICABLE, Verdict.NOT_ASSESSABLE, Verdict.WAIVED}),
    ],
)
def test_no_verdict_that_is_no_pass_passes(outcome: str, verdicts: set[Verdict]) -> None:
    assert {verdict for verdict in Verdict if verdict.outcome == outcome} == verdicts


def test_a_fixer_waits_for_what_holds_or_does_not_concern_the_guest() -> None:
    holding = {verdict for verdict in Verdict if verdict.holds}
    assert holding == {Verdict.COMPLIANT, Verdict.FIXED, Verdict.NOT_APPLICABLE}


def test_the_words_that_records_of_earlier_runs_have() -> None:
    words = "compliant fixed pending noncompliant not-applicable not-assessable waived error"
    assert [f"{verdict}" for verdict in Verdict] == words.split()


def test_a_judgement_needs_no_words() -> None:
    assert Judgement(Verdict.COMPLIANT) == (Verdict.COMPLIANT, "", "")


@pytest.mark.parametrize("name", ["reason", "evidence"])
def test_a_row_has_no_secret_however_its_words_are_set(name: str) -> None:
    made = row(**{name: f"cannot reach {URI}"})
    assert S not in getattr(made, name)
    assert MARK in getattr(made, name)
    setattr(made, name, f"again {URI}")
    assert S not in getattr(made, name)
    assert getattr(made, name).startswith("again ")


def test_names_are_kept_as_they_are() -> None:
    made = row()
    made.guest = "root:x@y"
    assert made.guest == "root:x@y"


def test_a_judgement_is_taken_whole_and_without_secrets() -> None:
    made = row(reason="old", evidence="old")
    made.take(Judgement(Verdict.COMPLIANT, evidence=f"by {URI}"))
    assert (made.verdict, made.reason) == (Verdict.COMPLIANT, "")
    assert made.evidence.startswith("by qemu+ssh://")
    assert S not in made.evidence


def test_the_record_of_a_row() -> None:
    made = row(reason="bus is virtio")
    made.seconds = 1.23456
    made.changes.append(ChangeRecord("definition", "web", "-a\n+b", applied=True))
    assert made.to_json() == {
        "requirement": "disk-bus",
        "title": "The title",
        "guest": "web",
        "disk": "vda",
        "backup": None,
        "verdict": "noncompliant",
        "reason": "bus is virtio",
        "evidence": None,
        "changes": [{"kind": "definition", "target": "web", "diff": "-a\n+b", "applied": True, "undone": False}],
        "seconds": 1.235,
        "rolled_back": False,
        "left_off": False,
        "failed": False,
    }


def test_a_change_is_recorded_without_secrets() -> None:
    record = ChangeRecord("file", f"//srv/x cifs pass={S}", f"+{URI}\n")
    assert S not in str(record.to_json())
    assert (record.applied, record.undone) == (False, False)
