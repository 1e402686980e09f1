"""Guests without an operating system, for what libvirt and QEMU do: they start in a second under emulation.

Their boot sector is all there is. It says R on the serial console, sleeps, and goes off when the power button is
pressed (ACPI: PM1a at port 0x600, where SeaBIOS puts it); or, for a guest that is to crash, it panics at once.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import libvirt

from lab import guest as lab
from lab import host, machines, paths
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory, Policy

_SECONDS = 30
_BUTTON = bytes.fromhex(
    "ba f803 b0 52 ee"  # out 0x3f8, 'R'
    "ba 0206 b8 0001 ef"  # PM1_EN: the power button
    "fb f4 ba 0006 ed f6c401 74f5"  # sti; hlt; until PM1_STS says it was pressed
    "ba 0406 b8 0020 ef f4 ebfd"  # PM1_CNT: soft off
)
_PANIC = bytes.fromhex("ba f803 b0 52 ee ba 0505 b0 01 ee f4 ebfd")  # out 0x505, 1: pvpanic


@dataclass
class Tiny:
    """One such guest: its domain, as libvirt has it, and its files."""

    name: str
    files: list[Path] = field(default_factory=list)

    @property
    def image(self) -> Path:
        return self.file("qcow2")

    @property
    def domain(self) -> libvirt.virDomain:
        return lab.lookup(self.name)

    def file(self, suffix: str) -> Path:
        """A file that goes when the guest goes."""
        path = paths.guests() / f"{self.name}.{suffix}"
        if path not in self.files:
            self.files.append(path)
        return path

    def guest(self, **policy: object) -> Guest:
        """The guest as reclaim sees it, with what nobody has read yet."""
        inventory = Inventory(policy=Policy.model_validate({"shutdown_seconds": 6, "boot_seconds": 10, **policy}))
        found = connect(host.URI, None, inventory)
        return next(one for one in found.guests if one.name == self.name)

    def start(self) -> None:
        """Start it and wait for its R."""
        console = self.file("console")
        said = console.stat().st_size if console.exists() else 0
        self.domain.create()
        self.wait(lambda: console.stat().st_size > said)

    def wait(self, condition: object) -> None:
        end = time.monotonic() + _SECONDS
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < end, f"{self.name}: not within {_SECONDS} s"
            time.sleep(0.05)


def qcow2(path: Path, content: bytes = b"") -> Path:
    """A small qcow2 image that begins with *content*."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(content.ljust(1024 * 1024, b"\0"))
    subprocess.run(["qemu-img", "convert", "-q", "-O", "qcow2", str(raw), str(path)], check=True)
    raw.unlink()
    return path


def xml_of(tiny: Tiny, *devices: str, machine: str = "pc-i440fx-2.0", driver: str = "", **more: str) -> str:
    """Its definition: one virtio disk, *devices*, and `os`, `metadata` and `tail` where they are given."""
    return (
        f"<domain type='qemu'><name>{tiny.name}</name><uuid>{uuid.uuid5(uuid.NAMESPACE_DNS, tiny.name)}</uuid>"
        f"<metadata>{more.get('metadata', '')}</metadata><memory unit='MiB'>32</memory>"
        f"<os><type arch='x86_64' machine='{machines.here(machine)}'>hvm</type>{more.get('os', '')}</os>"
        f"<features><acpi/></features><on_crash>preserve</on_crash>{more.get('tail', '')}<devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' {driver}/><source file='{tiny.image}'/>"
        f"<target dev='vda' bus='virtio'/></disk>{''.join(devices)}"
        f"<serial type='pty'><log file='{tiny.file('console')}' append='on'/></serial>"
        f"<memballoon model='none'/></devices></domain>"
    )


@contextmanager
def made(word: str, *devices: str, running: bool = True, panics: bool = False, **definition: str) -> Iterator[Tiny]:
    """A guest for the while of a test."""
    tiny = Tiny(paths.checked(f"{paths.PREFIX}tiny-{word}-{os.getpid()}"))
    connection = host.ensure_libvirt()
    lab.destroy(tiny.name)
    code = _PANIC if panics else _BUTTON
    qcow2(tiny.image, code.ljust(510, b"\0") + b"\x55\xaa")
    try:
        connection.defineXMLFlags(xml_of(tiny, *devices, **definition), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        if running:
            tiny.start()
        yield tiny
    finally:
        lab.destroy(tiny.name)
        for path in tiny.files:
            path.unlink(missing_ok=True)
