"""A hypervisor on another machine whose ssh breaks: nobody could look, and what is under way goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.errors import ProbeError, ReclaimError
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


@pytest.mark.parametrize(
    "host", ["ssh://", "ssh://root@", "ssh://:22", "paramiko://", "root@", "", "ssh://[", "ssh:///x"]
)
def test_a_way_without_a_host_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt, "open", lambda uri: pytest.fail(f"libvirt is asked for {uri}"))
    with pytest.raises(ReclaimError, match="names no host: give ssh://user@host") as refused:
        connect(None, host, Inventory())
    assert "\n" not in str(refused.value)
    with pytest.raises(ReclaimError, match="names no host"):
        connect("test:///default", host, Inventory())


@pytest.mark.parametrize(
    "uri",
    ["qemu+ssh:///system", "qemu+ssh://root@/system", "qemu+libssh2:///system", "qemu+tls:///system", "qemu+tcp://:1/"],
)
def test_a_uri_to_another_machine_without_a_host_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt, "open", lambda uri: pytest.fail(f"libvirt is asked for {uri}"))
    with pytest.raises(ReclaimError, match="names no host"):
        connect(uri, None, Inventory())
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", uri)
    with pytest.raises(ReclaimError, match="names no host"):
        connect(None, None, Inventory())


def test_this_machine_needs_no_name(tmp_path: Path) -> None:
    assert connect(node(tmp_path, domain_xml(disk_xml())), "local://", Inventory()).guests != []


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
