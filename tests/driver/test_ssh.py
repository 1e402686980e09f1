"""ssh into a guest, on a real sshd: who gets in, what comes back, and what is never run."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from reclaim.base.errors import ProbeError
from reclaim.handles import ssh
from reclaim.handles.agent import OUTPUT_BYTES
from reclaim.handles.ssh import Address, GuestSsh, HeldOff, OtherMachine, SshRefused
from reclaim.processes import worker
from tests.sshd import Sshd, listening
from tests.support import disk_xml, domain_xml, hypervisor_of, opened, uuid_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reclaim.handles.guest import Guest
    from reclaim.inventory import Ssh

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with listening(tmp_path_factory.mktemp("sshd"), uuid_of("one").upper()) as one:
        yield one


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    yield hypervisor.guests[0]
    hypervisor.close()


def by_lease(guest: Guest, settings: Ssh) -> GuestSsh:
    """As for an address that libvirt told."""
    return GuestSsh(guest, settings.model_copy(update={"address": None}), Address("127.0.0.1", "libvirt's leases"))


def backend(guest: Guest, settings: Ssh) -> GuestSsh:
    return GuestSsh(guest, settings, Address("127.0.0.1", "inventory"))


USERS = [
    pytest.param("root", False, id="root"),
    pytest.param("admin", True, id="sudo"),
    pytest.param("fish", True, id="fish"),
    pytest.param("tcsh", True, id="csh"),
]


@pytest.mark.parametrize(("user", "sudo"), USERS)
def test_a_command_gives_its_status_and_its_bytes(sshd: Sshd, guest: Guest, user: str, *, sudo: bool) -> None:
    """Whatever the user's shell is and says: the greeting of a start-up file and the banner stay outside."""
    shell = backend(guest, sshd.settings(user, sudo=sudo))
    done = shell.run("printf '\\0\\377\\n\\n'; printf %%s %s >&2; exit 3", "it's `$(me)` \\ ! é")
    assert done.exit_status == 3
    assert done.stdout_bytes == b"\0\xff\n\n"
    assert done.stderr == "it's `$(me)` \\ ! é"
    assert shell.run("id -u; cat; umask; pwd").stdout.split() == ["0", "0022", "/"]


def test_a_script_may_be_as_long_as_one_argument(sshd: Sshd, guest: Guest) -> None:
    shell = backend(guest, sshd.settings())
    text = "ä\n" * 30_000
    assert shell.run("printf %%s %s | wc -c", text).stdout.strip() == str(len(text.encode()))


def test_one_connection_serves_all_commands(sshd: Sshd, guest: Guest) -> None:
    shell = backend(guest, sshd.settings())
    clients = {shell.run('echo "$SSH_CONNECTION"').stdout for _ in range(3)}
    assert len(clients) == 1
    assert oct(guest.hypervisor.sockets.stat().st_mode) == "0o40700"
    shell.hang_up()
    assert not list(guest.hypervisor.sockets.iterdir())
    assert shell.run('echo "$SSH_CONNECTION"').stdout not in clients


def test_a_closed_hypervisor_leaves_nothing(sshd: Sshd, tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    connection = ssh.connect(guest, sshd.settings())
    guest._connection = connection
    (socket,) = guest.hypervisor.sockets.iterdir()
    hypervisor_of(guest).close()
    assert not socket.parent.exists()
    masters = subprocess.run(["pgrep", "-f", str(socket)], capture_output=True, check=False)
    assert masters.stdout == b""


def refusal(guest: Guest, settings: Ssh, *, leased: bool = False) -> str:
    """What is said; nothing was run."""
    shell = by_lease(guest, settings) if leased else backend(guest, settings)
    with pytest.raises(SshRefused) as caught:
        shell.run("touch /run/was-here")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_who_is_not_let_in_is_told_why(sshd: Sshd, guest: Guest, tmp_path: Path) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    assert "refuses the login" in refusal(guest, sshd.settings(key=key))
    assert "sudo asks for a password" in refusal(guest, sshd.settings("asked", sudo=True))
    assert "it runs no shell for this login" in refusal(guest, sshd.settings("nologin", sudo=True))
    assert "it is not root there (uid 6000): set sudo = true" in refusal(guest, sshd.settings("admin"))
    said = refusal(guest, sshd.settings("stranger", sudo=True))
    assert "sudo asks for a password" in said or "not in the sudoers file" in said
    assert not (sshd.folder / "was-here").exists()


def test_nothing_listens(sshd: Sshd, guest: Guest) -> None:
    assert "Connection refused" in refusal(guest, sshd.settings(port=1))


def test_a_host_key_is_never_learned(sshd: Sshd, guest: Guest) -> None:
    unknown = sshd.settings("root", "another")
    before = unknown.known_hosts.read_bytes() if unknown.known_hosts else b""
    said = refusal(guest, unknown)
    assert (
        f"its host key is not known as [127.0.0.1]:{sshd.port}: ssh-keyscan -t ed25519 -p {sshd.port} 127.0.0.1" in said
    )
    said = refusal(guest, unknown, leased=True)
    assert "not known as one: " in said
    assert "sed 's/^[^ ]*/one/'" in said
    assert unknown.known_hosts
    assert unknown.known_hosts.read_bytes() == before


def test_the_advice_makes_the_key_known(sshd: Sshd, guest: Guest, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    for leased, open_shell in ((False, backend), (True, by_lease)):
        known.write_text("")
        settings = sshd.settings(known_hosts=known)
        said = refusal(guest, settings, leased=leased)
        advice = said.partition(": ssh-keyscan")[2].partition(", once ")[0]
        subprocess.run(f"ssh-keyscan{advice}", shell=True, check=True, capture_output=True)
        assert open_shell(guest, settings).run("true").exit_status == 0


def relay(client: socket.socket, port: int) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as there:
        ends = {client: there, there: client}
        while data := (source := select.select([*ends], [], [])[0][0]).recv(65_536):
            ends[source].sendall(data)


@contextmanager
def holding_off(port: int, times: int) -> Iterator[int]:
    """The port of a door that ends so many connections at once, as penalties of sshd do; then it leads to *port*."""

    def serve() -> None:
        with suppress(OSError):  # the end of the listener
            for _ in range(times):
                server.accept()[0].close()
            relay(server.accept()[0], port)

    with socket.create_server(("127.0.0.1", 0)) as server:
        door = threading.Thread(target=serve)
        door.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            door.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long is waited, without waiting."""
    told: list[float] = []
    monkeypatch.setattr(worker, "sleep", told.append)
    return told


def test_an_sshd_that_holds_us_off_is_tried_once_more(sshd: Sshd, guest: Guest, pauses: list[float]) -> None:
    with holding_off(sshd.port, 1) as port:
        connection = ssh.connect(guest, sshd.settings("root", f"[127.0.0.1]:{port}", port=port))
        assert connection.host.run("echo on").stdout == "on\n"
        connection.close()
    assert pauses == [ssh.HELD_OFF_SECONDS]


def test_an_sshd_that_holds_us_off_for_longer_is_named(sshd: Sshd, guest: Guest, pauses: list[float]) -> None:
    with holding_off(sshd.port, 9) as port, pytest.raises(HeldOff) as caught:
        ssh.connect(guest, sshd.settings("root", f"[127.0.0.1]:{port}", port=port))
    assert "its sshd ended the connection before a log-in: " in str(caught.value)
    assert "it may hold this address off (PerSourcePenalties or MaxStartups in its sshd_config)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert pauses == [ssh.HELD_OFF_SECONDS]


def test_a_command_is_not_tried_again_where_it_may_have_run(sshd: Sshd, guest: Guest, pauses: list[float]) -> None:
    with holding_off(sshd.port, 1) as port:
        assert "ended the connection" in refusal(guest, sshd.settings("root", f"[127.0.0.1]:{port}", port=port))
    assert pauses == []


def test_the_penalties_of_a_real_sshd_are_waited_for(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(tmp_path / "strict", uuid_of("one"), "noauth:4s min:1s max:4s") as strict:
        if not strict.has_penalties:
            pytest.skip("this OpenSSH has no PerSourcePenalties: they came with 9.8")
        monkeypatch.setattr(ssh, "HELD_OFF_SECONDS", 6)
        settings = strict.settings()
        # it may be held off itself, by the connection that waited for sshd
        subprocess.run(["ssh-keyscan", "-p", str(strict.port), "127.0.0.1"], capture_output=True, check=False)
        connection = ssh.connect(guest, settings)
        assert connection.host.run("echo on").stdout == "on\n"
        connection.close()


@pytest.mark.parametrize("leased", [False, True], ids=["inventory", "leases"])
def test_another_host_key_is_not_believed(sshd: Sshd, guest: Guest, tmp_path: Path, *, leased: bool) -> None:
    name = "one" if leased else f"[127.0.0.1]:{sshd.port}"
    known = tmp_path / "known_hosts"
    public = (sshd.folder / "user.pub").read_text(encoding="ascii")
    known.write_text(f"{name} {public}", encoding="ascii")
    settings = sshd.settings(known_hosts=known)
    said = refusal(guest, settings, leased=leased)
    assert f"the host key is not the one that is known as {name}" in said
    assert f"ssh-keygen -f {known} -R {name}" in said


def test_the_name_of_a_leased_address_is_the_guests(sshd: Sshd, tmp_path: Path) -> None:
    """Whoever gets the address next has another key; a name that known_hosts cannot hold is the UUID."""
    for name, alias in (("Web-1.example", "web-1.example"), ("my web*", uuid_of("my web*"))):
        hypervisor = opened(tmp_path, domain_xml(disk_xml(), name=name))
        shell = by_lease(hypervisor.guests[0], sshd.settings("root", alias))
        with pytest.raises(OtherMachine):  # the key is right, and the machine is still another's
            shell.run("true")
        hypervisor.close()


@pytest.mark.parametrize(("user", "sudo"), USERS[:2])
def test_another_machine_is_never_touched(sshd: Sshd, guest: Guest, tmp_path: Path, user: str, *, sudo: bool) -> None:
    guest.uuid = uuid_of("another")
    touched = tmp_path / "touched"
    with pytest.raises(OtherMachine, match=f"another machine answers there .UUID {uuid_of('one').upper()}"):
        backend(guest, sshd.settings(user, sudo=sudo)).run("touch %s", str(touched))
    assert not touched.exists()


def test_smbios_of_old_has_its_bytes_in_another_order(sshd: Sshd, guest: Guest) -> None:
    guest.uuid = str(uuid.UUID(bytes_le=uuid.UUID(uuid_of("one")).bytes))
    assert backend(guest, sshd.settings()).run("true").exit_status == 0


#: the sshd that serves the command
DAEMON = "at=$$; until grep -q ^sshd /proc/$at/comm; do at=$(($(ps -o ppid= -p $at))); done"


# Bounds ---------------------------------------------------------------------------------------


def test_a_command_ends_in_time_and_takes_nothing_along(sshd: Sshd, guest: Guest) -> None:
    shell = backend(guest, sshd.settings())
    assert shell.run("echo begun; sleep 600", seconds=1).exit_status == 124
    assert shell.run("echo on").stdout == "on\n"


def test_what_a_command_leaves_behind_is_not_waited_for(sshd: Sshd, guest: Guest) -> None:
    shell = backend(guest, sshd.settings())
    shell.run("true")
    done = shell.run("sleep 77 & echo $!")
    assert done.exit_status == 0
    assert shell.run("kill %s", done.stdout.strip()).exit_status == 0


@pytest.mark.parametrize("stream", ["1", "2"], ids=["output", "error"])
def test_a_flood_is_cut_off(sshd: Sshd, guest: Guest, stream: str) -> None:
    shell = backend(guest, sshd.settings())
    with pytest.raises(ProbeError, match=f"the output of a command has more than {OUTPUT_BYTES} bytes"):
        shell.run(f"yes >&{stream}")
    assert shell.run("echo on").stdout == "on\n"


def test_a_guest_that_hangs_in_the_middle_is_given_up(
    sshd: Sshd, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = backend(guest, sshd.settings())
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", -8)
    daemon = int(shell.run(f"{DAEMON}; echo $at").stdout)
    os.kill(daemon, signal.SIGSTOP)
    try:
        with pytest.raises(ProbeError, match="did not end within"):
            shell.run("true", seconds=1)
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert not list(guest.hypervisor.sockets.iterdir())
    assert shell.run("echo on", seconds=20).stdout == "on\n"


def test_a_connection_that_breaks_is_no_answer(sshd: Sshd, guest: Guest) -> None:
    shell = backend(guest, sshd.settings())
    with pytest.raises(ProbeError, match="the connection broke while a command ran"):
        shell.run(f"{DAEMON}; kill -9 $at; sleep 60")


def test_what_looks_like_our_marks_is_an_output(sshd: Sshd, guest: Guest) -> None:
    shell = backend(guest, sshd.settings())
    text = "0123456789abcdef is 0 -\n0123456789abcdef end 0\n end 1\n"
    assert shell.run("printf %%s %s", text).stdout == text


def test_a_script_whose_end_is_lost_does_nothing(tmp_path: Path) -> None:
    command = f"touch {tmp_path / 'touched'}"
    script = ssh._SCRIPT.replace("MARK", "m").replace("EXPECTED", "*").replace("SECONDS", "9")
    script = script.replace("COMMAND", f"'{command}'")
    for length in range(len(script) - 1):
        if length % 7 == 0 or length > len(script) - 12:
            subprocess.run(
                ["sh", "-c", 'eval "$(cat)"'], input=script[:length].encode(), capture_output=True, check=False
            )
    assert not (tmp_path / "touched").exists()
    subprocess.run(["sh", "-c", 'eval "$(cat)"'], input=script.encode(), capture_output=True, check=True)
    assert (tmp_path / "touched").exists()


# The way there ------------------------------------------------------------------------------


def test_the_first_address_that_lets_us_in_is_taken(sshd: Sshd, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "addresses", lambda *_: iter([Address("127.0.0.2", "a"), Address("127.0.0.1", "b")]))
    connection = ssh.connect(guest, sshd.settings())
    assert str(connection.address) == "127.0.0.1 (b)"
    assert connection.run == guest.run_id
    connection.close()
    monkeypatch.setattr(ssh, "addresses", lambda *_: iter([Address("127.0.0.2", "a"), Address("127.0.0.3", "b")]))
    with pytest.raises(SshRefused, match=r"127\.0\.0\.2"):
        ssh.connect(guest, sshd.settings())


def test_a_guest_of_another_machine_is_reached_through_it(sshd: Sshd, guest: Guest, tmp_path: Path) -> None:
    """The hypervisor is another sshd, and what it connects to sees the connection come from there."""
    with listening(tmp_path / "hypervisor", uuid_of("hypervisor")) as other:
        known = other.settings().known_hosts
        assert known is not None
        config = tmp_path / "ssh config"
        config.write_text(f'UserKnownHostsFile "{known}"\n', encoding="ascii")
        there = SshBackend(f"root@127.0.0.1:{other.port}", ssh_config=str(config), ssh_identity_file=str(other.key))
        guest.hypervisor.shell = Host(there)
        shell = by_lease(guest, sshd.settings("root", "one"))
        assert shell.run("echo on").stdout == "on\n"
        log = (other.folder / "log").read_text(encoding="utf-8")
        assert "Accepted publickey for root" in log
        shell.hang_up()
        known.write_text("")
        said = refusal(guest, sshd.settings("root", "one"), leased=True)
        assert "it does not answer: " in said
        hop = said.partition("the connection goes through the hypervisor: try ")[2]
        told = subprocess.run(hop, shell=True, capture_output=True, text=True, check=False)
        assert "Host key verification failed" in told.stderr
