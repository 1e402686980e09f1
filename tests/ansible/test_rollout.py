"""A rollout stops at the first hypervisor that goes wrong or vanishes, names those never begun, and is resumed."""

from __future__ import annotations

import pytest

from tests.ansible.playing import Controller, Host, Played
from tests.command import FLEET, reclaim

pytestmark = pytest.mark.slow

_NAMES = ("kvm1", "kvm2", "kvm3", "kvm4", "kvm5")


def _fleet(controller: Controller) -> list[Host]:
    controller.variables["reclaim_options"] = ["--definitions-only"]
    hosts = [controller.host(name) for name in _NAMES]
    for host in hosts:
        host.stands_in()
    return hosts


def _expect_stopped(played: Played, hosts: list[Host]) -> None:
    """The first batch and the second were played, and no later one."""
    assert played.status == 2
    assert played.hosts == ["kvm1", "kvm2", "kvm3"]
    assert "Never begun: kvm4, kvm5. Look at kvm2, then run the same playbook again" in played.said
    assert [len(host.jobs) for host in hosts[3:]] == [0, 0]


def test_the_second_goes_wrong_and_the_rest_is_made_later(controller: Controller) -> None:
    hosts = _fleet(controller)
    controller.hosts["kvm2"]["reclaim_uri"] = "test:///nothing.xml"
    rollout = ("-e", "reclaim_rollout=autumn")
    stopped = controller.play("fix", *rollout)
    _expect_stopped(stopped, hosts)
    assert [stopped.counts(name)[2] for name in ("kvm1", "kvm2", "kvm3")] == [0, 1, 0]
    assert "kvm2: test:///nothing.xml: cannot connect" in stopped.said
    assert "ASYNC" not in stopped.said
    assert len(stopped.said) < 12_000

    controller.hosts["kvm2"]["reclaim_uri"] = FLEET
    resumed = controller.play("fix", *rollout)
    assert resumed.status == 0, resumed.said
    assert resumed.said.count("(done before in this rollout)") == 2
    assert [len(host.jobs) for host in hosts] == [1, 2, 1, 1, 1]
    assert [resumed.counts(name)[0] for name in _NAMES] == [0, 1, 0, 1, 1]


def test_the_second_vanishes(controller: Controller) -> None:
    hosts = _fleet(controller)
    # a port that no program listens at
    controller.hosts["kvm2"] |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    stopped = controller.play("fix")
    _expect_stopped(stopped, hosts)
    assert "kvm2: it cannot be reached any more" in stopped.said
    assert [len(host.jobs) for host in hosts] == [1, 0, 1, 0, 0]


def test_the_first_vanishes(controller: Controller) -> None:
    hosts = _fleet(controller)
    controller.hosts["kvm1"] |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    stopped = controller.play("fix")
    assert (stopped.status, stopped.hosts) == (2, ["kvm1"])
    assert "Never begun: kvm2, kvm3, kvm4, kvm5." in stopped.said
    assert not any(host.jobs for host in hosts)


def test_an_audit_goes_on_without_the_one_that_cannot_be_reached(controller: Controller) -> None:
    hosts = _fleet(controller)
    controller.hosts["kvm2"] |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    played = controller.play("audit")
    assert played.status == 2
    assert [played.counts(name)[2] for name in _NAMES] == [0, 1, 0, 0, 0]
    assert [len(host.jobs) for host in hosts] == [1, 0, 1, 1, 1]
    assert sorted(path.name for path in controller.fetched.iterdir()) == ["kvm1", "kvm3", "kvm4", "kvm5"]
    merged = reclaim("merge", controller.fetched, "--into", controller.folder / "fleet.sqlite")
    assert merged.returncode == 0, merged.stdout + merged.stderr
