"""Guests whose start takes a device away from the host: told by its name, and not started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.changes import preconditions
from reclaim.changes.power import PowerCycle, booted_definition
from reclaim.definition.domain import Definition
from reclaim.handles import host_devices
from tests.support import disk_xml, domain_xml, opened

if TYPE_CHECKING:
    from pathlib import Path

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
PCI = "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>"
PCI_OF_TYPE = PCI.replace("<address", "<address type='pci'")
GPU = f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{PCI}</source></hostdev>"
USB = "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1d6b'/><product id='0x2'/></source></hostdev>"
SCSI = (
    "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/>"
    "</source></hostdev>"
)
MDEV = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
    "<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>"
)
VHOST = "<hostdev mode='subsystem' type='scsi_host'><source protocol='vhost' wwpn='naa.5123456789abcde0'/></hostdev>"
DEVICES = [
    pytest.param(GPU, "hostdev pci domain=0x0000 bus=0x01", id="pci"),
    pytest.param(USB, "hostdev usb id=0x1d6b id=0x2", id="usb"),
    pytest.param(SCSI, "hostdev scsi name=scsi_host0", id="scsi"),
    pytest.param(MDEV, "hostdev mdev uuid=c2177883", id="mdev"),
    pytest.param(VHOST, "hostdev scsi_host", id="scsi_host"),
    pytest.param(
        f"<interface type='hostdev' managed='yes'><source>{PCI_OF_TYPE}</source></interface>",
        "a network card of the host (interface hostdev",
        id="interface-hostdev",
    ),
    pytest.param(
        "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>", "a vDPA device of the host", id="vdpa"
    ),
    pytest.param(
        "<interface type='direct'><source dev='eth1' mode='passthrough'/></interface>",
        "passthrough, eth1",
        id="macvtap",
    ),
    pytest.param(
        "<interface type='network'><source network='sriov'/></interface>",
        "interface of the network sriov",
        id="network",
    ),
    pytest.param(
        "<disk type='nvme' device='disk'><driver type='raw'/><source type='pci' managed='yes' namespace='1'>"
        f"{PCI}</source><target dev='vdb' bus='virtio'/></disk>",
        "an NVMe controller of the host (disk vdb",
        id="nvme",
    ),
    pytest.param(
        "<disk type='vhostuser' device='disk'><driver name='qemu' type='raw'/><source type='unix' path='/run/v.sock'/>"
        "<target dev='vdb' bus='virtio'/></disk>",
        "vhost-user) (disk vdb: path=/run/v.sock)",
        id="vhostuser",
    ),
    pytest.param(
        "<disk type='vhostvdpa' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vhost-vdpa-1'/>"
        "<target dev='vdb' bus='virtio'/></disk>",
        "a vDPA device of the host (disk vdb",
        id="vhostvdpa",
    ),
    pytest.param(
        "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
        "its TPM (/dev/tpm0)",
        id="tpm",
    ),
    pytest.param(
        "<input type='evdev'><source dev='/dev/input/event1' grab='all'/></input>", "an input device", id="evdev"
    ),
    pytest.param(
        "<input type='passthrough' bus='virtio'><source evdev='/dev/input/event1'/></input>",
        "an input device (evdev=/dev/input/event1",
        id="input-passthrough",
    ),
    pytest.param("<serial type='dev'><source path='/dev/ttyS0'/></serial>", "serial path=/dev/ttyS0", id="serial"),
    pytest.param(
        "<redirdev bus='usb' type='dev'><source path='/dev/bus/usb/1'/></redirdev>",
        "redirdev path=/dev/bus",
        id="redirdev",
    ),
    pytest.param("<smartcard mode='host'/>", "its smartcard reader", id="smartcard"),
]
HARMLESS = [
    "<interface type='user'/>",
    "<interface type='network'><source network='default'/></interface>",
    "<interface type='bridge'><source bridge='br0'/></interface>",
    "<interface type='direct'><source dev='eth0' mode='bridge'/></interface>",
    "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
    "<input type='tablet' bus='usb'/>",
    "<redirdev bus='usb' type='spicevmc'/>",
    "<serial type='pty'/>",
    "<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem>",
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
]
SRIOV = "<network><name>sriov</name><forward mode='hostdev' managed='yes'><pf dev='eth3'/></forward></network>"


def _definition(device: str) -> Definition:
    """As libvirt would give it; its test driver does not know all of these."""
    return Definition(domain_xml(disk_xml(), device, CHANNEL, running=False))


@pytest.mark.parametrize(("device", "words"), DEVICES)
def test_what_a_start_takes_from_the_host_is_named(tmp_path: Path, device: str, words: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), CHANNEL, running=False)).guests[0]
    guest.hypervisor.connection.networkDefineXML(SRIOV)
    assert preconditions.why_not_started(guest) is None
    guest.__dict__["persistent"] = _definition(device)
    [found] = host_devices.taken_by(guest, guest.persistent)
    assert words in found
    assert preconditions.why_not_started(guest) == f"a start would take from the host: {found}"


@pytest.mark.parametrize("device", HARMLESS)
def test_what_takes_nothing_keeps_nobody(tmp_path: Path, device: str) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), CHANNEL, running=False)).guests[0]
    guest.__dict__["persistent"] = _definition(device)
    assert preconditions.why_not_started(guest) is None


@pytest.mark.parametrize(
    ("arguments", "takes"),
    [
        (["-device", "vfio-pci,host=01:00.0"], True),
        (["-device", '{"driver":"vfio-pci","host":"01:00.0"}'], True),
        (["-device", "vfio-pci,sysfsdev=/sys/bus/mdev/devices/x,addr=05.0"], True),
        (["-device", "usb-host,vendorid=0x1,productid=0x2"], True),
        (["-object", "input-linux,id=kbd,evdev=/dev/input/event2,grab_all=on"], True),
        (["-netdev", "vhost-vdpa,vhostdev=/dev/vhost-vdpa-0,id=v"], True),
        (["-blockdev", "driver=nvme,device=0000:01:00.0,namespace=1,node-name=n"], True),
        (["-drive", "file=nvme://0000:01:00.0/1,if=none,id=n"], True),
        (["-tpmdev", "passthrough,id=t,path=/dev/tpm0"], True),
        (["-serial", "/dev/ttyS0"], True),
        (["-blockdev", '{"driver":"raw","node-name":"n","file":{"driver":"nvme","device":"1"}}'], True),
        (["-blockdev", '{"driver":"quorum","node-name":"n","children":[{"driver":"nvme","device":"1"}]}'], True),
        (["-drive", "file.driver=nvme,file.device=0000:01:00.0"], True),
        (["-blockdev", "driver=virtio-blk-vhost-vdpa,path=/dev/vhost-vdpa-0,node-name=n"], True),
        (["-device", "vhost-vdpa-device-pci,vhostdev=/dev/vhost-vdpa-0"], True),
        (["-device", "virtio-input-host-pci,evdev=/dev/input/event3"], True),
        (["-device", "u2f-passthru"], True),
        (["-chardev", '{"id":"c","backend":{"type":"serial","data":{"device":"/dev/ttyS0"}}}'], True),
        (["-monitor", "/dev/ttyS1"], True),
        (["-object", "memory-backend-file,id=m,mem-path=/dev/dax0.0,share=on,size=1G"], True),
        (["-readconfig", "/etc/qemu/gpu.cfg"], True),
        (["-device", "vhost-user-blk-pci,chardev=c"], True),
        (["-device", "vhost-user-scsi-pci,chardev=c"], True),
        (["-device", "vhost-user-fs-pci,chardev=c,tag=t"], False),
        (["-object", "memory-backend-file,id=m,mem-path=/dev/shm/looking-glass,share=on,size=1G"], False),
        (["-blockdev", '{"driver":"file","filename":"/x","node-name":"n"}'], False),
        (["-monitor", "stdio"], False),
        (["-netdev", "user,id=n0", "-device", "e1000,netdev=n0"], False),
        (["-device", "isa-applesmc,osk=x"], False),
        (["-chardev", "socket,id=c,path=/run/x"], False),
        (["-fw_cfg", "name=opt/x,string=y"], False),
    ],
)
def test_what_the_arguments_take_is_named(tmp_path: Path, arguments: list[str], *, takes: bool) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), CHANNEL, running=False)).guests[0]
    values = "".join(f"<q:arg value='{one}'/>" for one in arguments)
    own = f"<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>{values}</q:commandline></domain>"
    definition = Definition(guest.persistent.xml.replace("</domain>", own))
    found = host_devices.taken_by(guest, definition)
    assert bool(found) is takes
    assert all(arguments[1][:20] in one for one in found)


def test_a_power_cycle_takes_no_device_that_came_into_the_definition(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), CHANNEL)).guests[0]
    cycle = PowerCycle(guest.name, booted_definition(guest), None)
    assert preconditions.why_not_applied(guest, cycle) is None
    guest.hypervisor.connection.defineXML(domain_xml(disk_xml(), CHANNEL, GPU))
    guest.forget()
    said = str(preconditions.why_not_applied(guest, cycle))
    assert said.startswith("hostdev pci domain=0x0000 bus=0x01")
    assert "is defined and not attached: a start would take it from the host" in said


def test_a_power_cycle_keeps_the_devices_that_the_guest_has(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), CHANNEL, GPU, USB)).guests[0]
    cycle = PowerCycle(guest.name, booted_definition(guest), None)
    assert preconditions.why_not_applied(guest, cycle) is None
