"""A hypervisor on another machine whose ssh breaks: nobody could look, and what is under way goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.errors import ProbeError
from reclaim.handles.console import console
from reclaim.handles.hypervisor import connect, host_of
from reclaim.inventory import Inventory
from tests.support import disk_xml, domain_xml, node

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.hypervisor import Hypervisor


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an ssh that is cut off as OpenSSH's is, until a file `works` lies there."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        '#!/bin/sh\n[ -e "${0%/*}/works" ] && { for last; do :; done; exec /bin/sh -c "$last"; }\n'
        "echo 'kex_exchange_identification: Connection closed by remote host' >&2\nexit 255\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def _remote(folder: Path) -> Hypervisor:
    log = f"<serial type='file'><source path='{folder}/console.log'/></serial>"
    return connect(node(folder, domain_xml(disk_xml(), log)), "ssh://root@kvm1", Inventory())


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("qemu:///system", "local://"),
        ("qemu+unix:///system?socket=/run/x", "local://"),
        ("test:///a/node.xml", "local://"),
        ("qemu://kvm1/system", "ssh://kvm1"),
        ("qemu+tls://me@kvm1:16514/system", "ssh://kvm1"),
        ("qemu+tcp://[2001:db8::1]/system", "ssh://[2001:db8::1]"),
        ("qemu+ssh://root@kvm1:2222/system?keyfile=/k", "ssh://root@kvm1:2222"),
        ("qemu+libssh2://root@[2001:db8::1]:22/system", "ssh://root@[2001:db8::1]:22"),
    ],
)
def test_the_shell_is_on_the_machine_of_libvirt(uri: str, host: str) -> None:
    """Another machine's images, looked for here, may be found: under the same path lies another guest's."""
    assert host_of(uri) == host


def test_nor_is_it_elsewhere_where_the_uri_is_an_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = node(tmp_path, domain_xml(disk_xml()))
    assert connect(uri, None, Inventory()).is_local
    monkeypatch.setattr(libvirt.virConnect, "getURI", lambda _: "qemu+ssh://root@kvm1/system")
    hypervisor = connect(uri, None, Inventory())
    assert not hypervisor.is_local
    assert hypervisor.shell.backend.hostname == "kvm1"


def test_it_is_no_fault_of_ours_and_no_finding(broken: Path) -> None:
    hypervisor = _remote(broken)
    words = "^ssh to kvm1: kex_exchange_identification: Connection closed by remote host$"
    with pytest.raises(ProbeError, match=words):
        hypervisor.allocated("/images/vda.qcow2")
    assert hypervisor.allocated_each(["/images/vda.qcow2"]) == {}


def test_a_guest_is_brought_back_without_the_words_of_its_console(broken: Path) -> None:
    """A roll-back begins with the console's last lines; what it said before must not be taken for what it says now."""
    (broken / "console.log").write_text("Kernel panic - not syncing, long ago\n")
    (broken / "works").touch()
    guest = _remote(broken).guests[0]
    said = console(guest)
    assert said.dead_end is None
    (broken / "works").unlink()
    assert (said.dead_end, said.lines) == (None, [])
    assert "no output" in said.tail
    blind = console(guest)
    (broken / "works").touch()
    assert blind.dead_end is None
