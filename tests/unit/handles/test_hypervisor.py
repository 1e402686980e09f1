"""A hypervisor on another machine whose ssh breaks: nobody could look, and what is under way goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.errors import ProbeError, ReclaimError
from reclaim.handles.hypervisor import connect, host_of, uri_of
from reclaim.handles.node import folder_of
from reclaim.inventory import Inventory
from tests.remote import remote
from tests.support import disk_xml, domain_xml, node

if TYPE_CHECKING:
    from pathlib import Path


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
    "host",
    [
        "ssh://",
        "ssh://root@",
        "ssh://:22",
        "paramiko://",
        "root@",
        "",
        "ssh://[",
        "ssh:///x",
        "ssh://root@\udcff",
        "kvm1\x1b[1m",
    ],
)
def test_a_way_without_a_host_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt, "open", lambda uri: pytest.fail(f"libvirt is asked for {uri}"))
    with pytest.raises(ReclaimError, match="names no host: give ssh://user@host") as refused:
        connect(None, host, Inventory())
    assert "\n" not in str(refused.value)
    with pytest.raises(ReclaimError, match="names no host"):
        connect("test:///default", host, Inventory())


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("ssh://root@kvm1?ssh_confg=/x", "ssh_confg is no parameter"),
        ("ssh://root@kvm1?ssh_config=", "ssh_config has no value"),
        ("ssh://root@kvm1?ssh_config=/x&port=22", "port is no parameter"),
        ("ssh://root@kvm1/system", "/system means nothing there"),
        ("ssh://root@kvm1#22", "22 means nothing there"),
        ("kvm1?port=22", "port is no parameter"),
    ],
)
def test_a_part_that_nobody_would_heed_is_refused(host: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a misspelled ssh_config the user's own would hold, and might name another machine."""
    monkeypatch.setattr(libvirt, "open", lambda uri: pytest.fail(f"libvirt is asked for {uri}"))
    with pytest.raises(ReclaimError, match=why):
        connect(None, host, Inventory())


def test_a_slash_behind_the_host_is_no_path_of_libvirt() -> None:
    assert uri_of("ssh://root@kvm1:22/?timeout=5") == "qemu+ssh://root@kvm1:22/system"


@pytest.mark.parametrize("name", ["k" * 5000, "-oProxyCommand=x", "../..", "", "é" * 300, "\udcff"])
def test_a_hypervisor_of_any_name_has_a_folder(name: str, tmp_path: Path) -> None:
    folder = folder_of(name)
    (tmp_path / f"{folder}").mkdir()
    assert folder[0] not in ".-"
    assert folder_of(f"{name}x") != folder or len(name) < 2


def test_a_bare_name_is_reached_by_ssh_as_libvirt_is(tmp_path: Path) -> None:
    """testinfra would ask for another library."""
    hypervisor = connect(node(tmp_path, domain_xml(disk_xml())), "kvm1", Inventory())
    assert hypervisor.shell.backend.get_connection_type() == "ssh"
    assert hypervisor.shell.backend.hostname == "kvm1"


@pytest.mark.parametrize(
    ("uri", "asks"),
    [
        pytest.param("nonsense", False, id="no-uri"),
        pytest.param("test:///nowhere.xml", False, id="no-file"),
        pytest.param("qemu+unix:///system?socket=/nowhere", True, id="no-daemon"),
        pytest.param("qemu:///embed?root=/nowhere", False, id="no-daemon-at-all"),
    ],
)
def test_only_if_no_daemon_answers_the_message_asks_for_it(uri: str, *, asks: bool) -> None:
    with pytest.raises(ReclaimError, match="cannot connect") as refused:
        connect(uri, None, Inventory())
    assert ("is libvirtd or virtqemud running there" in str(refused.value)) == asks


def test_a_session_is_of_the_user_alone() -> None:
    with pytest.raises(ReclaimError, match="cannot connect") as refused:
        connect("qemu+unix:///session?socket=/nowhere", None, Inventory())
    assert "a daemon of your own user" in str(refused.value)
    assert "group libvirt" not in str(refused.value)


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
    hypervisor = remote(broken)
    words = "^ssh to kvm1: kex_exchange_identification: Connection closed by remote host$"
    with pytest.raises(ProbeError, match=words):
        hypervisor.allocated("/images/vda.qcow2")
    assert hypervisor.allocated_each(["/images/vda.qcow2"]) == {}
