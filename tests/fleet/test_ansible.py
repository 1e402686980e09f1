"""The collection reclaim.fleet on five hypervisors: one that fails or vanishes stops a rollout, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.netns import faults
from lab.netns.fleet import NAMES, Fleet, fleet
from lab.netns.root import ADMIN
from tests.ansible.playing import Played
from tests.fleet.conftest import Hosts
from tests.fleet.playing import Client
from tests.fleet.runs import LIMIT, Running

pytestmark = pytest.mark.fleet

#: on the hypervisors
INSTALLED = "/opt/reclaim"
#: all but the last one, which is kept well
WASTEFUL = ["guest01", "guest02", "guest03"]
#: the guest in whose change a hypervisor fails
MIDDLE = "guest02"


@pytest.fixture(scope="session")
def installed(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the playbook `install` makes on a hypervisor. It is played once, and copied to the others."""
    kept = tmp_path_factory.mktemp("installed")
    with fleet(("kvm1",), 1) as made:
        controller = Client(made, kept / "controller", {"reclaim_bundles": str(bundles)})
        played = controller.play("install")
        assert played.status == 0, played.said
        assert played.counts("kvm1")[1:] == (0, 0)
        assert controller.play("install").counts("kvm1") == (0, 0, 0)
        shutil.copytree(made["kvm1"].path(INSTALLED), kept / "reclaim", symlinks=True)
    return kept / "reclaim"


@pytest.fixture
def controller(hosts: Hosts, installed: Path, tmp_path: Path) -> Client:
    """Five hosts with four guests each, on which reclaim is installed."""
    made = hosts(*NAMES, count=4)
    for each in made.hosts:
        shutil.copytree(installed, each.path(INSTALLED), symlinks=True)
    variables = {"reclaim_options": ["--definitions-only"]}
    return Client(made, tmp_path / "controller", variables)


def counts(played: Played) -> dict[str, tuple[int, int, int]]:
    """Return by host the tasks that changed something, did not reach it, and failed; only hosts that were begun."""
    return {name: played.counts(name) for name in played.hosts}


def changed(made: Fleet, before: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """Return the guests of each host whose definitions are others than *before*; no host without one."""
    after = made.checksums()
    found = {name: [guest for guest in some if some[guest] != before[name][guest]] for name, some in after.items()}
    return {name: guests for name, guests in found.items() if guests}


def ended(run: Running) -> Played:
    outcome = run.ended(2 * LIMIT)
    return Played(outcome.status, outcome.said)


# All well -------------------------------------------------------------------------------------


@pytest.mark.long
def test_audit_fix_and_undo(controller: Client) -> None:
    before = controller.fleet.checksums()
    audited = controller.play("audit")
    assert audited.status == 0, audited.said
    assert counts(audited) == dict.fromkeys(NAMES, (0, 0, 0)), "findings are ok"
    assert changed(controller.fleet, before) == {}
    verdicts = {name: sorted(row["verdict"] for row in controller.rows(name)) for name in NAMES}
    assert len({tuple(some) for some in verdicts.values()}) == 1
    assert "noncompliant" in verdicts["kvm1"]

    fixed = controller.play("fix")
    assert fixed.status == 0, fixed.said
    assert changed(controller.fleet, before) == dict.fromkeys(NAMES, WASTEFUL)
    mended = controller.fleet.checksums()
    again = controller.play("fix")
    assert counts(again) == dict.fromkeys(NAMES, (0, 0, 0)), "nothing is left to change"
    assert changed(controller.fleet, mended) == {}

    undone = controller.play("undo")
    assert undone.status == 0, undone.said
    assert changed(controller.fleet, before) == {}


# Some that cannot be reached ------------------------------------------------------------------


def test_an_audit_goes_on_without_those_that_cannot_be_reached(controller: Client) -> None:
    made = controller.fleet
    controller.variables |= {"ansible_user": ADMIN, "reclaim_become": True}
    faults.take_down(made["kvm1"])
    faults.silence(made["kvm2"])
    faults.rekey(made["kvm4"])
    audited = controller.play("audit")
    assert audited.status == 2, audited.said
    for name in ("kvm1", "kvm2", "kvm4"):
        assert audited.counts(name)[2] == 1, audited.said
        assert f"{name}: it cannot be reached" in audited.said
    for name in ("kvm3", "kvm5"):
        assert audited.counts(name) == (0, 0, 0)
        assert controller.rows(name)
    assert sorted(path.name for path in controller.fetched.iterdir()) == ["kvm3", "kvm5"]


def test_a_fix_begins_with_none_behind_one_that_is_down(controller: Client) -> None:
    before = controller.fleet.checksums()
    faults.take_down(controller.fleet["kvm1"])
    fixed = controller.play("fix")
    assert fixed.status == 2, fixed.said
    assert fixed.hosts == ["kvm1"]
    assert "Never begun: kvm2, kvm3, kvm4, kvm5" in fixed.said
    assert changed(controller.fleet, before) == {}


# In the middle of a fix -----------------------------------------------------------------------


@pytest.mark.long
def test_a_rollout_stops_at_the_one_that_fails_and_goes_on_when_it_is_mended(controller: Client) -> None:
    made, before = controller.fleet, controller.fleet.checksums()
    controller.variables["reclaim_rollout"] = "november"
    with faults.trap(made["kvm2"], MIDDLE) as trap, controller.playing("fix") as run:
        trap.wait(LIMIT)
        faults.kill_libvirtd(made["kvm2"])
        fixed = ended(run)
    assert fixed.status == 2, fixed.said
    # kvm3 is of the same batch; the later ones are untouched
    assert changed(made, before) == {"kvm1": WASTEFUL, "kvm2": ["guest01"], "kvm3": WASTEFUL}
    assert sorted(fixed.hosts) == ["kvm1", "kvm2", "kvm3"]
    assert [name for name, (_, _, failed) in counts(fixed).items() if failed] == ["kvm2"]
    assert "Never begun: kvm4, kvm5" in fixed.said
    assert "error" in {row["verdict"] for row in controller.rows("kvm2")}

    faults.start_libvirtd(made["kvm2"])
    mended = made.checksums()
    resumed = controller.play("fix")
    assert resumed.status == 0, resumed.said
    assert changed(made, before) == dict.fromkeys(NAMES, WASTEFUL)
    assert changed(made, mended) == {"kvm2": ["guest02", "guest03"], "kvm4": WASTEFUL, "kvm5": WASTEFUL}
    assert resumed.said.count("done before in this rollout") == 2


def test_a_rollout_stops_at_the_one_that_vanishes(controller: Client) -> None:
    made, before = controller.fleet, controller.fleet.checksums()
    with faults.trap(made["kvm2"], MIDDLE) as trap, controller.playing("fix") as run:
        trap.wait(LIMIT)
        faults.take_down(made["kvm2"])
        fixed = ended(run)
    assert fixed.status == 2, fixed.said
    assert changed(made, before) == {"kvm1": WASTEFUL, "kvm2": ["guest01"], "kvm3": WASTEFUL}
    assert "kvm2: it cannot be reached any more (a job that runs there goes on): " in fixed.said
    assert "Never begun: kvm4, kvm5" in fixed.said
    assert sorted(path.name for path in controller.fetched.iterdir()) == ["kvm1", "kvm3"]
