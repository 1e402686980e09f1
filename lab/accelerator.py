"""Finds whether KVM works here, by starting something: a /dev/kvm that opens is no proof."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

from lab import paths, tools
from lab.error import LabError

Accelerator = Literal["kvm", "qemu"]

EMULATOR = "qemu-system-x86_64"
PROBE_SECONDS = 6.0
"""KVM that works is done with the probe in well under one second."""

_EXIT_PORT = 0xF4
_SUCCESS = (0x10 << 1) | 1
"""isa-debug-exit makes the byte b written to its port the exit status 2b + 1."""


def accelerator() -> Accelerator:
    """Return libvirt's domain type for this machine: `kvm` where KVM runs a guest, else `qemu` (slow, always works).

    The answer is kept until the machine boots again. Raises LabError where QEMU is not installed.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    kept = paths.cache() / "accelerator.json"
    try:
        answer = json.loads(kept.read_text(encoding="utf-8"))
        if answer["boot"] == boot:
            return "kvm" if answer["type"] == "kvm" else "qemu"
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    found: Accelerator = (
        "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _runs("kvm") else "qemu"
    )
    beside = kept.with_suffix(f".{os.getpid()}")
    beside.write_text(
        json.dumps({"boot": boot, "type": found}) + "\n", encoding="utf-8"
    )
    beside.replace(kept)
    return found


def _runs(accel: Literal["kvm", "tcg"]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        sector = Path(folder, "boot.img")
        sector.write_bytes(_boot_sector())
        argv = [
            EMULATOR,
            "-machine",
            f"pc,accel={accel}",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]
        argv += ["-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=1"]
        argv += ["-drive", f"file={sector},format=raw,if=floppy"]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_SECONDS,
                env=tools.environment(),
                check=False,
            )
        except FileNotFoundError:
            raise LabError(f"{EMULATOR} is not installed") from None
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == _SUCCESS


def _boot_sector() -> bytes:
    # Reaching the exit port alone is no proof either: where KVM crawls, a few instructions still get through.
    # So it counts 200 million down first and then waits for five timer interrupts.
    code = b"".join(
        [
            b"\xfa",  # cli
            b"\x66\xb9" + struct.pack("<I", 200_000_000),  # mov ecx, 200000000
            b"\x66\x49\x75\xfc",  # dec ecx; jnz back
            b"\xfb",  # sti
            b"\xb9\x05\x00",  # mov cx, 5
            b"\xf4\xe2\xfd",  # hlt; loop back
            b"\xba" + struct.pack("<H", _EXIT_PORT),  # mov dx, the exit port
            b"\xb0\x10\xee",  # mov al, 0x10; out dx, al
            b"\xf4\xeb\xfd",  # hlt for ever
        ]
    )
    return code.ljust(510, b"\0") + b"\x55\xaa"
