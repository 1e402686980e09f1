"""The definition of a lab guest, as libvirt's XML."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from lab.accelerator import Accelerator
from lab.machines import OLD

AGENT = "org.qemu.guest_agent.0"
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
_TARGETS = {"virtio": "vda", "ide": "hda"}


@dataclass(frozen=True)
class Hardware:
    """What differs between one lab guest's hardware and another's: libvirt's own words and values."""

    machine: str = OLD
    bus: str = "virtio"
    discard: str | None = None
    memory_mib: int = 512
    vcpus: int = 2
    #: the port on 127.0.0.1 that leads to the guest's sshd; then the guest has a network
    ssh_port: int | None = None
    agent: bool = True


def definition(
    name: str, accel: Accelerator, hardware: Hardware, image: Path, console: Path
) -> str:
    """Return the XML that defines the guest `name`."""
    domain = ET.Element("domain", type=accel)
    _text(domain, "name", name)
    _text(
        domain,
        "description",
        "A throwaway guest of reclaim's lab; `make lab-clean` removes it.",
    )
    _text(domain, "memory", str(hardware.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(hardware.vcpus))
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch="x86_64", machine=hardware.machine)
    ET.SubElement(os, "boot", dev="hd")
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(domain, "clock", offset="utc")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "destroy")
    devices = ET.SubElement(domain, "devices")
    _disk(devices, hardware, image)
    if hardware.agent:
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name=AGENT)
    serial = ET.SubElement(devices, "serial", type="pty")
    # Appended to, so that a guest's last words survive its next start.
    ET.SubElement(serial, "log", file=str(console), append="on")
    ET.SubElement(serial, "target", port="0")
    # A secret in the definition, as administrators have them: whoever redefines the guest must not lose it.
    # On a socket nobody else can open, and a new one for each guest.
    vnc = ET.SubElement(devices, "graphics", type="vnc", passwd=secrets.token_hex(4))
    ET.SubElement(vnc, "listen", type="socket")
    if hardware.ssh_port is not None:
        _network(domain, hardware)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode")


def _network(domain: ET.Element, hardware: Hardware) -> None:
    """QEMU's own user network, which needs nothing of the host; libvirt would want passt for its ports."""
    bus = "pcie.0" if "q35" in hardware.machine else "pci.0"
    forward = f"hostfwd=tcp:127.0.0.1:{hardware.ssh_port}-:22"
    ET.register_namespace("qemu", _QEMU)
    line = ET.SubElement(domain, f"{{{_QEMU}}}commandline")
    for value in (
        "-netdev",
        f"user,id=lab,restrict=on,{forward}",
        "-device",
        f"virtio-net-pci,netdev=lab,bus={bus},addr=0x1d",
    ):
        ET.SubElement(line, f"{{{_QEMU}}}arg", value=value)


def _disk(devices: ET.Element, hardware: Hardware, image: Path) -> None:
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    driver = ET.SubElement(disk, "driver", name="qemu", type="qcow2", cache="writeback")
    if hardware.discard is not None:
        driver.set("discard", hardware.discard)
    ET.SubElement(disk, "source", file=str(image))
    ET.SubElement(
        disk, "target", dev=_TARGETS.get(hardware.bus, "sda"), bus=hardware.bus
    )
    if hardware.bus == "scsi":
        ET.SubElement(
            devices, "controller", type="scsi", index="0", model="virtio-scsi"
        )


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text
