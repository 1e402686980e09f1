"""ssh into a guest: its addresses, and what it sends: an answer or a ProbeError, bounded, and no process stays."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any

import libvirt
import pytest
from testinfra.backend.local import LocalBackend
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from reclaim.base.errors import ProbeError
from reclaim.handles import ssh
from reclaim.handles.agent import OUTPUT_BYTES
from reclaim.handles.ssh import Address, GuestSsh, SshRefused
from reclaim.inventory import GuestNotes, Inventory, Ssh
from tests import support
from tests.support import (
    InhabitedGuest,
    Inside,
    InsideBackend,
    disk_xml,
    inhabited,
    opened,
)

#: each ends in a tool that never ends, where it matters
_ANSWERS = {
    "stdout": "exec yes",
    "stderr": "exec yes >&2",
    "both": "yes & exec yes >&2",
    "no-utf8": "printf '\\377\\376\\033[31m<script>\\n'; printf '\\377\\033]0;x\\007\\n' >&2; exit 255",
    "closes": "exit 0",
    "wide": "head -c 1500000 /dev/zero | tr '\\0' ' '; exit 3",
    "no-line": "head -c 1500000 /dev/zero >&2; exit 3",
    "mark-of-another": "echo 0123456789abcdef is 0 x; echo 0123456789abcdef end 0; exit 0",
    "drips": "while :; do printf x; sleep 0.1; done",
    "never": "sleep 1000 & wait",
}


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuestSsh:
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    (tmp_path / "tools").mkdir()
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", -9)  # of what is waited for beside the command itself
    guest = inhabited(tmp_path, Inside())
    return GuestSsh(guest, Ssh(address="192.0.2.1"), Address("192.0.2.1", "inventory"))


def _answer(folder: Path, what: str) -> Path:
    """An ssh(1) that does *what*; it writes down its own session, to be looked for."""
    tool, session = folder / "tools/ssh", folder / "session"
    tool.write_text(f"#!/bin/sh\necho $$ >{session}\n{what}\n", encoding="utf-8")
    tool.chmod(0o755)
    return session


def _members(session: int) -> list[int]:
    """The processes of a session that have not ended (proc(5), stat)."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            words = (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] not in "ZX" and int(words[3]) == session:
            found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("what", _ANSWERS)
def test_what_a_guest_sends_is_a_problem_in_one_line(tmp_path: Path, backend: GuestSsh, what: str) -> None:
    session = _answer(tmp_path, _ANSWERS[what])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ProbeError) as caught:
        backend.run(":", seconds=1)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * OUTPUT_BYTES // 1024
    end = time.monotonic() + 30
    while left := _members(int(session.read_text("ascii"))):
        assert time.monotonic() < end, left
        time.sleep(0.02)


def test_what_comes_in_many_pieces_is_read_in_linear_time(
    tmp_path: Path, backend: GuestSsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that has come is copied each time that more comes."""
    _answer(tmp_path, "head -c 1900000 /dev/zero; exit 3")
    pieces: list[int] = []
    ours = ssh._Marks.are_complete

    def counted(marks: ssh._Marks, stdout: bytearray, stderr: bytearray) -> bool:
        pieces.append(id(stdout))
        return ours(marks, stdout, stderr)

    monkeypatch.setattr(ssh._Marks, "are_complete", counted)
    with pytest.raises(ProbeError):
        backend.run(":", seconds=30)
    assert len(pieces) > 1
    assert len(set(pieces)) == 1


NIC = "<interface type='user'><mac address='52:54:00:00:00:0{}'/></interface>"


def with_ssh(folder: Path, inside: Inside, **settings: Any) -> InhabitedGuest:
    notes = GuestNotes(ssh=Ssh.model_validate({"user": "admin", "sudo": True, **settings}))
    return inhabited(folder, inside, disk_xml(), inventory=Inventory(guest={"one": notes}))


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        (b"motd\nM is 0 u\nout\nM end 3\n", b"a banner\nM begin\nerr\nM end 3\n", (3, b"out\n", b"err\n")),
        (b"M is 0 u\nM end 9\nM end 0\n", b"M begin\nM end 0\n", (0, b"M end 9\n", b"")),
        (b"M is 0 u\nout", b"M begin\n", None),
        (b"M end 0\nM is 0 u", b"M begin\nM end 0\n", None),
        (b"M is 0 u\nM end 0\n", b"M end 0\nM begin\n", None),
        (b"M is 0 u\nM end 0\n", b"M end 0\n", None),
    ],
)
def test_what_stands_between_the_marks(stdout: bytes, stderr: bytes, expected: object) -> None:
    """Root in the guest can read the mark, and say it where it likes."""
    assert ssh._Marks(b"M").between(stdout, stderr) == expected


LEASE = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE


ARP = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP


def _interface(mac: str | None, *addresses: str) -> dict[str, Any]:
    """As libvirt-python returns one."""
    return {"hwaddr": mac, "addrs": [{"addr": one, "prefix": 24, "type": 0} for one in addresses] or None}


def _typed(mac: str, *addresses: str) -> dict[str, Any]:
    """As guest-network-get-interfaces has one (QEMU's qapi-schema.json)."""
    listed = [{"ip-address": one, "ip-address-type": "ipv4", "prefix": 24} for one in addresses]
    return {"name": "eth0", "hardware-address": mac, "ip-addresses": listed}


def _found(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: dict[int, Any],
    agent: Any = None,
    settings: Ssh | None = None,
) -> list[str]:
    guest = inhabited(folder, Inside(), disk_xml(), NIC.format(1), NIC.format(2))

    def addresses(_domain: Any, source: int, _flags: int) -> Any:
        answer = told.get(source, {})
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(libvirt.virDomain, "interfaceAddresses", addresses)
    if agent is not None:
        guest.answers["guest-network-get-interfaces"] = lambda: agent
    try:
        return [str(one) for one in ssh.addresses(guest, settings or Ssh())]
    except SshRefused as exc:
        return [str(exc)]


FIRST, SECOND = "52:54:00:00:00:01", "52:54:00:00:00:02"


@pytest.mark.parametrize(
    ("told", "agent", "expected"),
    [
        pytest.param(
            {LEASE: {"vnet0": _interface(FIRST, "192.0.2.7")}}, None, ["192.0.2.7 (libvirt's leases)"], id="lease"
        ),
        pytest.param(
            {LEASE: {"vnet0": _interface(FIRST, "192.0.2.7")}, ARP: {"vnet0": _interface(FIRST, "192.0.2.9")}},
            [_typed(FIRST, "192.0.2.8")],
            ["192.0.2.7 (libvirt's leases)", "192.0.2.8 (its agent)", "192.0.2.9 (the host's ARP table)"],
            id="leases-stand-before-the-others",
        ),
        pytest.param({}, [_typed(FIRST.upper(), "192.0.2.8")], ["192.0.2.8 (its agent)"], id="agent"),
        pytest.param(
            {ARP: {"vnet0": _interface(FIRST, "192.0.2.9")}}, None, ["192.0.2.9 (the host's ARP table)"], id="arp"
        ),
        pytest.param(
            {
                LEASE: {
                    "vnet1": _interface(SECOND, "192.0.2.1"),
                    "vnet0": _interface(FIRST, "2001:db8::7", "192.0.2.20", "192.0.2.7"),
                }
            },
            None,
            [f"{one} (libvirt's leases)" for one in ("192.0.2.7", "192.0.2.20", "2001:db8::7", "192.0.2.1")],
            id="several-in-one-order",
        ),
        pytest.param(
            {},
            [
                _typed(FIRST, "127.0.0.1", "169.254.3.4", "fe80::1", "224.0.0.1", "0.0.0.0", "-oProxyCommand=x", "::1"),
                _typed("02:42:00:00:00:01", "172.17.0.1"),
                "gibberish",
                {"hardware-address": FIRST, "ip-addresses": "192.0.2.8"},
                {"hardware-address": FIRST, "ip-addresses": [7]},
            ],
            [],
            id="what-leads-elsewhere",
        ),
        pytest.param(
            {}, [_typed(FIRST, "2001:db9::1%x;touch /tmp/x;'", "2001:db9::1%eth0")], [], id="words-behind-an-address"
        ),
        pytest.param({}, {"a": 1}, [], id="no-list"),
        pytest.param({LEASE: {"vnet0": _interface(None, "192.0.2.7")}}, None, [], id="no-mac"),
        pytest.param({LEASE: {"vnet0": _interface(FIRST)}}, None, [], id="no-address"),
    ],
)
def test_where_a_guest_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[int, Any], agent: Any, expected: list[str]
) -> None:
    found = _found(tmp_path, monkeypatch, told, agent)
    if expected:
        assert found == expected
    else:
        assert "its address is not known" in found[0]


def test_the_inventorys_address_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {LEASE: {"vnet0": _interface(FIRST, "192.0.2.7")}}
    assert _found(tmp_path, monkeypatch, told, settings=Ssh(address="web.example")) == ["web.example (inventory)"]


def test_a_source_that_libvirt_cannot_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsupported, failed = libvirt.libvirtError(""), libvirt.libvirtError("")
    unsupported.err = (libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, 0, "not supported", 0, "", None, None, 0, 0)
    failed.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, "the leases file is broken", 0, "", None, None, 0, 0)
    told: dict[int, Any] = {LEASE: unsupported, ARP: {"vnet0": _interface(FIRST, "192.0.2.9")}}
    assert _found(tmp_path, monkeypatch, told) == ["192.0.2.9 (the host's ARP table)"]
    assert _found(tmp_path, monkeypatch, {**told, LEASE: failed}) == ["192.0.2.9 (the host's ARP table)"]
    (said,) = _found(tmp_path, monkeypatch, {LEASE: failed})
    assert "ARP table (libvirt's leases: the leases file is broken); give it one" in said


def test_where_libvirt_cannot_read_the_arp_table_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of Linux' /proc/net/arp; libvirt 9.0's words on Linux 6.18."""
    failed = libvirt.libvirtError("")
    failed.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, "wrong nlmsg len", 0, "", None, None, 0, 0)
    table = (
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        f"192.0.2.3        0x1         0x0         {SECOND}     *        virbr7\n"
        f"192.0.2.33       0x1         0x2         {FIRST}     *        virbr7\n"
        "192.0.2.44       0x1         0x2         52:54:00:00:00:99     *        virbr7\n"
    )
    shell = Inside()
    monkeypatch.setattr(shell, "run", lambda command: (0, table.encode(), b"") if command == "cat /proc/net/arp" else 1)
    before = opened

    def with_shell(*arguments: Any, **more: Any) -> Any:
        hypervisor = before(*arguments, **more)
        hypervisor.shell = Host(InsideBackend(shell))
        return hypervisor

    monkeypatch.setattr(support, "opened", with_shell)
    assert _found(tmp_path, monkeypatch, {ARP: failed}) == ["192.0.2.33 (the host's ARP table)"]


def test_guests_of_another_machine_are_reached_through_it(tmp_path: Path) -> None:
    guest = with_ssh(tmp_path, Inside())
    guest.hypervisor.shell = Host(SshBackend("root@kvm1:2222", ssh_config="/etc/50%.conf"))
    backend = ssh.GuestSsh(guest, Ssh(), Address("192.0.2.7", "libvirt's leases"))
    assert (
        "ProxyCommand=ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o LogLevel=ERROR -F /etc/50%%.conf "
        "-l root -p 2222 -W '[%h]:%p' -- kvm1"
    ) in backend._argv()
    direct = ssh.GuestSsh(guest, Ssh(address="web.example"), Address("web.example", "inventory"))
    assert "ProxyCommand" not in " ".join(direct._argv())


def test_a_hypervisor_that_ssh_does_not_lead_through_says_so(tmp_path: Path) -> None:
    class Paramiko(LocalBackend):  # type: ignore[misc]
        NAME = "paramiko"

    guest = with_ssh(tmp_path, Inside())
    guest.hypervisor.shell = Host(Paramiko())
    with pytest.raises(SshRefused, match="is not reached by ssh, so its guests are not either"):
        ssh.GuestSsh(guest, Ssh(), Address("192.0.2.7", "libvirt's leases"))
