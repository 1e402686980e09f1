"""The machine types that this machine's QEMU has: a newer QEMU lacks the old ones, and may boot fewer than it has."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

from lab import tools
from lab.accelerator import EMULATOR, accelerator
from lab.error import LabError

OLD = "pc-i440fx-1.6"
"""The machine type of a guest of 2013."""

BOOT_SECONDS = 60.0
"""The limit for one sector to boot: it takes half a second under emulation on two idle cores."""

_TYPE = re.compile(r"(pc-i440fx|pc-q35)-(\d+)\.(\d+)")
_EXIT_PORT = 0xF4
#: isa-debug-exit makes the byte b written to its port the exit status 2b + 1
_EXIT_BYTE = 0x10
_SECTOR = bytes([0xBA, _EXIT_PORT, 0, 0xB0, _EXIT_BYTE, 0xEE, 0xF4, 0xEB, 0xFD])


def here(wanted: str) -> str:
    """Return the machine type `wanted` if this QEMU has it, else the next newer one of its family that boots.

    Raises LabError if QEMU is not installed, or has none.
    """
    known = offered()
    if wanted in known or not _TYPE.fullmatch(wanted):
        return wanted
    newer = [
        name
        for name in known
        if family(name) == family(wanted) and version(name) > version(wanted)
    ]
    for name in sorted(newer, key=version):
        if _boots(name):
            return name
    raise LabError(f"this QEMU has no machine type {wanted}, and boots no newer one")


def is_old(name: str) -> bool:
    """True if the type is one of those that the requirement machine-type refuses: older than 2.1."""
    return version(name) < (2, 1)


@cache
def offered() -> tuple[str, ...]:
    """Return the machine types with a version that this QEMU has. Raises LabError if it is not installed."""
    listed = tools.call([EMULATOR, "-machine", "help"], seconds=60)
    names = (line.partition(" ")[0] for line in listed.splitlines())
    return tuple(name for name in names if _TYPE.fullmatch(name))


def version(name: str) -> tuple[int, int]:
    """Return the version in the name of a machine type. Raises LabError if it has none."""
    return _parts(name)[1]


def family(name: str) -> str:
    """Return the name of a machine type without its version. Raises LabError if it has none."""
    return _parts(name)[0]


def _parts(name: str) -> tuple[str, tuple[int, int]]:
    match = _TYPE.fullmatch(name)
    if match is None:
        raise LabError(f"{name} is no machine type with a version")
    return match[1], (int(match[2]), int(match[3]))


@cache
def _boots(machine: str) -> bool:
    """True if the firmware finds a virtio disk on this type: SeaBIOS 1.16.3 does not if virtio has no modern half."""
    accel = "kvm" if accelerator() == "kvm" else "tcg"
    with tempfile.TemporaryDirectory() as folder:
        sector = Path(folder, "boot.img")
        sector.write_bytes(_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
        done = tools.run(
            [
                *(EMULATOR, "-machine", f"{machine},accel={accel}", "-nodefaults"),
                *("-display", "none", "-no-reboot"),
                # firmware that finds nothing to boot restarts the machine, which ends it
                *("-boot", "strict=on,reboot-timeout=1"),
                *("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1"),
                *("-drive", f"file={sector},format=raw,if=none,id=disk"),
                *("-device", "virtio-blk-pci,drive=disk,bootindex=0"),
            ],
            seconds=BOOT_SECONDS,
        )
    return done.returncode == 2 * _EXIT_BYTE + 1
