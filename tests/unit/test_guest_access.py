"""guest-access: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.agent import AgentAbsent, AgentBlocked
from reclaim.errors import ProbeError
from reclaim.verdict import Verdict
from tests.support import (
    Inside,
    definition_of,
    difference,
    disk_xml,
    domain_xml,
    engine,
    inhabited,
    opened,
    requirement,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
OTHER = "<channel type='unix'><target type='virtio' name='com.example.0'/></channel>"
ABSENT = AgentAbsent("one: there is no guest agent channel")
BLOCKED = AgentBlocked("one: the guest agent does not allow guest-exec")


@pytest.mark.parametrize("devices", [[], [OTHER]], ids=["no-channel", "another-channel"])
def test_a_channel_is_added_and_waits_for_its_agent(tmp_path: Path, devices: list[str]) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), *devices)
    guest._facts = ABSENT
    before = definition_of(guest)
    guest._facts = ABSENT
    assert verdict_of(guest, "guest-access") is Verdict.NONCOMPLIANT
    [change] = requirement("guest-access").fixer(guest)
    change.apply(guest)
    gone, came = difference(before, definition_of(guest))
    assert not gone
    assert "domain/devices/channel/target name='org.qemu.guest_agent.0' type='virtio' ''" in came
    assert {line.split()[0] for line in came} <= {
        "domain/devices/channel",
        "domain/devices/channel/target",
        "domain/devices/channel/address",
        "domain/devices/controller",
    }


@pytest.mark.parametrize(
    ("devices", "answer", "words"),
    [
        pytest.param([CHANNEL], ABSENT, "install and start its agent", id="nothing-listens"),
        pytest.param([CHANNEL], BLOCKED, "allow guest-exec and guest-exec-status", id="blocked"),
        pytest.param([], BLOCKED, "allow guest-exec and guest-exec-status", id="blocked-whatever-is-defined"),
    ],
)
def test_what_only_the_guest_can_do_is_told(tmp_path: Path, devices: list[str], answer: ProbeError, words: str) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), *devices)
    before = definition_of(guest).xml
    guest._facts = answer
    result = engine(guest.hypervisor, tmp_path).run(requirement("guest-access"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert words in result.reason
    assert definition_of(guest).xml == before


def test_an_agent_that_answers_is_accepted(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    run = engine(guest.hypervisor, tmp_path)
    result = run.run(requirement("guest-access"), subject(guest))
    assert result.verdict is Verdict.COMPLIANT
    assert "Debian GNU/Linux 12" in result.evidence


def test_a_probe_that_failed_is_an_error_and_starts_no_fixer(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    guest._facts = ProbeError("one: the guest did not finish the facts script")
    result = engine(guest.hypervisor, tmp_path).run(requirement("guest-access"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.ERROR, [])
    assert "could not look" in result.reason


def test_a_guest_that_is_off_cannot_be_looked_into(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml(), running=False)
    assert verdict_of(guest, "guest-access") is Verdict.NOT_ASSESSABLE


def test_a_paused_guest_cannot_be_looked_into(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    guest.domain.suspend()
    assert verdict_of(guest, "guest-access") is Verdict.NOT_ASSESSABLE


def test_the_test_driver_has_no_inside(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    assert verdict_of(guest, "guest-access") is Verdict.NOT_ASSESSABLE
