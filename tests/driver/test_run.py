"""Whole runs: their order, their record, their journal, their exit status."""

from __future__ import annotations

import json
import os
import stat
import xml.etree.ElementTree as ET
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
import testinfra

from reclaim.base.errors import ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.engine import journal
from reclaim.engine.part import Options
from reclaim.engine.run import Run
from reclaim.handles.hypervisor import Hypervisor
from reclaim.handles.lock import lock
from reclaim.inventory import Inventory
from reclaim.requirement import catalogue
from tests.command import audit
from tests.support import GOOD, definition_of, disk_xml, domain_xml, node, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command import Outcome


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """Three guests, out of order: what has to be mended, what is right, what was waived."""
    return node(
        tmp_path,
        domain_xml(*GOOD, name="web"),
        domain_xml(disk_xml("vda"), disk_xml("vdb", driver="discard='unmap'"), name="db"),
        domain_xml(disk_xml("sda", "usb"), name="app", machine="my-machine-1"),
    )


def _verdicts(outcome: Outcome) -> dict[tuple[str, str | None, str], str]:
    return {(row["guest"], row["disk"], row["requirement"]): row["verdict"] for row in outcome.document["results"]}


# What is judged


@pytest.mark.parametrize("options", [(), ("--plan",), ("--definitions-only",)])
def test_without_prove_nothing_is_proved(tmp_path: Path, fleet: str, options: tuple[str, ...]) -> None:
    outcome = audit(tmp_path / "reports", *options, uri=fleet)
    assert "reclaim-proof" not in {slug for _, _, slug in _verdicts(outcome)}


def test_with_prove_every_guest_has_a_row(tmp_path: Path, fleet: str) -> None:
    outcome = audit(tmp_path / "reports", "--prove", uri=fleet)
    rows = {guest: verdict for (guest, _, slug), verdict in _verdicts(outcome).items() if slug == "reclaim-proof"}
    assert rows == dict.fromkeys(("web", "db", "app"), "not-assessable")
    assert "--prove: trims each filesystem of the guests, writes a file there and deletes it again" in outcome.stdout


# The record


def test_results_json_has_exactly_the_keys_of_schema_2(tmp_path: Path, fleet: str) -> None:
    outcome = audit(tmp_path / "reports", "--plan", "--force", uri=fleet)
    document = outcome.document
    assert list(document) == [
        "schema",
        "run",
        "outcome",
        "hypervisor",
        "results",
        "storage",
        "filesystems",
        "reclaimed_bytes",
    ]
    assert document["schema"] == 2
    assert list(document["run"]) == [
        "id",
        "mode",
        "started",
        "ended",
        "version",
        "arguments",
        "folder",
        "cut_short",
        "chosen",
        "inventory_hypervisors",
    ]
    assert list(document["outcome"]) == [
        "status",
        "went_wrong",
        "rolled_back",
        "errors",
        "left_off",
        "failed",
        "applied",
        "pending",
        "verdicts",
        "guests",
        "folder",
    ]
    assert list(document["hypervisor"]) == ["name", "uri", "libvirt", "qemu", "reached", "host", "hostname"]
    assert {tuple(row) for row in document["results"]} == {
        (
            "requirement",
            "title",
            "guest",
            "disk",
            "backup",
            "verdict",
            "reason",
            "evidence",
            "changes",
            "seconds",
            "rolled_back",
            "left_off",
            "failed",
        )
    }
    changes = [change for row in document["results"] for change in row["changes"]]
    assert {tuple(change) for change in changes} == {("kind", "target", "diff", "applied", "undone")}
    assert {tuple(row) for row in document["storage"]} == {
        (
            "guest",
            "disk",
            "path",
            "virtual",
            "allocated_before",
            "allocated_after",
            "used",
            "reclaimable_before",
            "reclaimable_after",
            "filesystem",
        )
    }
    assert document["run"]["mode"] == "plan"
    assert document["hypervisor"]["uri"] == fleet
    for name in ("started", "ended"):
        moment = datetime.strptime(document["run"][name], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        assert moment.year > 2020
    assert document["run"]["id"] == outcome.folder.name


def test_rows_come_by_guest_then_by_requirement(tmp_path: Path, fleet: str) -> None:
    outcome = audit(tmp_path / "reports", uri=fleet)
    rows = [(row["guest"], row["requirement"]) for row in outcome.document["results"]]
    order = list(catalogue())
    assert rows == sorted(rows, key=lambda row: (row[0], order.index(row[1])))
    assert list(dict.fromkeys(guest for guest, _ in rows)) == ["app", "db", "web"]


@pytest.mark.parametrize("verdict", Verdict, ids=str)
def test_every_verdict_rides_beside_one_of_pytests_outcomes(verdict: Verdict) -> None:
    passed, failed = {"compliant", "fixed"}, {"noncompliant", "pending", "error"}
    expected = "passed" if str(verdict) in passed else "failed" if str(verdict) in failed else "skipped"
    assert verdict.outcome == expected


def test_verdicts_reach_junit_as_pytests_outcomes(tmp_path: Path, fleet: str) -> None:
    outcome = audit(tmp_path / "reports", "--junitxml", str(tmp_path / "junit.xml"), uri=fleet)
    root = ET.parse(tmp_path / "junit.xml").getroot()
    seen: dict[str, set[str]] = {}
    for case in root.iter("testcase"):
        properties = {one.get("name"): one.get("value") for one in case.iter("property")}
        kind = next((tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None), "passed")
        seen.setdefault(str(properties["verdict"]), set()).add(kind)
    assert seen == {
        "compliant": {"passed"},
        "noncompliant": {"failure"},
        "not-applicable": {"skipped"},
        "not-assessable": {"skipped"},
    }
    assert outcome.status == 1


# Exit status


@pytest.mark.parametrize(
    ("domains", "options", "status"),
    [
        pytest.param([domain_xml(*GOOD)], ["--definitions-only"], 0, id="nothing-to-mend"),
        pytest.param([domain_xml(*GOOD)], [], 6, id="nothing-wrong-and-not-all-checked"),
        pytest.param([domain_xml(*GOOD)], ["-k", "access"], 6, id="nobody-could-look"),
        pytest.param([domain_xml(*GOOD)], ["-k", "access", "--fix"], 6, id="fix-where-nobody-could-look"),
        pytest.param([domain_xml(*GOOD), domain_xml(disk_xml(), name="bad")], [], 1, id="a-finding-is-worse"),
        pytest.param([domain_xml(*GOOD)], ["-k", "nothing"], 5, id="nothing-to-judge"),
        pytest.param([domain_xml(disk_xml())], [], 1, id="something-to-mend"),
        pytest.param([domain_xml(disk_xml())], ["--plan"], 1, id="planned-is-not-mended"),
        pytest.param([domain_xml(disk_xml())], ["--fix"], 1, id="withheld"),
        pytest.param([domain_xml(disk_xml(), running=False)], ["--fix", "--force"], 6, id="mended-and-not-all-checked"),
        pytest.param(
            [domain_xml(disk_xml(), running=False)], ["--fix", "--force", "--definitions-only"], 0, id="mended"
        ),
        pytest.param([domain_xml(disk_xml("sda", "usb"))], ["-k", "bus"], 0, id="nothing-applies"),
        pytest.param([domain_xml(disk_xml())], ["--co"], 0, id="collected-only"),
    ],
)
def test_the_exit_status(tmp_path: Path, domains: list[str], options: list[str], status: int) -> None:
    outcome = audit(tmp_path / "reports", *options, uri=node(tmp_path, *domains))
    assert outcome.status == status, outcome.said


@pytest.mark.parametrize(
    ("options", "target", "chosen"),
    [
        pytest.param([], "checks/", False, id="all"),
        pytest.param(["--guests", "web"], "checks/", True, id="guests"),
        pytest.param(["-k", "disk_bus"], "checks/", True, id="k"),
        pytest.param(["-k", "check"], "checks/", False, id="k-that-leaves-nothing-out"),
        pytest.param(["--deselect", "checks/check_disk_bus.py"], "checks/", True, id="deselect"),
        pytest.param([], "checks/check_disk_bus.py", True, id="a-file"),
        pytest.param([], "checks/check_disk_bus.py::check_disk_bus", True, id="a-check"),
    ],
)
def test_metrics_of_a_selection_have_no_standings(
    tmp_path: Path, options: list[str], target: str, *, chosen: bool
) -> None:
    metrics = tmp_path / "reclaim.prom"
    outcome = audit(tmp_path / "reports", "--metrics", str(metrics), *options, target=target)
    assert outcome.document["run"]["chosen"] is chosen
    text = metrics.read_text(encoding="utf-8")
    assert ("\nreclaim_guests{" in text) is not chosen
    whole = f'reclaim_last_run_whole{{hypervisor="test-driver"}} {0.0 if chosen else 1.0}'
    assert whole in text


def test_collect_only_writes_nothing(tmp_path: Path, fleet: str) -> None:
    outcome = audit(tmp_path / "reports", "--co", "--fix", uri=fleet)
    assert outcome.status == 0, outcome.said
    assert not outcome.reports.exists()


def test_an_image_that_is_not_there_costs_only_its_count(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(source="/no/such/image"), running=False))
    document = audit(tmp_path / "reports", uri=uri).document
    assert "error" not in {row["verdict"] for row in document["results"]}
    assert [row["allocated_before"] for row in document["storage"]] == [None]


# The journal


def test_a_fix_is_in_the_record_the_journal_and_nowhere_else(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), "<graphics type='vnc' passwd='hunter2'/>", running=False))
    outcome = audit(tmp_path / "reports", "--fix", "--force", uri=uri)
    book = outcome.folder / "journal.jsonl"
    assert stat.S_IMODE(book.stat().st_mode) == 0o600
    assert "hunter2" in book.read_text()
    events = [json.loads(line)["event"] for line in book.read_text().splitlines()]
    assert events == ["begin", *["intent", "done"] * 3, "end"]
    for path in outcome.folder.iterdir():
        if path != book:
            assert "hunter2" not in path.read_text(), path
    assert "hunter2" not in outcome.said
    verdicts = _verdicts(outcome)
    assert {slug for (_, _, slug), verdict in verdicts.items() if verdict == "fixed"} == {
        "disk-discard",
        "scsi-controller",
        "disk-bus",
    }
    assert verdicts["one", "vda", "disk-bus"] == "fixed", "a row keeps the name under which it was collected"


@pytest.mark.parametrize("options", [["--plan", "--force"], []], ids=["plan", "audit"])
def test_what_changes_nothing_leaves_no_journal(tmp_path: Path, fleet: str, options: list[str]) -> None:
    outcome = audit(tmp_path / "reports", *options, uri=fleet)
    assert outcome.status == 1
    assert not (outcome.folder / "journal.jsonl").exists()


# Its output


def test_in_a_pipe_nothing_is_lost_of_a_run_that_power_cycles(tmp_path: Path) -> None:
    """pytest captures the output of rows that are held back, and lines that were not flushed before went with it."""
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("[policy]\nshutdown_seconds = 1\n", encoding="utf-8")
    uri = node(tmp_path, domain_xml(disk_xml(), name="web"))
    # no libvirt moves a running disk to another bus
    words = ("--fix", "--restart", "--force", "--inventory", str(inventory), "-k", "bus or scsi or live")
    outcome = audit(tmp_path / "reports", *words, uri=uri)
    lines = outcome.stdout.splitlines()
    assert "test session starts" in lines[0]
    assert lines.index("web: shutting down") < next(i for i, line in enumerate(lines) if line.startswith("web +"))
    assert "--force: reclaim fixes even if another requirement must hold first" in outcome.stdout


# Folders


def test_what_earlier_runs_defined_is_the_history_of_a_guest(tmp_path: Path) -> None:
    """So that a power cycle can go back to what booted, whichever run changed the definition."""
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), running=False))
    before = definition_of(hypervisor.guests[0]).xml
    audit(tmp_path / "reports", "--fix", "-k", "discard", uri=hypervisor.uri)
    run = Run(Options(uri=hypervisor.uri, reports=tmp_path / "reports"))
    run.open()
    run.prepare()
    run.close()
    assert run.parts[0].guests[0].history == [before]


def test_a_run_that_died_is_found_by_the_next_one(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    outcome = audit(tmp_path / "reports", "--fix", "-k", "discard", uri=uri)
    died = outcome.folder
    book = died / "journal.jsonl"
    lines = book.read_text().splitlines(keepends=True)
    book.write_text("".join(lines[:2]))
    again = audit(tmp_path / "reports", "-k", "discard", uri=uri)
    assert f"the run {died.name} died while it changed disk-discard of one" in again.stdout


def test_what_died_on_a_hypervisor_of_the_same_name_is_left_to_that_one(tmp_path: Path) -> None:
    """`localhost` may be called so by many; where its guest is unknown its journal is not closed."""
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    died = audit(tmp_path / "reports", "--fix", "-k", "discard", uri=uri).folder
    book = died / "journal.jsonl"
    lines = book.read_text().splitlines(keepends=True)
    book.write_text("".join(lines[:2]))
    (tmp_path / "another").mkdir()
    another = node(tmp_path / "another", domain_xml(disk_xml(), name="two"))
    assert "died while" not in audit(tmp_path / "reports", "--fix", "-k", "discard", uri=another).stdout
    assert not journal.read(book).ended
    assert "died while" in audit(tmp_path / "reports", "-k", "discard", uri=uri).stdout


# The lock


def test_the_lock_of_one_hypervisor_is_not_anothers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with lock(opened(tmp_path / "a", domain_xml())), lock(opened(tmp_path / "b", domain_xml())):
        pass


class Named:
    """What a connection says of its host; two URIs lead to it."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid

    def getType(self) -> str:  # noqa: N802
        return "QEMU"

    def getHostname(self) -> str:  # noqa: N802
        return "kvm1"

    def getCapabilities(self) -> str:  # noqa: N802
        return f"<capabilities><host><uuid>{self.uuid}</uuid></host></capabilities>"


def test_one_hypervisor_has_one_lock_whichever_uri_leads_there() -> None:
    def named(uri: str, uuid: str = f"4c4c4544-{os.getpid()}") -> Hypervisor:
        return Hypervisor(uri, Named(uuid), testinfra.get_host("local://"), Inventory())

    with lock(named("qemu:///system")):
        for uri in ("qemu+ssh://localhost/system", "qemu+ssh://root@kvm1/system?keyfile=/k"):
            with pytest.raises(ReclaimError, match="another --fix is under way there"):
                lock(named(uri))
        for other in (
            named("qemu:///system", "0000"),
            named("qemu:///session"),
            named("qemu:///system?socket=/run/other"),
        ):
            lock(other).close()
