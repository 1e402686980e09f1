"""ssh into a guest: its addresses, and what it sends: an answer or a ProbeError, bounded, and no process stays."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import pytest
from testinfra.backend.local import LocalBackend
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from reclaim.base.errors import ProbeError
from reclaim.handles import ssh
from reclaim.handles.agent import OUTPUT_BYTES
from reclaim.handles.ssh import Address, GuestSsh, OtherMachine, SshRefused
from reclaim.inventory import GuestNotes, Inventory, Ssh
from tests import support
from tests.support import (
    InhabitedGuest,
    Inside,
    InsideBackend,
    disk_xml,
    executable,
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
    executable(tool, f"#!/bin/sh\necho $$ >{session}\n{what}\n")
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


# A command in the guest -----------------------------------------------------------------------

#: an ssh(1) that takes the mark out of the script, and says that it is {who} on the machine {uuid}
_GUEST = """mark=$(sed -n "s/.* is %s %s.n' \\([0-9a-f]\\{{16\\}}\\) .*/\\1/p")
echo motd; echo "$mark is {who} {uuid}"; echo banner >&2
"""
_RAN = """echo "$mark begin" >&2; printf 'out'; printf 'err' >&2; echo "$mark end 3"; echo "$mark end 3" >&2
"""
ONE = support.uuid_of("one")


def _runs(folder: Path, then: str = _RAN, *, who: str = "0", uuid: str = ONE) -> None:
    _answer(folder, _GUEST.format(who=who, uuid=uuid) + then)


@pytest.mark.parametrize("uuid", [ONE, ONE.upper(), str(UUID(bytes_le=UUID(ONE).bytes))])
def test_a_command_gives_its_status_and_outputs(tmp_path: Path, backend: GuestSsh, uuid: str) -> None:
    _runs(tmp_path, uuid=uuid)
    done = backend.run("true", seconds=20)
    assert (done.exit_status, done.stdout, done.stderr) == (3, "out", "err")


@pytest.mark.parametrize(
    ("answer", "error", "fact"),
    [
        ({"who": "1000"}, SshRefused, "uid 1000"),
        ({"uuid": "-"}, SshRefused, "no machine UUID"),
        ({"uuid": support.uuid_of("two")}, OtherMachine, support.uuid_of("two")),
    ],
)
def test_another_user_or_machine_is_none_of_ours(
    tmp_path: Path, backend: GuestSsh, answer: dict[str, str], error: type[ProbeError], fact: str
) -> None:
    _runs(tmp_path, **answer)
    with pytest.raises(error, match=fact):
        backend.run("true", seconds=20)


def test_a_connection_that_breaks_is_no_end_of_the_command(tmp_path: Path, backend: GuestSsh) -> None:
    _runs(tmp_path, 'echo "$mark begin" >&2; echo half; exit 255')
    with pytest.raises(ProbeError, match="broke") as caught:
        backend.run("true", seconds=20)
    assert not isinstance(caught.value, SshRefused | OtherMachine)


@pytest.mark.parametrize(
    ("said", "status", "facts"),
    [
        pytest.param("Permission denied (publickey).", 255, ["refuses the login", "publickey"], id="denied"),
        pytest.param("Received disconnect: Too many authentication failures", 255, ["refuses the"], id="too-many"),
        pytest.param(
            "Host key verification failed.", 255, ["ssh-keyscan -t ed25519 192.0.2.1", "~/.ssh/known_hosts"], id="new"
        ),
        pytest.param(
            "No ED25519 host key is known for x and you have requested strict checking.", 255, ["keyscan"], id="unknown"
        ),
        pytest.param(
            "@ REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            255,
            ["ssh-keygen -f ~/.ssh/known_hosts -R 192.0.2.1"],
            id="changed",
        ),
        pytest.param(
            "WARNING: REVOKED HOST KEY DETECTED!\nHost key verification failed.", 255, ["keygen"], id="revoked"
        ),
        pytest.param("Bad owner or permissions on /root/.ssh/config", 255, ["/root/.ssh/config"], id="bad-owner"),
        pytest.param("ssh: connect to host x: Connection refused", 255, ["does not answer", "refused"], id="refused"),
        pytest.param("", 255, ["PerSourcePenalties", "no output"], id="nothing"),
        pytest.param("sudo: a password is required", 1, ["NOPASSWD", "the user ALL"], id="sudo"),
        pytest.param("sudo: sorry, you must have a tty to run sudo", 1, ["NOPASSWD"], id="sudo-tty"),
        pytest.param("This account is currently not available.", 1, ["no shell", "not available"], id="nologin"),
        pytest.param("one\ntwo\n\x1b[31mthree", 1, ["two; \\x1b[31mthree"], id="the-last-two-lines"),
    ],
)
def test_who_is_not_let_in_is_told_why(
    tmp_path: Path, backend: GuestSsh, said: str, status: int, facts: list[str]
) -> None:
    (tmp_path / "said").write_text(said, encoding="utf-8")
    _answer(tmp_path, f"cat {tmp_path / 'said'} >&2; exit {status}")
    with pytest.raises(SshRefused) as caught:
        backend.run("true", seconds=20)
    words = str(caught.value)
    assert [fact for fact in facts if fact not in words] == []
    assert words.startswith("one: ssh to 192.0.2.1 (inventory): ")
    assert "one;" not in words


def test_without_ssh_that_is_said(tmp_path: Path, backend: GuestSsh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    with pytest.raises(SshRefused, match="openssh-client"):
        backend.run("true", seconds=20)


# How ssh is called ----------------------------------------------------------------------------


def _options(backend: GuestSsh) -> dict[str, str]:
    words = backend._argv()
    pairs = [words[place + 1] for place, word in enumerate(words) if word == "-o"]
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_nothing_that_a_guest_could_use_is_left_open(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside())
    options = _options(GuestSsh(guest, Ssh(), Address("192.0.2.7", "libvirt's leases")))
    assert options["StrictHostKeyChecking"] == "yes"
    assert options["BatchMode"] == "yes"
    for name in ("UpdateHostKeys", "ForwardAgent", "ForwardX11", "PermitLocalCommand", "RequestTTY"):
        assert options[name] == "no", name
    assert options["HostKeyAlias"] == "one"
    assert "IdentitiesOnly" not in options
    assert "UserKnownHostsFile" not in options


def test_the_inventory_says_how(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside())
    where: dict[str, Any] = {"port": 2222, "address": "2001:db8::1", "known_hosts": "/known hosts"}
    ssh_of = Ssh.model_construct(user="an admin", key=Path("/k y"), sudo=True, **where)
    backend = GuestSsh(guest, ssh_of, Address("2001:db8::1", "inventory"))
    options, words = _options(backend), backend._argv()
    assert options["IdentitiesOnly"] == "yes"
    assert options["UserKnownHostsFile"] == '"/known hosts"'
    assert "HostKeyAlias" not in options
    assert words[words.index("-i") + 1] == "/k y"
    assert options["Port"] == "2222"
    assert words[-1].startswith("sudo -n /bin/sh ")
    assert "2001:db8::1" in words


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("web.example-1_a", "web.example-1_a"),
        ("WEB", "web"),
        ("-oProxyCommand=x", None),
        ("web*", None),
        ("a b", None),
        ("é", None),
        ("@cert-authority", None),
    ],
)
def test_the_host_key_has_a_name_that_known_hosts_can_hold(tmp_path: Path, name: str, alias: str | None) -> None:
    guest = inhabited(tmp_path, Inside(), name=name)
    backend = GuestSsh(guest, Ssh(), Address("192.0.2.7", "libvirt's leases"))
    assert backend.alias == (alias or guest.uuid)
    assert GuestSsh(guest, Ssh(address="x"), Address("x", "inventory")).alias is None


# The connection -------------------------------------------------------------------------------


def test_the_next_address_is_tried_and_no_more_than_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    places = [Address(f"192.0.2.{number}", "leases") for number in range(1, 9)]
    monkeypatch.setattr(ssh, "addresses", lambda *_: iter(places))

    def run(backend: GuestSsh, _command: str, **_more: object) -> None:
        tried.append(backend.address.host)
        if backend.address.host != "192.0.2.3":
            raise refusal

    refusal: ProbeError = SshRefused("one: no")
    monkeypatch.setattr(GuestSsh, "run", run)
    guest = inhabited(tmp_path, Inside())
    connection = ssh.connect(guest, Ssh())
    assert (connection.address.host, connection.run) == ("192.0.2.3", guest.run_id)
    assert tried == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    places.remove(places[2])
    tried.clear()
    with pytest.raises(SshRefused):
        ssh.connect(guest, Ssh())
    assert tried == ["192.0.2.1", "192.0.2.2", "192.0.2.4", "192.0.2.5"]
    refusal = ProbeError("one: late")
    tried.clear()
    with pytest.raises(ProbeError, match="late"):
        ssh.connect(guest, Ssh())
    assert tried == ["192.0.2.1"], "what does not answer in time is not waited for again"


def test_the_error_is_that_of_the_first_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "addresses", lambda *_: iter([Address("a", "x"), Address("b", "x")]))

    def run(backend: GuestSsh, _command: str, **_more: object) -> None:
        raise OtherMachine(f"at {backend.address.host}")

    monkeypatch.setattr(GuestSsh, "run", run)
    with pytest.raises(OtherMachine, match="at a"):
        ssh.connect(inhabited(tmp_path, Inside()), Ssh())


def test_a_socket_that_is_left_is_removed_and_a_missing_one_costs_no_ssh(tmp_path: Path, backend: GuestSsh) -> None:
    session = _answer(tmp_path, "exit 0")
    backend.hang_up()
    assert not session.exists()
    Path(str(backend.controlpath)).touch()
    backend.hang_up()
    assert session.exists()
    assert not Path(str(backend.controlpath)).exists()
