"""Guests whose definition says that they are no Linux: what it is told by, and that no option moves their hardware."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import Withheld
from reclaim.base.verdict import Verdict
from reclaim.definition import othersystem
from reclaim.definition.domain import Definition
from reclaim.definition.machine_type import OfferedMachine
from reclaim.handles.agent import System
from tests.support import (
    Inside,
    definition_of,
    disk_xml,
    domain_xml,
    engine,
    inhabited,
    opened,
    scsi_xml,
    verdict_of,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.guest import Guest

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
LIBOSINFO = "http://libosinfo.org/xmlns/libvirt/domain/1.0"
HARDWARE = ("machine-type", "scsi-controller", "disk-bus")


def libosinfo(identity: str) -> str:
    return f'<l:libosinfo xmlns:l="{LIBOSINFO}"><l:os id="{identity}"/></l:libosinfo>'


def unraid(system: str) -> str:
    return f'<vmtemplate xmlns="unraid" name="My box" icon="default.png" os="{system}"/>'


BOXES = "<b:boxes xmlns:b='https://wiki.gnome.org/Apps/Boxes'><b:os-id>http://microsoft.com/win/7</b:os-id></b:boxes>"
OTHERS = [
    (libosinfo("http://microsoft.com/win/11"), "Windows"),
    (libosinfo("http://microsoft.com/win/2k3r2"), "Windows"),
    (libosinfo("http://microsoft.com/winnt/4.0"), "Windows"),
    (libosinfo("http://microsoft.com/msdos/6.22"), "DOS"),
    (libosinfo("http://freebsd.org/freebsd/14.0"), "FreeBSD"),
    (libosinfo("http://openbsd.org/openbsd/7.4"), "OpenBSD"),
    (libosinfo("http://netbsd.org/netbsd/9.3"), "NetBSD"),
    (libosinfo("http://dragonflybsd.org/dragonflybsd/5.6"), "DragonFly BSD"),
    (libosinfo("http://mirbsd.org/mirbsd/10"), "a BSD"),
    (libosinfo("http://redox-os.org/redox/0.9"), "Redox"),
    (libosinfo("http://pfsense.org/pfsense/2.7"), "pfSense"),
    (libosinfo("http://opnsense.org/opnsense/24.1"), "OPNsense"),
    (libosinfo("http://apple.com/macosx/10.15"), "macOS"),
    (libosinfo("http://oracle.com/solaris/11"), "Solaris"),
    (libosinfo("http://sun.com/opensolaris/2009.06"), "Solaris"),
    (libosinfo("http://openindiana.org/openindiana/2023"), "illumos"),
    (libosinfo("http://minix3.org/minix/3.3"), "Minix"),
    (libosinfo("http://haiku-os.org/haiku/r1beta4"), "Haiku"),
    (libosinfo("http://guix.gnu.org/guix/hurd-latest"), "GNU Hurd"),
    (libosinfo("http://novell.com/netware/6"), "NetWare"),
    (unraid("windows10"), "Windows"),
    (unraid("windowsxp"), "Windows"),
    (unraid("freebsd"), "FreeBSD"),
    (unraid("osx"), "macOS"),
    (unraid("Mac OS X"), "macOS"),
    (unraid("catalina"), "macOS"),
    ('<vmtemplate xmlns="http://unraid" name="Windows 11"/>', "Windows"),
    (BOXES, "Windows"),
    ('<c:data xmlns:c="https://cockpit"><c:os_variant>win2k19</c:os_variant></c:data>', "Windows"),
    (libosinfo("http://debian.org/debian/12") + unraid("windows11"), "Windows"),
    (unraid("windowstpm"), "Windows"),
    (unraid("WindowsServer2019"), "Windows"),
    (unraid("w2k16"), "Windows"),
    (unraid("hackintosh"), "macOS"),
    (libosinfo("http://sco.com/unixware/7"), "SCO UNIX"),
    (libosinfo("http://ibm.com/aix/7.2"), "AIX"),
]
#: what stands in a definition beside its metadata, and how it is told of
HINTS = [
    ("<title>Windows Server 2019</title>", "its title says Windows"),
    ("<title>OPNsense (edge)</title>", "its title says OPNsense"),
    ("<features><hyperv mode='custom'><relaxed state='on'/></hyperv></features>", "Hyper-V's features"),
    ("<features><hyperv mode='passthrough'/></features>", "Hyper-V's features"),
    (
        f"<commandline xmlns='{QEMU}'><arg value='-device'/><arg value='isa-applesmc,osk=x'/></commandline>",
        "isa-applesmc",
    ),
]
NO_HINTS = [
    "<title>files of Mac users, and DOS games</title>",
    "<title>winbind</title>",
    "<description>it serves Windows</description>",
    "<features><hyperv mode='custom'><relaxed state='off'/></hyperv></features>",
]
LINUXES = [
    "",
    libosinfo("http://debian.org/debian/12"),
    libosinfo("http://oracle.com/ol/9"),
    libosinfo("http://suse.com/sle/15.5"),
    libosinfo("http://libosinfo.org/linux/2022"),
    libosinfo("http://libosinfo.org/unknown"),
    libosinfo("http://windriver.com/linux/10"),
    unraid("arch"),
    unraid("linux"),
    "<n:note xmlns:n='https://example.org/n'>it was moved off Windows; freebsd is next</n:note>",
    "<!-- http://microsoft.com/win/11 -->",
]


@pytest.mark.parametrize(("metadata", "system"), OTHERS)
def test_no_option_moves_the_hardware_of_another_system(tmp_path: Path, metadata: str, system: str) -> None:
    offered = [OfferedMachine("pc-i440fx-7.2", deprecated=False)]
    xml = domain_xml(disk_xml("sda", "sata"), machine="pc-i440fx-1.6", metadata=metadata, running=False)
    guest = opened(tmp_path, xml, offered=offered).guests[0]
    guest.hypervisor.is_test_driver = False
    before = definition_of(guest).xml
    for force in (False, True):
        for row in walk(engine(guest.hypervisor, tmp_path, force=force), guest, *HARDWARE):
            assert row.verdict is Verdict.NONCOMPLIANT
            assert othersystem.words(system) in row.reason
            assert "withheld: " in row.reason
            assert "it is off" not in row.reason
            assert "forced" not in row.reason
    assert definition_of(guest).xml == before


def _hinted(folder: Path, inner: str, metadata: str = "", name: str = "one") -> Guest:
    xml = domain_xml(disk_xml("sda", "sata"), name=name, metadata=metadata, running=False)
    guest = opened(folder, xml.replace("<memory>", f"{inner}<memory>")).guests[0]
    # the test driver drops some of it
    guest.persistent = Definition(definition_of(guest).xml.replace("<memory ", f"{inner}<memory "))
    return guest


@pytest.mark.parametrize(("inner", "told"), HINTS)
def test_what_makes_another_system_likely_is_no_guess_of_ours(tmp_path: Path, inner: str, told: str) -> None:
    """Nobody looked inside, and --force overrules what a fix waits for alone."""
    guest = _hinted(tmp_path, inner)
    with pytest.raises(Withheld, match=f"{re.escape(told)}.*reclaim has not looked inside"):
        guest.expect_linux()
    _hinted(tmp_path, inner, libosinfo("http://debian.org/debian/12")).expect_linux()  # it is noted


@pytest.mark.parametrize(
    "name", ["win10", "windows-2019", "win2k8r2", "FreeBSD_14", "pfsense", "macos-ventura", "w2k3"]
)
def test_so_does_its_name(tmp_path: Path, name: str) -> None:
    row = walk(engine((guest := _hinted(tmp_path, "", name=name)).hypervisor, tmp_path, force=True), guest, "disk-bus")[
        0
    ]
    assert row.verdict is Verdict.NONCOMPLIANT
    assert "withheld: its name says" in row.reason


def test_somebody_looked_inside_and_found_a_linux(tmp_path: Path) -> None:
    inhabited(tmp_path, Inside(), name="windows-clients").expect_linux()


@pytest.mark.parametrize("inner", NO_HINTS)
def test_what_may_mean_other_things_is_no_hint(tmp_path: Path, inner: str) -> None:
    _hinted(tmp_path, inner).expect_linux()


@pytest.mark.parametrize("name", ["mac", "ventura-highway", "aix-backup", "winbind", "twin", "dosimeter", "one"])
def test_nor_are_such_names(tmp_path: Path, name: str) -> None:
    _hinted(tmp_path, "", name=name).expect_linux()


@pytest.mark.parametrize("metadata", LINUXES)
def test_a_linux_is_moved_as_ever(tmp_path: Path, metadata: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), scsi_xml(), metadata=metadata)).guests[0]
    rows = walk(engine(guest.hypervisor, tmp_path, force=True), guest, "disk-bus")
    assert [row.verdict for row in rows] == [Verdict.FIXED]


def test_its_discards_are_let_through(tmp_path: Path) -> None:
    """An attribute of the driver moves nothing, and no system minds it."""
    xml = domain_xml(disk_xml("sda", "sata"), metadata=libosinfo("http://microsoft.com/win/11"), running=False)
    guest = opened(tmp_path, xml).guests[0]
    rows = walk(engine(guest.hypervisor, tmp_path), guest, "disk-discard")
    assert [row.verdict for row in rows] == [Verdict.FIXED]
    assert verdict_of(guest, "disk-discard", "sda") is Verdict.COMPLIANT


@pytest.mark.parametrize("identity", ["freebsd", "openbsd", "opnsense", "solaris", "omnios"])
def test_an_agent_that_answers_from_another_system_is_known(identity: str) -> None:
    assert System(identity, identity).is_another


@pytest.mark.parametrize("identity", ["debian", "ol", "arch", "opensuse-leap", "amzn", "wind", "linuxmint", "void", ""])
def test_an_agent_that_answers_from_a_linux_is_no_stranger(identity: str) -> None:
    assert not System(identity, identity).is_another
