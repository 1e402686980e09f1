"""The sample fleet shows every finding that a definition can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.requirement import catalogue
from tests.command import Outcome, audit

Row = tuple[str, str | None, str, str]

COMPLIANT, FINDING, NA, UNKNOWN = "compliant", "noncompliant", "not-applicable", "not-assessable"
DISCARD, MACHINE, CONTROLLER, BUS = "disk-discard", "machine-type", "scsi-controller", "disk-bus"

EXPECTED: set[Row] = {
    ("archive", None, MACHINE, COMPLIANT),
    ("archive", None, CONTROLLER, NA),
    ("archive", "sda", DISCARD, NA),
    ("archive", "sda", BUS, NA),
    ("archive", "sdb", DISCARD, COMPLIANT),
    ("archive", "sdb", BUS, NA),
    ("archive", "vda", DISCARD, NA),
    ("archive", "vda", BUS, NA),
    ("build-2013", None, MACHINE, FINDING),
    ("build-2013", None, CONTROLLER, FINDING),
    ("build-2013", "vda", DISCARD, FINDING),
    ("build-2013", "vda", BUS, FINDING),
    ("erp", None, MACHINE, FINDING),
    ("erp", None, CONTROLLER, FINDING),
    ("erp", "vda", DISCARD, FINDING),
    ("erp", "vda", BUS, FINDING),
    ("erp", "sda", DISCARD, COMPLIANT),
    ("erp", "sda", BUS, COMPLIANT),
    ("files", None, MACHINE, COMPLIANT),
    ("files", None, CONTROLLER, FINDING),
    ("files", "sda", DISCARD, COMPLIANT),
    ("files", "sda", BUS, FINDING),
    ("mail", None, MACHINE, COMPLIANT),
    ("mail", None, CONTROLLER, FINDING),
    ("mail", "sda", DISCARD, COMPLIANT),
    ("mail", "sda", BUS, COMPLIANT),
    ("mail", "sdb", DISCARD, FINDING),
    ("mail", "sdb", BUS, COMPLIANT),
    ("vpn-appliance", None, MACHINE, UNKNOWN),
    ("vpn-appliance", None, CONTROLLER, FINDING),
    ("vpn-appliance", "hda", DISCARD, FINDING),
    ("vpn-appliance", "hda", BUS, FINDING),
    ("web", None, MACHINE, COMPLIANT),
    ("web", None, CONTROLLER, COMPLIANT),
    ("web", "sda", DISCARD, COMPLIANT),
    ("web", "sda", BUS, COMPLIANT),
    ("wiki", None, MACHINE, COMPLIANT),
    ("wiki", None, CONTROLLER, FINDING),
    ("wiki", "vda", DISCARD, FINDING),
    ("wiki", "vda", BUS, FINDING),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return audit(tmp_path_factory.mktemp("reports"))


def test_every_row_about_a_definition(outcome: Outcome) -> None:
    definition = {slug for slug, one in catalogue().items() if one.reads_definitions_only}
    rows = [
        (row["guest"], row["disk"], row["requirement"], row["verdict"])
        for row in outcome.document["results"]
        if row["requirement"] in definition
    ]
    assert len(rows) == len(set(rows))
    assert set(rows) == EXPECTED


def test_every_kind_of_finding_is_there(outcome: Outcome) -> None:
    said = {row["reason"] for row in outcome.document["results"] if row["verdict"] == FINDING}
    for words in (
        "driver discard is absent: QEMU accepts discards and drops them",
        "driver discard is ignore: QEMU accepts discards and drops them",
        "pc-i440fx-1.6 is older than 2.1",
        "pc-i440fx-rhel7.0.0 (as QEMU 1.5) is older than 2.1",
        "there is none for vda",
        "controller 0 is without a model (lsilogic)",
        "controller 0 is lsisas1068",
        "it is on the bus virtio",
        "it is on the bus sata",
        "it is on the bus ide",
    ):
        assert words in said


def test_what_is_inside_a_guest_is_never_passed_on_the_test_driver(outcome: Outcome) -> None:
    inside = {slug for slug, one in catalogue().items() if one.stage in ("access", "names", "inside")}
    rows = [row for row in outcome.document["results"] if row["requirement"] in inside]
    assert rows
    assert {row["verdict"] for row in rows} <= {UNKNOWN, NA}


def test_findings_are_a_failure_and_the_terminal_says_that_these_are_samples(outcome: Outcome) -> None:
    assert outcome.status == 1
    assert outcome.stderr == ""
    assert "SAMPLE DEFINITIONS" in outcome.stdout
    assert "mail" in outcome.stdout


def test_definitions_only_judges_the_same(tmp_path: Path) -> None:
    again = audit(tmp_path, "--definitions-only")
    rows = {(row["guest"], row["disk"], row["requirement"], row["verdict"]) for row in again.document["results"]}
    assert again.status == 1
    assert rows == EXPECTED
