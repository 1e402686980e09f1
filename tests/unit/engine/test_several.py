"""The hypervisors of one run: each once, each with a name and a folder of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.errors import ReclaimError, Unreachable
from reclaim.engine import several
from reclaim.handles.hypervisor import Hypervisor, place_of, unreached
from reclaim.inventory import Inventory
from tests.support import disk_xml, domain_xml, opened

if TYPE_CHECKING:
    from pathlib import Path


def reached(folder: Path, host: str, *guests: str, identity: str = "", hostname: str = "kvm") -> Hypervisor:
    """A hypervisor on the test driver that passes for a real one."""
    (folder / host.replace("/", "_")).mkdir()
    domains = [domain_xml(disk_xml(), name=name) for name in guests]
    hypervisor = opened(folder / host.replace("/", "_"), *domains)
    hypervisor.host, hypervisor.hostname = host, hostname
    hypervisor.is_test_driver = False
    hypervisor.identity = identity or host
    hypervisor.name = hostname
    return hypervisor


def down(host: str) -> Hypervisor:
    return unreached(None, host, Inventory(), Unreachable(f"{host} is down"))


@pytest.mark.parametrize(
    ("host", "place", "name"),
    [
        ("kvm1", "kvm1", "kvm1"),
        ("root@kvm1:22", "kvm1:22", "kvm1"),
        ("ssh://root@KVM1.example:2222?ssh_config=/a@b", "KVM1.example:2222", "KVM1.example"),
        ("ssh://[2001:db8::1]:22", "[2001:db8::1]:22", "2001:db8::1"),
        ("ssh://root@[2001:db8::1]", "[2001:db8::1]", "2001:db8::1"),
        ("local://", "local", "local"),
    ],
)
def test_the_name_in_a_word_of_hosts(host: str, place: str, name: str) -> None:
    assert place_of(host) == place
    assert place_of(host, port=False) == name


def test_those_of_one_name_have_their_host_behind_it(tmp_path: Path) -> None:
    hosts = "ssh://root@10.0.0.1:2201", "ssh://10.0.0.2", "other"
    hypervisors = [reached(tmp_path, host) for host in hosts[:2]] + [reached(tmp_path, hosts[2], hostname="other")]
    several.name_apart(hypervisors)
    assert [each.name for each in hypervisors] == ["kvm-10.0.0.1:2201", "kvm-10.0.0.2", "other"]
    assert [each.folder for each in hypervisors] == ["kvm-10.0.0.1_2201", "kvm-10.0.0.2", "other"]
    assert [each.hostname for each in hypervisors] == ["kvm", "kvm", "other"]


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        (("root@kvm1", "kvm2"), ["kvm1", "kvm2"]),
        (("root@kvm1:1", "kvm1:2"), ["kvm1:1", "kvm1:2"]),
        (("root@kvm1", "admin@kvm1"), ["root@kvm1", "admin@kvm1"]),
        # their folders would be one
        (("kvm+1", "kvm=1"), ["kvm+1", "kvm=1"]),
    ],
)
def test_so_have_those_that_are_down(hosts: tuple[str, str], names: list[str]) -> None:
    hypervisors = [down(host) for host in hosts]
    several.name_apart(hypervisors)
    assert [each.name for each in hypervisors] == names


def test_one_that_is_down_may_be_called_as_another_calls_itself(tmp_path: Path) -> None:
    hypervisors = [reached(tmp_path, "10.0.0.2"), down("root@kvm")]
    several.name_apart(hypervisors)
    assert [each.name for each in hypervisors] == ["kvm-10.0.0.2", "kvm"]


def test_two_addresses_of_one_hypervisor_are_judged_once(tmp_path: Path) -> None:
    first, other = (reached(tmp_path, host, "web", "db", identity="QEMU 1-2 kvm") for host in ("kvm", "10.0.0.1"))
    third = reached(tmp_path, "kvm3", "web", identity="QEMU 1-3 kvm3", hostname="kvm3")
    assert several.each_once([first, other, third]) == (
        [first, third],
        ["10.0.0.1 is the same hypervisor as kvm (kvm): it is judged once, by the address that was given first"],
    )
    with pytest.raises(libvirt.libvirtError):
        other.connection.getHostname()


def test_machines_that_only_seem_to_be_one_are_refused(tmp_path: Path) -> None:
    """A maker can have given all his boards one UUID."""
    first, other = (reached(tmp_path, host, host, identity="QEMU 1-2 kvm") for host in ("a", "b"))
    with pytest.raises(ReclaimError, match=r"a and b have one host name .kvm. and one host UUID, and not the same"):
        several.each_once([first, other])


def test_one_that_is_down_is_down_once() -> None:
    first, other = down("kvm1"), down("ssh://kvm1")
    assert several.each_once([first, other])[0] == [first]


def test_a_death_is_found_under_every_name_that_it_can_have(tmp_path: Path) -> None:
    alone = reached(tmp_path, "root@kvm1:22")
    assert list(several.folders(alone)) == ["kvm", "kvm-kvm1_22", "kvm-root_kvm1_22"]
    alone.name = "kvm-kvm1:22"
    assert set(several.folders(alone)) == {"kvm-kvm1_22", "kvm", "kvm-root_kvm1_22"}
    assert list(several.folders(down("root@kvm1"))) == ["kvm1"]


def test_a_glob_of_guests_need_not_hold_on_every_hypervisor(tmp_path: Path) -> None:
    hypervisors = [reached(tmp_path, "kvm1", "web1", "db"), reached(tmp_path, "kvm2", "mail")]
    for globs in ((), ("web*",), ("web*", "mail"), ("!mail",), ("*", "!db"), ("[mw]*", "!web?")):
        several.expect_guests(hypervisors, globs)
    assert [guest.name for guest in hypervisors[0].select(["web*", "mail"])] == ["web1"]
    assert [guest.name for guest in hypervisors[1].select(["web*", "mail"])] == ["mail"]
    assert hypervisors[1].select(["web*"]) == []
    assert hypervisors[1].select(["!mail"]) == []


@pytest.mark.parametrize(
    ("globs", "words"),
    [
        (("web*", "ftp"), "'ftp': no guest of kvm1 and kvm2 has such a name (guests: db, web1, mail)"),
        (("!ftp",), "'!ftp': no guest of kvm1 and kvm2 has such a name"),
        (("WEB*",), "'WEB*': no guest of"),
        (("*", "!*"), "'*,!*': no guest of kvm1 and kvm2 is left"),
        (("web1", "!w*"), "'web1,!w*': no guest of kvm1 and kvm2 is left"),
    ],
)
def test_a_glob_that_holds_nowhere_is_refused(tmp_path: Path, globs: tuple[str, ...], words: str) -> None:
    hypervisors = [reached(tmp_path, "kvm1", "web1", "db"), reached(tmp_path, "kvm2", "mail")]
    with pytest.raises(ReclaimError, match=f"^{re.escape(f'--guests {words}')}"):
        several.expect_guests(hypervisors, globs)
    # the guest may be on the one that is down
    several.expect_guests([*hypervisors, down("kvm3")], globs)
