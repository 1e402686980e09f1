"""host-trim: the check and the fixer as a pair, on a hypervisor whose systemd is made of values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import AgentAbsent, AgentBlocked, ProbeError
from reclaim.base.verdict import Verdict
from reclaim.changes import domfstrim
from reclaim.changes.domfstrim import TrimTimer
from tests.support import InhabitedGuest, engine, requirement, subject
from tests.timers import Units, blocked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host() -> Units:
    return Units()


@pytest.fixture
def guest(tmp_path: Path, host: Units, monkeypatch: pytest.MonkeyPatch) -> InhabitedGuest:
    monkeypatch.setattr(domfstrim, "local_uri", lambda _hypervisor: "qemu:///system")
    return blocked(tmp_path, host)


def ask(guest: InhabitedGuest, folder: Path, mode: Any = "fix") -> Any:
    return engine(guest.hypervisor, folder, mode).run(requirement("host-trim"), subject(guest))


def test_refused_fixed_accepted_and_a_second_run_changes_nothing(
    guest: InhabitedGuest, host: Units, tmp_path: Path
) -> None:
    other = {"fstrim.timer": "[Timer]\n"}
    host.units.update(other)
    assert ask(guest, tmp_path, "audit").verdict is Verdict.NONCOMPLIANT
    assert host.units == other
    assert ask(guest, tmp_path).verdict is Verdict.FIXED
    unit = f"reclaim-domfstrim-{guest.uuid}"
    service = host.units[f"{unit}.service"]
    assert f"ExecStart=/usr/bin/virsh --connect qemu:///system domfstrim {guest.uuid}\n" in service
    assert "OnCalendar=weekly" in host.units[f"{unit}.timer"]
    before = dict(host.units)
    again = ask(guest, tmp_path)
    assert again.verdict is Verdict.COMPLIANT
    assert again.changes == []
    assert host.units == before


def test_the_plan_shows_both_units_and_changes_nothing(guest: InhabitedGuest, host: Units, tmp_path: Path) -> None:
    result = ask(guest, tmp_path, "plan")
    assert "OnCalendar=weekly" in result.changes[0].diff
    assert f"domfstrim {guest.uuid}" in result.changes[0].diff
    assert host.units == {}


def test_a_systemd_that_does_not_answer_is_no_finding(guest: InhabitedGuest, host: Units, tmp_path: Path) -> None:
    host.broken = True
    result = ask(guest, tmp_path)
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert "Failed to connect to bus" in result.reason


def test_a_timer_that_was_stopped_stays_stopped(guest: InhabitedGuest, host: Units, tmp_path: Path) -> None:
    TrimTimer("one", guest.uuid, "qemu:///system", "/usr/bin/virsh").apply(guest)
    host.enabled.clear()
    result = ask(guest, tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "disabled and inactive" in result.reason
    assert "systemctl enable --now" in result.reason


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("/etc/cron.weekly/trim\tx\tvirsh domfstrim one", Verdict.COMPLIANT),
        ("/etc/cron.daily/trim\tx\tvirsh -q domfstrim --domain one", Verdict.COMPLIANT),
        ("/etc/cron.d/trim\t-\t0 4 * * 0 root /usr/bin/virsh domfstrim one", Verdict.COMPLIANT),
        ("/var/spool/cron/crontabs/root\t-\t@weekly virsh domfstrim one", Verdict.COMPLIANT),
        pytest.param("/etc/cron.weekly/trim.sh\tx\tvirsh domfstrim one", Verdict.NOT_ASSESSABLE, id="run-parts-skips"),
        pytest.param("/etc/cron.weekly/trim\t-\tvirsh domfstrim one", Verdict.NOT_ASSESSABLE, id="may-not-be-run"),
        pytest.param("/etc/cron.weekly/trim\tx\t  virsh domfstrim one", Verdict.NOT_ASSESSABLE, id="in-a-condition"),
        pytest.param("/etc/cron.weekly/trim\tx\tvirsh domfstrim two", Verdict.NOT_ASSESSABLE, id="another-guest"),
        pytest.param('/etc/cron.weekly/trim\tx\tvirsh domfstrim "$vm"', Verdict.NOT_ASSESSABLE, id="variable"),
        pytest.param("/etc/cron.weekly/trim\tx\ttest x || virsh domfstrim one", Verdict.NOT_ASSESSABLE, id="or"),
        pytest.param(
            "/etc/cron.weekly/trim\tx\tvirsh domfstrim one --mountpoint /x", Verdict.NOT_ASSESSABLE, id="part"
        ),
        pytest.param("/etc/cron.weekly/trim\tx\techo domfstrim one", Verdict.NOT_ASSESSABLE, id="echo"),
        pytest.param(
            "/etc/systemd/system/t.service\t-\tExecStart=virsh domfstrim one", Verdict.NOT_ASSESSABLE, id="unit"
        ),
        pytest.param("/etc/cron.d/trim\t-\t@reboot root virsh domfstrim one", Verdict.NOT_ASSESSABLE, id="at-boot"),
        pytest.param("/etc/cron.weekly/trim\tx\t# virsh domfstrim one", Verdict.NONCOMPLIANT, id="comment"),
        pytest.param("/etc/cron.weekly/trim\tx\tvirsh domfstrim 'one", Verdict.NOT_ASSESSABLE, id="open-quote"),
    ],
)
def test_a_schedule_of_the_user_counts_if_it_is_understood(
    guest: InhabitedGuest, host: Units, tmp_path: Path, line: str, verdict: Verdict
) -> None:
    host.mentions = f"{line}\n"
    assert ask(guest, tmp_path, "audit").verdict is verdict


def test_without_systemd_or_virsh_it_says_what_to_do(guest: InhabitedGuest, host: Units, tmp_path: Path) -> None:
    host.virsh = ""
    assert "libvirt-clients" in ask(guest, tmp_path).reason
    host.systemd = False
    assert "/etc/cron.weekly" in ask(guest, tmp_path).reason
    assert host.units == {}


def test_another_libvirt_than_the_systems_gets_no_timer(host: Units, tmp_path: Path) -> None:
    result = ask(blocked(tmp_path, host), tmp_path)
    assert "is not the libvirt of the system" in result.reason
    assert host.units == {}


@pytest.mark.parametrize(
    ("problem", "answers", "verdict"),
    [
        pytest.param(None, {}, Verdict.NOT_APPLICABLE, id="it-can-be-looked-into"),
        pytest.param(AgentAbsent("one: no agent"), {}, Verdict.NOT_ASSESSABLE, id="no-agent"),
        pytest.param(ProbeError("one: it timed out"), {}, Verdict.NOT_ASSESSABLE, id="nobody-could-look"),
        pytest.param(
            AgentBlocked("one: no"),
            {"guest-info": lambda: {"supported_commands": [{"name": "guest-fstrim", "enabled": False}]}},
            Verdict.NOT_ASSESSABLE,
            id="fstrim-forbidden-too",
        ),
        pytest.param(AgentBlocked("one: no"), {"guest-info": list}, Verdict.ERROR, id="no-answer"),
        pytest.param(
            AgentBlocked("one: no"),
            {"guest-info": lambda: {"supported_commands": [{"name": "guest-fstrim", "enabled": "yes"}, 7]}},
            Verdict.NOT_ASSESSABLE,
            id="odd-answer",
        ),
    ],
)
def test_only_a_guest_that_can_be_trimmed_and_not_looked_into_is_judged(
    tmp_path: Path, host: Units, problem: ProbeError | None, answers: dict[str, Any], verdict: Verdict
) -> None:
    guest = blocked(tmp_path, host, answers)
    guest.within.problem = problem
    assert ask(guest, tmp_path).verdict is verdict
    assert host.units == {}


class WithCheckpoints:
    """A domain with checkpoints; libvirt's test driver has none."""

    def __init__(self, domain: Any, count: int) -> None:
        self.domain, self.count = domain, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.domain, name)

    def listAllCheckpoints(self, _flags: int) -> list[object]:  # noqa: N802
        return [object()] * self.count


@pytest.mark.parametrize(("count", "words"), [(0, ""), (1, "it has 1 checkpoint:"), (3, "it has 3 checkpoints:")])
def test_a_trim_says_that_the_next_incremental_takes_it(
    guest: InhabitedGuest, tmp_path: Path, count: int, words: str
) -> None:
    guest.domain = WithCheckpoints(guest.domain, count)
    assert domfstrim.price(guest).startswith(words)
    assert bool(domfstrim.price(guest)) is bool(words)
    result = ask(guest, tmp_path, "plan")
    assert ("next incremental backup" in result.changes[0].diff) is bool(words)
