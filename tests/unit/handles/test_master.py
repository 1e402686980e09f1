"""The one connection by ssh to a hypervisor: its limits, why it is not let in, the address for libvirt."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pytest
from testinfra.backend.ssh import SshBackend

from reclaim.base.errors import Unreachable
from reclaim.handles import master as masters
from reclaim.handles.master import LoginRefused, Master, Target, options_of_uri, target_of_shell
from reclaim.processes import child
from tests.support import executable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KVM = Target("kvm1", "root", "2222")
BANNER = "Authorized users only.\r\n"


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh that does what `does` in its folder says; what it was called with is in `called`."""
    executable(tmp_path / "ssh", f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/called\n. {tmp_path}/does\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "does"


def says(does: Path, text: str) -> None:
    """It logs nobody in, and prints *text*."""
    (does.parent / "text").write_text(text, encoding="utf-8")
    does.write_text(f'case "$*" in *"-O check"*) exit 255;; esac\ncat {does.parent}/text >&2\nexit 255\n')


CHANGED = (
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
    "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n"
    "Add correct host key in /root/.ssh/known_hosts to get rid of this message.\r\n"
    "Offending ED25519 key in /root/.ssh/known hosts:12\r\n"
    "  remove with:\r\n"
    "Host key for [kvm1]:2222 has changed and you have requested strict checking.\r\n"
    "Host key verification failed.\r\n"
)
REFUSALS = [
    pytest.param(
        CHANGED,
        Unreachable,
        "ssh to root@kvm1:2222: its host key is another than the one that is known (/root/.ssh/known hosts, line 12): "
        "another machine answers there, or it was set up anew. If you know that it was: ssh-keygen -f "
        "'/root/.ssh/known hosts' -R '[kvm1]:2222', then log in once by hand and compare the new key",
        id="changed",
    ),
    pytest.param(
        "No ED25519 host key is known for alias and you have requested strict checking.\r\n"
        "Host key verification failed.\r\n",
        LoginRefused,
        "ssh to root@kvm1:2222: its host key is not known as alias: log in once by hand (ssh -l root -p 2222 kvm1), ",
        id="unknown",
    ),
    pytest.param(
        "Host key verification failed.\r\n",
        LoginRefused,
        "ssh to root@kvm1:2222: its host key is not known as [kvm1]:2222: ",
        id="unknown-and-asked",
    ),
    pytest.param(
        f"{BANNER}root@kvm1: Permission denied (publickey).\r\n",
        LoginRefused,
        "ssh to root@kvm1:2222: the login is refused: root@kvm1: Permission denied (publickey).; ",
        id="refused",
    ),
    pytest.param(
        "ssh: Could not resolve hostname kvm1: Name or service not known\r\n",
        Unreachable,
        "ssh to root@kvm1:2222: ssh: Could not resolve hostname kvm1: Name or service not known",
        id="no-name",
    ),
    pytest.param(
        "kex_exchange_identification: Connection closed by remote host\r\n",
        Unreachable,
        "ssh to root@kvm1:2222: kex_exchange_identification: Connection closed by remote host; its sshd may hold ",
        id="held-off",
    ),
    pytest.param("", Unreachable, "ssh to root@kvm1:2222: no output", id="silent"),
]


@pytest.mark.parametrize(("text", "kind", "reason"), REFUSALS)
def test_why_it_is_not_let_in_is_one_line(ssh: Path, text: str, kind: type[Unreachable], reason: str) -> None:
    debug = "OpenSSH_9.2p1 Debian, OpenSSL 3.0\r\ndebug1: Reading configuration data\r\n"
    says(ssh, f"{debug}{text}debug1: fd 2 clearing O_NONBLOCK\r\n")
    master = Master(Target("kvm1", "root", "2222", ("-o", "BatchMode=yes")))
    with pytest.raises(Unreachable) as refused:
        master.open()
    master.close()
    assert type(refused.value) is kind
    said = str(refused.value).replace("-o BatchMode=yes ", "")
    assert said.startswith(reason)
    assert "\n" not in said
    assert "@@@" not in said
    assert "debug1" not in said


def test_a_machine_that_lets_nobody_in_is_not_tried_for_each_row(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(ssh, "ssh: connect to host kvm1 port 2222: No route to host\r\n")
    master = Master(KVM)
    calls = ssh.parent / "called"
    for _ in range(3):
        with pytest.raises(Unreachable, match="No route to host"):
            master.open()
    tries = [line for line in calls.read_text("utf-8").splitlines() if " -M " in line]
    assert len(tries) == 1
    monkeypatch.setattr(masters, "_RETRY_SECONDS", 0)
    master._until = 0
    with pytest.raises(Unreachable):
        master.open()
    assert len([line for line in calls.read_text("utf-8").splitlines() if " -M " in line]) == 2
    master.close()


ASKS = b"debug1: Offering public key\ndebug1: Server accepts key: /k ED25519 agent\n"
TOUCH = b"Confirm user presence for key ED25519-SK SHA256:x\n"
ANSWERED = b'Authenticated to kvm1 ([192.0.2.1]:22) using "publickey".\n'


@pytest.mark.parametrize(
    ("steps", "spent"),
    [
        pytest.param([(2, b"debug1: Connecting\n"), (3, ASKS), (900, ASKS), (901, ASKS + ANSWERED)], 3, id="agent"),
        pytest.param([(2, b"debug1: Connecting\n"), (3, ASKS + TOUCH), (900, ASKS + TOUCH)], 2, id="token"),
        pytest.param([(2, b""), (14, b"debug1: Connecting\n")], 14, id="slow"),
        pytest.param([(2, ASKS), (3, ASKS + ANSWERED), (17, ASKS + ANSWERED)], None, id="hangs-after-the-answer"),
        pytest.param([(2, b""), (16, b"debug1: Connecting\n")], None, id="silent"),
    ],
)
def test_the_time_in_which_an_agent_is_asked_does_not_count(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[float, bytes]], spent: float | None
) -> None:
    """Its owner may have to find the token. *steps*: seconds since the beginning, and what ssh has printed by then."""
    clock: Any = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now

    def outputs(*_: object) -> Iterator[tuple[bytearray, bytearray]]:
        for clock.now, messages in steps:
            yield bytearray(), bytearray(messages)

    monkeypatch.setattr(masters, "time", clock)
    monkeypatch.setattr(child, "outputs", outputs)
    master, process = Master(KVM), cast("Any", None)
    if spent is None:
        with pytest.raises(Unreachable, match="no login within 15 s"):
            list(master._heard(process))
    else:
        assert list(master._heard(process))[-1] == steps[-1][1]
        assert master.spent == pytest.approx(spent)


def test_a_machine_that_says_nothing_has_its_limit(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masters, "LOGIN_SECONDS", 0.2)
    monkeypatch.setattr(child, "_PAUSE_SECONDS", 0.05)
    ssh.write_text('case "$*" in *"-O check"*) exit 255;; esac\necho "debug1: Connecting" >&2\nexec sleep 1000\n')
    master = Master(KVM)
    with pytest.raises(Unreachable, match=r"ssh to root@kvm1:2222: no login within 0\.2 s"):
        master.open()
    master.close()


@pytest.mark.parametrize(
    ("uri", "joined"),
    [
        ("qemu+ssh://root@kvm1:2222/system", "?"),
        ("qemu+ssh://root@kvm1:2222/system?keyfile=/k", "&"),
    ],
)
def test_libvirt_is_given_a_program_for_ssh(ssh: Path, uri: str, joined: str) -> None:
    ssh.write_text("")
    master = Master(KVM)
    address = master.address(uri)
    program = address.removeprefix(f"{uri}{joined}command=")
    assert program.startswith(str(master.folder))
    assert len(program) < 100
    os.spawnl(os.P_WAIT, program, program, "-T", "--", "kvm1", "it's one word")
    called = (ssh.parent / "called").read_text("utf-8").splitlines()[-1]
    assert f"ControlPath={master.path} " in called
    assert called.endswith(" -T -- kvm1 it's one word")
    master.close()
    assert not master.folder.exists()


@pytest.mark.parametrize("key", ["command", "COMMAND", "co%6dmand"])
def test_a_program_of_the_users_own_stays(key: str) -> None:
    uri = f"qemu+ssh://kvm1/system?{key}=/opt/ssh"
    assert Master(KVM).address(uri) == uri


def test_the_parameters_of_libvirt_are_those_of_its_ssh() -> None:
    assert options_of_uri("qemu+ssh://kvm1/system") == ()
    words = options_of_uri("qemu+ssh://kvm1/system?keyfile=/a%20b&no_verify=1&no_tty=1&socket=/s")
    assert words == ("-i", "/a b", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes")
    assert options_of_uri("qemu+ssh://kvm1/system?no_verify=0&no_tty=0") == ()


def test_a_machine_is_given_to_ssh_as_testinfra_has_it() -> None:
    shell = SshBackend("root@kvm1:2222", ssh_config="/c", ssh_identity_file="/k")
    target = target_of_shell(shell)
    assert target == Target("kvm1", "root", "2222", ("-F", "/c", "-i", "/k"))
    assert target.words == ["-F", "/c", "-i", "/k", "-l", "root", "-p", "2222"]
    assert (str(target), target.known_as) == ("root@kvm1:2222", "[kvm1]:2222")
    assert Target("kvm1", port="22").known_as == "kvm1"
    assert urlsplit(f"ssh://{target}").hostname == "kvm1"
