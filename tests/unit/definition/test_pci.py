"""Whether libvirt has a PCI slot for one more device. Each case was given to libvirt 9.0 and 11.3 too."""

from __future__ import annotations

import pytest

from reclaim.definition import pci
from reclaim.definition.domain import Definition
from tests.support import disk_xml, domain_xml, letters
from tests.support import pci_xml as at

ROOT = "<controller type='pci' index='0' model='pci-root'/>"
EXPRESS = "<controller type='pci' index='0' model='pcie-root'/>"


def _disks(*places: str) -> str:
    return "".join(disk_xml(f"vd{letters(number)}", inner=place) for number, place in enumerate(places))


def _bus(index: int, model: str, place: str) -> str:
    return f"<controller type='pci' index='{index}' model='{model}'>{place}</controller>"


def _ports(count: int, slot: int = 30, *, used: bool = True) -> str:
    ports = "".join(_bus(number + 1, "pcie-root-port", at(slot, 0, number)) for number in range(count))
    return ports + (_disks(*(at(0, number + 1) for number in range(count))) if used else "")


def _guest(*devices: str, machine: str = "pc-q35-7.2", arch: str = "x86_64") -> Definition:
    return Definition(domain_xml(*devices, machine=machine, arch=arch))


FULL_BUS = _disks(*(at(slot) for slot in range(2, 31)))
EXPRESS_FULL = _disks(*(at(slot) for slot in range(1, 30)))
BRIDGE = FULL_BUS + _bus(1, "pci-bridge", at(31))


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param(ROOT + FULL_BUS + _disks(at(31)), id="i440fx"),
        pytest.param(ROOT + BRIDGE + _disks(*(at(slot, 1) for slot in range(1, 32))), id="i440fx-bridge"),
        pytest.param(EXPRESS + EXPRESS_FULL + _disks(at(30)), id="q35"),
        pytest.param(EXPRESS + EXPRESS_FULL + _ports(8), id="q35-ports"),
        pytest.param(
            EXPRESS + EXPRESS_FULL + _bus(1, "pcie-root-port", at(30)) + _disks(at(0, 1), at(30, 0, 1)),
            id="q35-port-beside-a-device",
        ),
    ],
)
def test_without_a_slot_there_is_no_place(devices: str) -> None:
    assert pci.why_no_place(_guest(devices)) == pci.FULL


@pytest.mark.parametrize(
    "devices",
    [
        pytest.param(ROOT + FULL_BUS, id="i440fx"),
        pytest.param(ROOT + BRIDGE + _disks(*(at(slot, 1) for slot in range(1, 31))), id="i440fx-bridge"),
        pytest.param(ROOT + FULL_BUS + _bus(1, "pci-expander-bus", at(31)), id="i440fx-expander"),
        pytest.param(EXPRESS + EXPRESS_FULL, id="q35"),
        pytest.param(EXPRESS + EXPRESS_FULL + _ports(7), id="q35-ports"),
        pytest.param(EXPRESS + EXPRESS_FULL + _ports(8, used=False), id="q35-free-port"),
        pytest.param(_disks(*(at(slot) for slot in range(32))), id="no-bus"),
        pytest.param(ROOT, id="empty"),
    ],
)
def test_with_a_slot_libvirt_finds_a_place(devices: str) -> None:
    assert pci.why_no_place(_guest(devices)) is None


@pytest.mark.parametrize("arch", ["ppc64le", "s390x"])
def test_other_architectures_are_not_judged(arch: str) -> None:
    devices = ROOT + FULL_BUS + _disks(at(1), at(31))
    assert pci.why_no_place(_guest(devices, machine="pseries-7.2", arch=arch)) is None


def test_the_chipset_of_another_architecture_takes_no_slot() -> None:
    devices = EXPRESS + EXPRESS_FULL + _disks(at(30))
    assert pci.why_no_place(_guest(devices, machine="virt-7.2", arch="aarch64")) is None
