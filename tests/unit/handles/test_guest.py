"""The ways into a guest: which one is taken, and what is said where none is open."""

from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import libvirt
import pytest
from testinfra.host import Host

from reclaim.base.errors import AgentAbsent, AgentBlocked, AgentFrozen, ProbeError
from reclaim.base.verdict import Verdict
from reclaim.changes import power
from reclaim.handles import master, ssh
from reclaim.handles.ssh import Address, Connection, OtherMachine, SshRefused
from reclaim.inventory import GuestNotes, Inventory, Ssh, SshOfGuests
from tests.support import (
    InhabitedGuest,
    Inside,
    InsideBackend,
    disk_xml,
    engine,
    inhabited,
    requirement,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reclaim.handles.guest import Guest

NIC = "<interface type='user'><mac address='52:54:00:00:00:0{}'/></interface>"
ABSENT = AgentAbsent("one: there is no guest agent channel")
BLOCKED = AgentBlocked("one: the guest agent does not allow guest-exec")
CONFINED = "system_u:system_r:virt_qemu_ga_t:s0\n"
WRONG = {"/etc/fstab": "/dev/vda1 / ext4 defaults 0 1\n"}


@dataclass
class Door:
    """What is behind ssh: an inside, or the error it ends with."""

    within: Inside = field(default_factory=Inside)
    refused: ProbeError | None = None
    opened: int = 0
    closed: int = 0

    def connect(self, guest: Guest, settings: Ssh) -> Connection:
        self.opened += 1
        if self.refused:
            raise self.refused
        backend: Any = InsideBackend(self.within)
        backend.settings, backend.host, backend.hang_up = settings, SimpleNamespace(user=settings.user), self.close
        return Connection(Host(backend), backend, Address("192.0.2.7", "libvirt's leases"), guest.run_id)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    found = Door()
    monkeypatch.setattr(ssh, "connect", found.connect)
    return found


def with_ssh(folder: Path, inside: Inside, **settings: Any) -> InhabitedGuest:
    notes = GuestNotes(ssh=Ssh.model_validate({"user": "admin", "sudo": True, **settings}))
    return inhabited(folder, inside, disk_xml(), inventory=Inventory(guest={"one": notes}))


def judged(folder: Path, guest: Guest, slug: str = "guest-access") -> Any:
    return engine(guest.hypervisor, folder, force=True).run(requirement(slug), subject(guest))


@pytest.mark.parametrize("problem", [None, ABSENT, BLOCKED, ProbeError("one: it did not end within 120 s")])
def test_ssh_is_not_tried_where_nobody_named_it(tmp_path: Path, door: Door, problem: ProbeError | None) -> None:
    others = Inventory(ssh=[SshOfGuests(guests=["web*"], user="root")], guest={"one": GuestNotes(thick=True)})
    guest = inhabited(tmp_path, Inside(problem=problem), disk_xml(), inventory=others)
    judged(tmp_path, guest)
    assert door.opened == 0


def test_nor_where_the_agent_runs_commands(tmp_path: Path, door: Door) -> None:
    result = judged(tmp_path, with_ssh(tmp_path, Inside()))
    assert (result.verdict, result.evidence) == (
        Verdict.COMPLIANT,
        "its agent runs commands for reclaim: Debian GNU/Linux 12 (bookworm)",
    )
    assert door.opened == 0


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param(Inside(problem=ABSENT), id="agent-absent"),
        pytest.param(Inside(problem=BLOCKED), id="guest-exec-blocked"),
        pytest.param(Inside(problem=ProbeError("one: a command did not end within 120 s")), id="agent-hangs"),
        pytest.param(Inside(context=CONFINED), id="confined"),
    ],
)
def test_ssh_mends_where_the_agent_does_not(tmp_path: Path, door: Door, inside: Inside) -> None:
    """Refused, fixed, accepted, and nothing to do the second time: all of it by ssh, over one connection."""
    guest = with_ssh(tmp_path, inside)
    door.within.files |= WRONG
    access = judged(tmp_path, guest)
    assert access.verdict is Verdict.COMPLIANT
    assert access.evidence.startswith(
        "ssh to admin@192.0.2.7 (libvirt's leases) with sudo runs commands for reclaim: Debian GNU/Linux 12"
    )
    result = judged(tmp_path, guest, "fstab-uuid")
    assert result.verdict is Verdict.FIXED, result.reason
    assert door.within.files["/etc/fstab"].startswith("UUID=")
    again = judged(tmp_path, guest, "fstab-uuid")
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    assert inside.ran == []
    assert door.opened == 1


def test_ssh_may_be_preferred(tmp_path: Path, door: Door) -> None:
    guest = with_ssh(tmp_path, Inside(), prefer=True)
    assert judged(tmp_path, guest).evidence.startswith("ssh to ")
    door.refused = SshRefused("one: ssh to 192.0.2.7: it does not answer")
    other = with_ssh(tmp_path, Inside(), prefer=True)
    assert judged(tmp_path, other).evidence == (
        "its agent runs commands for reclaim: Debian GNU/Linux 12 (bookworm); one: ssh to 192.0.2.7: it does not answer"
    )


@pytest.mark.parametrize("problem", [ABSENT, BLOCKED])
def test_where_no_way_is_open_both_reasons_are_told(tmp_path: Path, door: Door, problem: ProbeError) -> None:
    door.refused = SshRefused("one: ssh to 192.0.2.7 (inventory): sudo asks for a password")
    guest = with_ssh(tmp_path, Inside(problem=problem))
    result = judged(tmp_path, guest)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.startswith(f"{problem}; ssh to 192.0.2.7 (inventory): sudo asks for a password")
    assert result.changes == []
    assert ("allow guest-exec" if problem is BLOCKED else "the inventory names ssh for it") in result.reason
    assert type(guest.look_inside()) is type(problem)  # what typed calls suffice for goes on
    result = judged(tmp_path, guest, "fstab-uuid")
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert "sudo asks for a password (see guest-access)" in result.reason


def test_another_machine_at_the_address_is_an_error(tmp_path: Path, door: Door) -> None:
    door.refused = OtherMachine("one: ssh to 192.0.2.7 (the host's ARP table): another machine answers there")
    guest = with_ssh(tmp_path, Inside(problem=ABSENT))
    result = judged(tmp_path, guest)
    assert result.verdict is Verdict.ERROR
    assert "another machine answers there" in result.reason


def test_windows_is_not_looked_into_by_ssh(tmp_path: Path, door: Door) -> None:
    guest = with_ssh(tmp_path, Inside(problem=ProbeError("one: the guest agent failed guest-exec")))
    guest.answers["guest-get-osinfo"] = lambda: {"id": "mswindows", "pretty-name": "Windows Server 2019"}
    assert judged(tmp_path, guest).verdict is Verdict.NOT_ASSESSABLE
    assert door.opened == 0


@pytest.mark.parametrize("refused", [SshRefused("one: ssh to 192.0.2.7: it does not answer"), ProbeError("one: late")])
@pytest.mark.parametrize("system", ["mswindows", "freebsd"])
def test_nor_is_another_system_where_ssh_is_preferred(
    tmp_path: Path, door: Door, system: str, refused: ProbeError
) -> None:
    guest = with_ssh(tmp_path, Inside(problem=ProbeError("one: the guest agent failed guest-exec")), prefer=True)
    guest.answers["guest-get-osinfo"] = lambda: {"id": system, "pretty-name": "Another"}
    door.refused = refused
    result = judged(tmp_path, guest)
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert "which reclaim neither looks into nor changes" in result.reason


def test_a_guest_that_is_frozen_is_no_finding_and_not_logged_into(tmp_path: Path, door: Door) -> None:
    guest = with_ssh(tmp_path, Inside(problem=AgentFrozen("one: its filesystems are frozen")))
    result = judged(tmp_path, guest)
    assert (result.verdict, result.changes) == (Verdict.ERROR, [])
    assert "its filesystems are frozen" in result.reason
    assert door.opened == 0


# A confined agent -----------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [False, True], ids=["no-ssh", "ssh-refused"])
def test_a_confined_agent_mends_nothing(tmp_path: Path, door: Door, *, refused: bool) -> None:
    inside = Inside(context=CONFINED)
    inside.files |= WRONG
    door.refused = SshRefused("one: ssh to 192.0.2.7: it does not answer")
    guest = with_ssh(tmp_path, inside) if refused else inhabited(tmp_path, inside, disk_xml())
    assert verdict_of(guest, "guest-access") is Verdict.COMPLIANT
    for mode in ("plan", "fix"):
        result = engine(guest.hypervisor, tmp_path, mode).run(requirement("fstab-uuid"), subject(guest))
        assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
        assert "withheld: SELinux confines the commands of its agent (virt_qemu_ga_t)" in result.reason
        assert ("it does not answer" if refused else "[guest.one.ssh]") in result.reason
    assert inside.files["/etc/fstab"] == WRONG["/etc/fstab"]
    assert inside.ran == []


def test_where_selinux_only_warns_the_agent_mends(tmp_path: Path, door: Door) -> None:
    inside = Inside(context=f"{CONFINED}\nwritable\n")
    inside.files |= WRONG
    guest = with_ssh(tmp_path, inside)
    assert judged(tmp_path, guest, "fstab-uuid").verdict is Verdict.FIXED
    assert door.opened == 0


# The connection -------------------------------------------------------------------------------


def test_after_a_start_the_guest_is_looked_for_again(tmp_path: Path, door: Door) -> None:
    door.within.commands["true"] = lambda _: 0
    guest = with_ssh(tmp_path, Inside(problem=ABSENT))
    assert guest.is_answering()
    assert guest.is_answering()
    assert (door.opened, door.closed) == (1, 0)
    guest.domain.destroy()
    guest.domain.create()
    guest.forget()
    assert guest.is_answering()
    assert (door.opened, door.closed) == (2, 1)
    door.refused = SshRefused("one: ssh to 192.0.2.7: it does not answer")
    guest.domain.destroy()
    guest.domain.create()
    assert not guest.is_answering()


def test_a_guest_whose_libvirtd_restarts_does_not_answer_yet(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cycle waits on; a libvirtError would be taken for a QEMU that does not start, and rolled back."""
    door.within.commands["true"] = lambda _: 0
    guest = with_ssh(tmp_path, Inside(problem=ABSENT))
    assert guest.is_answering()

    def hung_up(*_: object) -> None:
        raise libvirt.libvirtError("internal error: client socket is closed")

    with monkeypatch.context() as patched:
        patched.setattr(libvirt.virConnect, "lookupByUUIDString", hung_up)
        assert not guest.is_answering()
    assert guest.is_answering()


def test_a_connection_that_broke_is_made_anew_once(tmp_path: Path, door: Door) -> None:
    guest = with_ssh(tmp_path, Inside(problem=ABSENT))
    assert judged(tmp_path, guest).verdict is Verdict.COMPLIANT
    stale, door.within = door.within, Inside()
    stale.problem = ProbeError("one: ssh to 192.0.2.7: the connection broke while a command ran")
    guest.forget()
    assert judged(tmp_path, guest).verdict is Verdict.COMPLIANT
    assert door.opened == 2
    door.within.problem = stale.problem
    guest.forget()
    assert judged(tmp_path, guest).verdict is Verdict.ERROR
    assert door.opened == 4 - 1


def test_an_agent_that_cannot_hear_is_not_waited_for(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = with_ssh(tmp_path, Inside(problem=ABSENT))
    waited: list[float] = []
    monkeypatch.setattr(power, "_press_button", lambda guest: guest.domain.shutdown() == 0)
    before = power._is_off_within

    def is_off(guest: Guest, seconds: float) -> bool:
        waited.append(seconds)
        return before(guest, seconds)

    monkeypatch.setattr(power, "_is_off_within", is_off)
    power.shut_down(guest)
    assert len(waited) == 1
    assert not guest.domain.isActive()


def test_a_trim_by_ssh_is_counted(tmp_path: Path, door: Door) -> None:
    said = "/: 1.5 GiB (1610612736 bytes) trimmed on /dev/sda1\n/srv: 4 KiB (4096 bytes) trimmed on /dev/sdb1\n"

    def run(command: str) -> tuple[int, bytes, bytes]:
        return (
            (64, said.encode(), b"fstrim: /old: not supported\n")
            if command == "LC_ALL=C fstrim -av"
            else before(command)
        )

    before: Callable[[str], tuple[int, bytes, bytes]] = door.within.run
    door.within.run = run  # type: ignore[method-assign]
    guest = with_ssh(tmp_path, Inside(problem=ABSENT))
    [change] = requirement("trim-backlog").fixer(subject(guest, "vda").disk)
    note = change.apply(guest)["note"]
    assert note.endswith("; the guest reports a trim of 1610616832 bytes; not /old: not supported")


def test_without_an_address_the_inventory_is_asked_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt.virDomain, "interfaceAddresses", lambda *_: {})
    guest = with_ssh(tmp_path, Inside(problem=ABSENT))
    result = judged(tmp_path, guest)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "by ssh: its address is not known: no DHCP lease of libvirt's networks" in result.reason
    assert '[guest.one.ssh]: address = "…"' in result.reason


@pytest.mark.skipif(not os.access("/tmp", os.W_OK), reason="this user cannot write in /tmp")
def test_sockets_have_names_short_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / ("long" * 30)))
    folder = master.folder_of_sockets()
    path = folder / ("x" * (12 + 17))  # our name, and what ssh(1) adds while it binds
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    path.unlink()
    folder.rmdir()
