"""`--hosts` over real hypervisors: one that fails has one row, and the others are judged and mended."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.netns import faults, host
from lab.netns.fleet import Fleet
from lab.netns.host import LOG, Host
from tests.command import Outcome
from tests.fleet.conftest import Hosts
from tests.fleet.runs import LIMIT, audit, expect_unreached, nothing_left, rows, running, verdicts

pytestmark = pytest.mark.fleet

DEFINITIONS = ("--definitions-only", "-q")
#: the requirements that read definitions only, of a guest with one disk
JUDGED = 4
#: the most logins at one hypervisor in a run, whatever its guests are
HANDSHAKES = 4


# All well -------------------------------------------------------------------------------------


def test_five_are_judged_alike(five: Fleet, tmp_path: Path) -> None:
    before = five.checksums()
    outcome = audit(five, tmp_path / "reports", *DEFINITIONS)
    assert outcome.status == 1, outcome.said
    found = rows(outcome)
    assert list(found) == [each.name for each in five.hosts]
    assert len({tuple(verdicts(some)) for some in found.values()}) == 1
    assert len(found["kvm1"]) == 10 * JUDGED
    assert five.checksums() == before
    assert max(each.handshakes for each in five.hosts) <= HANDSHAKES
    assert nothing_left(five.site)


def test_five_are_looked_into_with_few_logins(five: Fleet, tmp_path: Path) -> None:
    outcome = audit(five, tmp_path / "reports", "-q")
    assert outcome.status == 1, outcome.said
    found = rows(outcome)
    assert len({tuple(verdicts(some)) for some in found.values()}) == 1
    assert "error" not in {row["verdict"] for some in found.values() for row in some}
    assert max(each.handshakes for each in five.hosts) <= HANDSHAKES
    assert nothing_left(five.site)


def test_two_of_one_hostname_do_not_share_a_folder(hosts: Hosts, tmp_path: Path) -> None:
    fleet = hosts("kvm1", "kvm2", "kvm3", count=2, hostnames={"kvm1": "node", "kvm3": "node"})
    outcome = audit(fleet, tmp_path / "reports", *DEFINITIONS)
    assert sorted(rows(outcome)) == ["kvm2", "node-kvm1", "node-kvm3"]


def test_one_host_by_two_addresses_is_judged_once(hosts: Hosts, tmp_path: Path) -> None:
    fleet = hosts("kvm1", "kvm2", count=2)
    names = ("kvm1", str(fleet["kvm1"].link.host), "kvm2")
    outcome = audit(fleet, tmp_path / "reports", "--definitions-only", names=names)
    assert sorted(rows(outcome)) == ["kvm1", "kvm2"]
    assert "ssh://root@198.18.1.2 is the same hypervisor as ssh://root@kvm1" in outcome.said


def test_a_slow_line_is_no_fault(hosts: Hosts, tmp_path: Path) -> None:
    fleet = hosts("kvm1", "kvm2", count=2)
    faults.slow_down(fleet["kvm2"], 0.1)
    outcome = audit(fleet, tmp_path / "reports", *DEFINITIONS)
    found = rows(outcome)
    assert verdicts(found["kvm1"]) == verdicts(found["kvm2"])
    assert len(found["kvm2"]) == 2 * JUDGED
    assert nothing_left(fleet.site)


# Some that cannot be reached ------------------------------------------------------------------

#: each fault of a host, with a word of the reason that is given for it
FAULTS: dict[str, tuple[Callable[[Host], None], str]] = {
    "down": (faults.take_down, ""),
    "silent": (faults.silence, ""),
    "mute": (faults.mute, ""),
    "stalling": (faults.stall, ""),
    "rekeyed": (faults.rekey, "host key"),
    "hanging": (faults.hang_libvirtd, "libvirt does not answer"),
    "crashed": (faults.kill_libvirtd, "libvirt"),
    "halted": (host.halt, "refused"),
}
GOOD = ("good1", "good2")


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.long
def test_one_fault_costs_one_row(hosts: Hosts, tmp_path: Path, kind: str) -> None:
    fleet = hosts(kind, "kvm2", "kvm3", "kvm4", "kvm5", count=3)
    fault, word = FAULTS[kind]
    fault(fleet[kind])
    outcome = audit(fleet, tmp_path / "reports", *DEFINITIONS)
    _expect_rows(outcome, {kind: word}, ("kvm2", "kvm3", "kvm4", "kvm5"))
    assert nothing_left(fleet.site)


def test_all_faults_at_once_cost_one_row_each(hosts: Hosts, tmp_path: Path) -> None:
    fleet = hosts(*FAULTS, *GOOD, count=3)
    for kind, (fault, _) in FAULTS.items():
        fault(fleet[kind])
    outcome = audit(fleet, tmp_path / "reports", *DEFINITIONS)
    _expect_rows(outcome, {kind: word for kind, (_, word) in FAULTS.items()}, GOOD)
    assert nothing_left(fleet.site)


def _expect_rows(outcome: Outcome, bad: dict[str, str], good: tuple[str, ...]) -> None:
    assert outcome.status == 1, outcome.said
    found = rows(outcome)
    assert sorted(found) == sorted((*bad, *good)), outcome.said
    for name, word in bad.items():
        assert word in expect_unreached(found[name], name)
    assert {len(found[name]) for name in good} == {3 * JUDGED}


# Stopped --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_for_a_silent_host_can_be_stopped(
    hosts: Hosts, tmp_path: Path, number: signal.Signals
) -> None:
    fleet = hosts("kvm1", "kvm2", count=2)
    faults.silence(fleet["kvm1"])
    faults.mute(fleet["kvm2"])
    with running(fleet, tmp_path / "reports", *DEFINITIONS) as run:
        _wait_for(lambda: len(fleet.site.left("ssh")) >= 2)
        run.stop(number)
        outcome = run.ended(15)
    assert outcome.status == 2, outcome.said
    assert "Traceback" not in outcome.said
    assert nothing_left(fleet.site)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_judges_can_be_stopped(hosts: Hosts, tmp_path: Path, number: signal.Signals) -> None:
    fleet = hosts("kvm1", "kvm2", count=4)
    reports = tmp_path / "reports"
    with faults.trap(fleet["kvm1"], "guest02") as trap, running(fleet, reports, "--fix", *DEFINITIONS) as run:
        trap.wait(LIMIT)
        run.stop(number)
        faults.kill_libvirtd(fleet["kvm1"])
        outcome = run.ended()
    assert outcome.status == 2, outcome.said
    assert nothing_left(fleet.site)


@pytest.mark.long
def test_a_host_that_vanishes_in_the_middle_of_an_audit_costs_its_own_rows(hosts: Hosts, tmp_path: Path) -> None:
    fleet = hosts("kvm1", "kvm2", "kvm3", count=10)
    with running(fleet, tmp_path / "reports", "-q") as run:
        # it has answered some questions about its guests
        _wait_for(lambda: fleet["kvm2"].path(LOG).read_text("utf-8", "replace").count("Starting session") >= 5)
        faults.take_down(fleet["kvm2"])
        outcome = run.ended()
    assert outcome.status == 1, outcome.said
    found = rows(outcome)
    assert verdicts(found["kvm1"]) == verdicts(found["kvm3"])
    assert "error" not in {row["verdict"] for row in found["kvm1"]}
    assert "error" in {row["verdict"] for row in found["kvm2"]}
    assert nothing_left(fleet.site)


# A fix ----------------------------------------------------------------------------------------


def changed(fleet: Fleet, before: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """Return the guests of each host whose definitions are others than *before*."""
    after = fleet.checksums()
    assert {name: set(some) for name, some in after.items()} == {name: set(some) for name, some in before.items()}
    return {
        name: [guest for guest, sum_ in some.items() if sum_ != before[name][guest]] for name, some in after.items()
    }


#: all but the last one, which is kept well
WASTEFUL = ["guest01", "guest02", "guest03", "guest04", "guest05"]


def test_a_fix_mends_all(hosts: Hosts, tmp_path: Path) -> None:
    fleet = hosts("kvm1", "kvm2", count=6)
    before = fleet.checksums()
    outcome = audit(fleet, tmp_path / "first", "--fix", *DEFINITIONS)
    assert changed(fleet, before) == {"kvm1": WASTEFUL, "kvm2": WASTEFUL}, outcome.said
    mended = fleet.checksums()
    audit(fleet, tmp_path / "second", "--fix", *DEFINITIONS)
    assert fleet.checksums() == mended
    assert max(each.handshakes for each in fleet.hosts) <= 2 * HANDSHAKES
    assert nothing_left(fleet.site)


@pytest.mark.parametrize(
    "fault",
    [
        faults.kill_libvirtd,
        pytest.param(faults.hang_libvirtd, marks=pytest.mark.long),
        pytest.param(faults.take_down, marks=pytest.mark.long),
    ],
    ids=lambda fault: fault.__name__,
)
def test_a_hypervisor_that_goes_in_the_middle_of_a_fix_harms_no_other(
    five: Fleet, tmp_path: Path, fault: Callable[[Host], object]
) -> None:
    before = five.checksums()
    with faults.trap(five["kvm3"], "guest05") as trap, running(five, tmp_path / "r", "--fix", *DEFINITIONS) as run:
        trap.wait(LIMIT)
        fault(five["kvm3"])
        outcome = run.ended()
    _expect_others_whole(five, before, outcome)


def _expect_others_whole(fleet: Fleet, before: dict[str, dict[str, str]], outcome: Outcome) -> None:
    wasteful = [f"guest{number:02}" for number in range(1, 10)]
    found = changed(fleet, before)
    assert found.pop("kvm3") == wasteful[:4], outcome.said
    assert found == dict.fromkeys(("kvm1", "kvm2", "kvm4", "kvm5"), wasteful), outcome.said
    assert outcome.status == 1
    verdict = {(row["guest"], row["verdict"]) for row in rows(outcome)["kvm3"]}
    assert ("guest05", "error") in verdict
    for name in found:
        assert "error" not in {row["verdict"] for row in rows(outcome)[name]}
    assert nothing_left(fleet.site)


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
