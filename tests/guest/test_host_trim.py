"""The timer that trims from the hypervisor, on a real systemd: a lab guest plays the hypervisor."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lab import guest as lab
from lab import host
from reclaim.base.errors import ChangeFailed
from reclaim.changes import domfstrim
from reclaim.changes.domfstrim import TrimTimer
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from tests.support import uuid_of

pytestmark = [pytest.mark.guest, pytest.mark.long]

NAME = "reclaim-lab-test-host-trim"
#: a virsh that knows one guest, and writes down what it was asked for
VIRSH = """#!/bin/sh
echo "$*" >>/root/asked
case $3 in domstate) cat /root/state ;; esac
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Guest]:
    lab.destroy(NAME)
    lab.create(NAME, machine="pc", discard="unmap")
    yield next(one for one in connect(host.URI, None, Inventory()).guests if one.name == NAME)
    lab.destroy(NAME)


def played(machine: Guest) -> Any:
    """A guest whose hypervisor is *machine*."""
    hypervisor = SimpleNamespace(name=NAME, shell=machine.agent_shell)
    return SimpleNamespace(name="one", uuid=uuid_of("one"), hypervisor=hypervisor)


def run(machine: Guest, command: str) -> str:
    result = machine.agent_shell.run(command)
    assert result.rc == 0, result.stderr
    return str(result.stdout)


def test_the_timer_is_installed_trims_while_the_guest_runs_and_goes_away(machine: Guest) -> None:
    run(
        machine,
        f"printf %s '{VIRSH}' >/usr/local/bin/virsh && chmod 755 /usr/local/bin/virsh && echo running >/root/state",
    )
    guest = played(machine)
    change = TrimTimer("one", guest.uuid, "qemu:///system", "/usr/local/bin/virsh")
    before = run(machine, "ls -A /etc/systemd/system /etc/systemd/system/timers.target.wants")

    assert domfstrim.schedule_of(guest).problem == "nothing on the hypervisor trims it on a schedule"
    change.apply(guest)
    assert domfstrim.schedule_of(guest).works == f"{change.unit}.timer trims it from the hypervisor"
    run(machine, f"systemd-analyze verify {change.unit}.service {change.unit}.timer")
    with pytest.raises(ChangeFailed, match="is there already; nothing was changed"):
        change.apply(guest)
    assert domfstrim.schedule_of(guest).works

    run(machine, f"systemctl start {change.unit}.service")
    assert f"--connect qemu:///system domfstrim {guest.uuid}\n" in run(machine, "cat /root/asked")
    run(machine, "echo 'shut off' >/root/state; : >/root/asked")
    machine.agent_shell.run(f"systemctl start {change.unit}.service")
    assert "domfstrim" not in run(machine, "cat /root/asked")
    assert machine.agent_shell.run(f"systemctl is-failed {change.unit}.service").rc != 0

    run(machine, f"systemctl stop {change.unit}.timer")
    assert domfstrim.schedule_of(guest).problem == f"{change.unit}.timer is enabled and inactive"
    run(machine, f"echo '# mine' >>/etc/systemd/system/{change.unit}.timer")
    with pytest.raises(ChangeFailed, match="it has been changed since"):
        change.undo(guest, {})
    run(machine, f"sed -i '$d' /etc/systemd/system/{change.unit}.timer")
    change.undo(guest, {})
    assert run(machine, "ls -A /etc/systemd/system /etc/systemd/system/timers.target.wants") == before
    assert change.undo(guest, {}) == f"{change.unit}.timer is gone"


def test_a_cron_job_of_the_hypervisor_is_read(machine: Guest) -> None:
    guest = played(machine)
    run(machine, "mkdir -p /etc/cron.weekly && printf '#!/bin/sh\\nvirsh domfstrim one\\n' >/etc/cron.weekly/trim")
    run(machine, "chmod 755 /etc/cron.weekly/trim")
    assert domfstrim.schedule_of(guest).works == "/etc/cron.weekly/trim trims it from the hypervisor"
    run(machine, "chmod 644 /etc/cron.weekly/trim")
    assert "cannot see for which guest" in domfstrim.schedule_of(guest).doubt
    run(machine, "rm /etc/cron.weekly/trim")


def test_what_cannot_be_enabled_leaves_nothing(machine: Guest) -> None:
    guest = played(machine)
    change = TrimTimer("one", guest.uuid, "qemu:///system", "/usr/local/bin/virsh")
    before = run(machine, "ls -A /etc/systemd/system")
    run(
        machine,
        'mv /usr/bin/systemctl /usr/bin/systemctl.real && printf \'#!/bin/sh\\n[ "$1" = enable ] && exit 1\\n'
        'exec systemctl.real "$@"\\n\' >/usr/bin/systemctl && chmod 755 /usr/bin/systemctl',
    )
    try:
        with pytest.raises(ChangeFailed):
            change.apply(guest)
    finally:
        run(machine, "mv /usr/bin/systemctl.real /usr/bin/systemctl")
    assert run(machine, "ls -A /etc/systemd/system") == before
