"""Several hypervisors by ssh: one connection each, whatever is asked, and a line for each that cannot be reached."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest

from reclaim.base.errors import Unreachable
from reclaim.handles.hypervisor import connect
from reclaim.handles.ssh import Address, GuestSsh
from reclaim.inventory import Inventory
from tests.command import ROOT, Outcome, audit, document_of, own_settings, ran, runs
from tests.corpus.hypervisors import Hypervisor, reached_by_ssh
from tests.sshd import listening
from tests.stalls import hung_up, machine, none_left

pytestmark = pytest.mark.sshd

GUESTS = [f"g{number}" for number in range(10)]
#: handshakes that a host may cost
MOST_LOGINS = 4


@contextmanager
def _made(folder: Path, name: str, guests: list[str]) -> Iterator[Hypervisor]:
    try:
        with reached_by_ssh(folder, name, guests) as hypervisor:
            yield hypervisor
    except (OSError, RuntimeError) as exc:
        pytest.skip(f"no hypervisor here: {exc}")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    with _made(tmp_path_factory.mktemp("first") / "kvm", "first", GUESTS) as hypervisor:
        yield hypervisor


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypervisor]:
    with _made(tmp_path_factory.mktemp("other") / "kvm", "other", ["g0", "of-the-other"]) as hypervisor:
        yield hypervisor


def over(reports: Path, *hosts: str, options: tuple[str, ...] = (), **env: str) -> Outcome:
    return audit(reports, "--hosts", ",".join(hosts), *options, uri=None, env=env)


def documents(outcome: Outcome) -> list[dict[str, Any]]:
    return [document_of(run) for run in runs(outcome.reports)]


def test_one_login_serves_a_whole_run(first: Hypervisor, tmp_path: Path) -> None:
    before = first.logins
    outcome = over(tmp_path, first.host)
    assert outcome.status == 1, outcome.said
    assert {row["guest"] for row in outcome.document["results"]} == set(GUESTS)
    assert "error" not in {row["verdict"] for row in outcome.document["results"]}
    assert first.logins - before == 1 <= MOST_LOGINS
    assert hung_up(first.sshd.port)
    assert none_left(str(first.sshd.port))


def test_nothing_shows_how_it_is_reached(first: Hypervisor, tmp_path: Path) -> None:
    """The program that libvirt starts for ssh is ours, and the URI is the user's."""
    outcome = over(tmp_path, first.host, options=("--fix", "-vv"))
    uri = f"qemu+ssh://root@{first.place}/system"
    assert outcome.document["hypervisor"]["uri"] == uri
    assert "command=" not in outcome.said
    for path in outcome.folder.iterdir():
        assert b"command=" not in path.read_bytes(), path
    journal = (outcome.folder / "journal.jsonl").read_text(encoding="utf-8")
    assert json.loads(journal.splitlines()[0])["uri"] == uri


def test_an_address_alone_is_reached_so_too(first: Hypervisor, tmp_path: Path) -> None:
    """The key and no_verify are given to libvirt, and the shell has them by the connection."""
    before = first.logins
    uri = f"qemu+ssh://root@{first.place}/system?keyfile={first.sshd.key}&no_verify=1"
    outcome = audit(tmp_path, "-k", "disk-bus or image-format", uri=uri)
    assert outcome.status == 1, outcome.said
    assert outcome.document["hypervisor"]["uri"] == uri
    assert first.logins - before == 1


def wrong(first: Hypervisor, folder: Path, name: str, *lines: str) -> str:
    """A word for --hosts that has *lines* before the ssh_config of *first*."""
    config = folder / name
    own = first.config.read_text(encoding="utf-8")
    # or ssh would ask who runs the tests
    config.write_text("".join(f"{line}\n" for line in (*lines, "BatchMode yes")) + own, encoding="utf-8")
    return first.host.replace(str(first.config), str(config)).replace("127.0.0.1", "localhost")


def test_each_that_cannot_be_reached_has_its_reason(first: Hypervisor, other: Hypervisor, tmp_path: Path) -> None:
    port = first.sshd.port
    public = (first.sshd.folder / "user.pub").read_text(encoding="ascii")
    changed, unknown, key = tmp_path / "changed", tmp_path / "unknown", tmp_path / "key"
    changed.write_text(f"# a comment\n[localhost]:{port} {public}", encoding="ascii")
    unknown.write_text("", encoding="ascii")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    hosts = [
        wrong(first, tmp_path, "a", f"UserKnownHostsFile {changed}"),
        wrong(first, tmp_path, "b", f"UserKnownHostsFile {unknown}").replace("root@", "admin@"),
        wrong(first, tmp_path, "c", f"IdentityFile {key}", "IdentityAgent none", "StrictHostKeyChecking no").replace(
            "root@", "stranger2@"
        ),
        other.host,
    ]
    with machine("silent") as place:
        outcome = over(tmp_path / "reports", *hosts, f"ssh://root@{place}")
    assert outcome.status == 1, outcome.said
    found = documents(outcome)
    reasons = {row["reason"] for document in found for row in document["results"] if row["verdict"] == "error"}
    assert len(reasons) == 4
    _expect(reasons, f"ssh to root@localhost:{port}: its host key is another than the one that is known")
    _expect(reasons, f"({changed}, line 2)", f"ssh-keygen -f {changed} -R '[localhost]:{port}'")
    _expect(reasons, f"its host key is not known as [localhost]:{port}: log in once by hand (ssh ")
    _expect(reasons, f"ssh to stranger2@localhost:{port}: the login is refused: ", "Permission denied")
    _expect(reasons, f"ssh to root@{place}: ")
    assert not [reason for reason in reasons if "\n" in reason or "@@@" in reason or "Authorized users" in reason]
    judged = [document for document in found if len(document["results"]) > 1]
    assert [document["hypervisor"]["uri"] for document in judged] == [f"qemu+ssh://root@{other.place}/system"]
    assert {row["guest"] for row in judged[0]["results"]} == {"g0", "of-the-other"}


def _expect(reasons: set[str], *words: str) -> None:
    assert [reason for reason in reasons if all(word in reason for word in words)], (words, reasons)


def _paused(hypervisor: Hypervisor) -> int:
    """The process of its libvirtd."""
    run = Path(hypervisor.local.partition("socket=")[2]).parent
    return int((run / "own.pid").read_text(encoding="ascii"))


def test_a_libvirtd_that_hangs_behind_a_sound_sshd_costs_its_row(
    first: Hypervisor, other: Hypervisor, tmp_path: Path
) -> None:
    daemon = _paused(first)
    os.kill(daemon, signal.SIGSTOP)
    try:
        outcome = over(tmp_path, first.host, other.host, options=("--definitions-only",))
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert outcome.status == 1, outcome.said
    (reason,) = {
        row["reason"] for document in documents(outcome) for row in document["results"] if row["verdict"] == "error"
    }
    assert reason.startswith(f"qemu+ssh://root@{first.place}/system: ssh lets us in, and libvirt does not answer ")
    assert hung_up(first.sshd.port)


def test_two_of_one_host_name_have_folders_of_their_own(first: Hypervisor, other: Hypervisor, tmp_path: Path) -> None:
    outcome = over(tmp_path, first.host, other.host, options=("--definitions-only",))
    name = libvirt.open(first.local).getHostname()
    found = {document["hypervisor"]["name"]: document for document in documents(outcome)}
    assert sorted(found) == sorted(f"{name}-{each.place}" for each in (first, other))
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {f"{name}-{each.place}".replace(":", "_") for each in (first, other)}
    assert "g0" in {row["guest"] for row in found[f"{name}-{other.place}"]["results"]}


@pytest.mark.parametrize("mode", ["--definitions-only", "--fix"])
def test_one_by_two_addresses_is_judged_once(first: Hypervisor, tmp_path: Path, mode: str) -> None:
    again = first.host.replace("127.0.0.1", "localhost")
    options = (mode, "-k", "machine-type", "--guests", "g1")
    config = first.config.read_text(encoding="utf-8")
    own = tmp_path / "config"
    own.write_text(f"HostKeyAlias [127.0.0.1]:{first.sshd.port}\n{config}", encoding="utf-8")
    outcome = over(tmp_path / "reports", first.host, again.replace(str(first.config), str(own)), options=options)
    assert outcome.status == 0, outcome.said
    assert f"is the same hypervisor as {first.host}" in outcome.said
    assert len(outcome.document["results"]) == 1
    assert hung_up(first.sshd.port)


@pytest.mark.parametrize("hook", ["itemcollected", "logreport", "sessionfinish"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_who_is_stopped_leaves_no_connection(first: Hypervisor, tmp_path: Path, hook: str, name: str) -> None:
    options = ("-p", "tests.driver.stopper", "--guests", "g0")
    outcome = over(tmp_path, first.host, options=options, STOP_AT=f"{hook}:{name}")
    assert outcome.status == (1 if hook == "sessionfinish" else 2), outcome.said
    assert hung_up(first.sshd.port)
    assert none_left(str(first.sshd.port))


# One connection in this process ---------------------------------------------------------------


def test_a_connection_that_is_lost_is_made_anew(first: Hypervisor) -> None:
    before = first.logins
    hypervisor = connect(None, first.host, Inventory())
    try:
        master = hypervisor.master
        assert master is not None
        exits = ["ssh", "-F", "/dev/null", "-o", f"ControlPath={master.path}", "-O", "exit", "x"]
        subprocess.run(exits, check=True, capture_output=True)
        assert hypervisor.shell.run("echo on").stdout == "on\n"
        with pytest.raises(libvirt.libvirtError):
            hypervisor.connection.listAllDomains(0)
        assert hypervisor.is_cut_off
        hypervisor.reconnect(60)
        assert hypervisor.guests[0].domain.name() == "g0"
        assert first.logins - before == 2
    finally:
        hypervisor.close()
    assert hung_up(first.sshd.port)
    assert not master.folder.exists()


def test_the_socket_is_ours_alone_and_its_path_short(first: Hypervisor) -> None:
    hypervisor = connect(None, first.host, Inventory(), readonly=True)
    try:
        assert hypervisor.master is not None
        path = hypervisor.master.path
        assert path.is_socket()
        assert path.parent.stat().st_mode & 0o7777 == 0o700
        assert len(str(path)) < 100
    finally:
        hypervisor.close()


def test_the_way_to_a_guest_goes_by_the_same_connection(first: Hypervisor, tmp_path: Path) -> None:
    before = first.logins
    hypervisor = connect(None, first.host, Inventory())
    guest = hypervisor.guests[0]
    try:
        with listening(tmp_path / "guest", guest.uuid) as inside:
            settings = inside.settings("root", guest.name).model_copy(update={"address": None})
            shell = GuestSsh(guest, settings, Address("127.0.0.1", "libvirt's leases"))
            assert shell.run("echo on").stdout == "on\n"
            shell.hang_up()
        assert first.logins - before == 1
    finally:
        hypervisor.close()
    assert hung_up(first.sshd.port)


def test_the_users_own_connection_is_used_and_stays(first: Hypervisor, tmp_path: Path) -> None:
    control = Path("/tmp") / f"own-{os.getpid()}"
    config = tmp_path / "config"
    own = first.config.read_text(encoding="utf-8")
    config.write_text(f"ControlPath {control}\nControlPersist 60\n{own}", encoding="utf-8")
    ssh = ["ssh", "-F", str(config), "-p", str(first.sshd.port), "root@127.0.0.1"]
    subprocess.run([*ssh[:1], "-M", "-N", "-f", *ssh[1:]], check=True, stderr=subprocess.DEVNULL)
    before = first.logins
    try:
        hypervisor = connect(None, first.host.replace(str(first.config), str(config)), Inventory())
        assert len(hypervisor.guests) == len(GUESTS)
        assert hypervisor.shell.run("echo on").stdout == "on\n"
        hypervisor.close()
        assert first.logins == before
        subprocess.run([*ssh[:1], "-O", "check", *ssh[1:]], check=True, capture_output=True)
    finally:
        subprocess.run([*ssh[:1], "-O", "exit", *ssh[1:]], check=True, capture_output=True)


def test_where_no_file_can_be_executed_libvirts_ssh_is_its_own(
    first: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount can forbid it for /tmp. Then there is one connection more."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.X_OK and access(path, mode))
    monkeypatch.setenv("HOME", "/nowhere")
    before = first.logins
    uri = f"qemu+ssh://root@{first.place}/system?no_tty=1"
    with pytest.raises(Unreachable, match="cannot connect"):  # libvirt's ssh knows nothing of our ssh_config
        connect(uri, first.host, Inventory())
    assert first.logins - before == 1


# A person is asked ----------------------------------------------------------------------------


def _on_a_terminal(words: list[str], answers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Run the command on a terminal, and answer each question that it asks. Return its status, and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", "reclaim", *words], own_settings("DISPLAY", "SSH_ASKPASS"))
    shown = b""
    with suppress(OSError):  # the end of the terminal
        while data := os.read(terminal, 65_536):
            shown += data
            if answers and answers[0][0] in shown:
                os.write(terminal, answers.pop(0)[1])
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


@pytest.fixture
def locked(first: Hypervisor, tmp_path: Path) -> Path:
    """The ssh_config of a key with a passphrase."""
    key, config = tmp_path / "key", tmp_path / "locked"
    shutil.copy(first.sshd.key, key)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)]
    subprocess.run(change, check=True, capture_output=True)
    known = first.config.read_text(encoding="utf-8").splitlines()[0]
    config.write_text(f"{known}\nIdentityFile {key}\nIdentitiesOnly yes\nIdentityAgent none\n", encoding="utf-8")
    return config


def test_a_passphrase_is_asked_once_on_the_terminal(first: Hypervisor, locked: Path, tmp_path: Path) -> None:
    host = first.host.replace(str(first.config), str(locked))
    words = ["audit", "-k", "disk-bus or image-format", "--reports", str(tmp_path / "reports"), "--hosts", host]
    before = first.logins
    status, shown = _on_a_terminal(words, [(b"Enter passphrase", b"open sesame\n")])
    assert status == 1, shown
    assert shown.count(b"Enter passphrase") == 1
    assert f"reclaim: ssh to root@{first.place} asks:".encode() in shown
    assert first.logins - before == 1
    assert hung_up(first.sshd.port)


def test_an_unknown_key_is_confirmed_on_the_terminal(first: Hypervisor, tmp_path: Path) -> None:
    known, config = tmp_path / "known_hosts", tmp_path / "config"
    own = first.config.read_text(encoding="utf-8")
    config.write_text(f"UserKnownHostsFile {known}\n{own}", encoding="utf-8")
    host = first.host.replace(str(first.config), str(config))
    words = ["audit", "-k", "disk-bus", "--reports", str(tmp_path / "reports"), "--hosts", host]
    status, shown = _on_a_terminal(words, [(b"Are you sure", b"yes\n")])
    assert status == 1, shown
    assert f"[127.0.0.1]:{first.sshd.port}" in known.read_text(encoding="utf-8")


def test_a_person_who_stops_it_there_leaves_nothing(first: Hypervisor, locked: Path, tmp_path: Path) -> None:
    host = first.host.replace(str(first.config), str(locked))
    status, shown = _on_a_terminal(["audit", "--hosts", host], [(b"Enter passphrase", b"\x03")])
    assert status == 2, shown
    assert hung_up(first.sshd.port)
    assert none_left(str(first.sshd.port))


def test_without_a_terminal_nobody_is_asked(first: Hypervisor, locked: Path, tmp_path: Path) -> None:
    host = first.host.replace(str(first.config), str(locked))
    command = [sys.executable, "-m", "reclaim", "audit", "--reports", str(tmp_path / "reports"), "--hosts", host]
    done = ran("setsid", "--wait", *command, env=own_settings("DISPLAY", "SSH_ASKPASS"))
    assert done.returncode == 4
    assert f"ssh to root@{first.place}: the login is refused: " in done.stderr
    assert "asks:" not in done.stderr
