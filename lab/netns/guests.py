"""The guests of a host: definitions of domains that are off, each with a small image."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path

from lab import machines
from lab.accelerator import EMULATOR
from lab.domain import Hardware, definition
from lab.netns.host import Host

IMAGES = "/var/lib/libvirt/images"
DEFINITIONS = "/etc/libvirt/qemu"
_KEPT = Hardware(
    machine="pc-q35-7.2", bus="scsi", discard="unmap", memory_mib=64, vcpus=1
)


def names(count: int) -> list[str]:
    """Return the names of the first `count` guests of a host."""
    return [f"guest{number:02}" for number in range(1, count + 1)]


def define(host: Host, count: int) -> None:
    """Define guests on a host: all as they were in 2013, but for the last one, which is kept well. Raises LabError."""
    wanted = names(count)
    old = Hardware(machine=_oldest(host), memory_mib=64, vcpus=1)
    lines = []
    for name in wanted:
        hardware = _KEPT if name == wanted[-1] and count > 1 else old
        image = Path(IMAGES, f"{name}.qcow2")
        console = Path(f"/var/log/libvirt/qemu/{name}.console")
        text = definition(name, "qemu", hardware, image, console)
        host.path(f"/tmp/{name}.xml").write_text(text, encoding="utf-8")  # noqa: S108
        host.guests.append(name)
        lines.append(f"define /tmp/{name}.xml")
    first, *others = (shlex.quote(f"{IMAGES}/{name}.qcow2") for name in wanted)
    script = [f"qemu-img create -q -f qcow2 {first} 64M"]
    script += [f"cp {first} {other}" for other in others]
    script.append(f"virsh --quiet {shlex.quote('; '.join(lines))}")
    script.append("rm /tmp/guest*.xml")
    host.call(["sh", "-eu", "-c", "\n".join(script)])


def _oldest(host: Host) -> str:
    """Return the machine type of a guest of 2013, or the oldest one of its family that QEMU of the host has."""
    listed = host.call([EMULATOR, "-machine", "help"]).splitlines()
    family = machines.family(machines.OLD)
    known = [line.split()[0] for line in listed if line.startswith(f"{family}-")]
    return machines.OLD if machines.OLD in known else min(known, key=machines.version)


def checksums(host: Host) -> dict[str, str]:
    """Return the SHA-256 of the file of each definition, by the guest's name; also if its libvirtd does not run."""
    return {
        file.stem: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(host.path(DEFINITIONS).glob("*.xml"))
    }
