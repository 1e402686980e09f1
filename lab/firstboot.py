"""Runs a script as the first process of a guest that libvirt does not know yet, by booting its kernel directly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab import tools
from lab.accelerator import EMULATOR, accelerator
from lab.error import LabError

SECONDS = 900.0
"""The limit: it takes about a minute under emulation."""

_DONE = "reclaim-lab: done"
_BEFORE = """\
set -eux
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
mount -o remount,rw /
"""
_AFTER = f"""
sync
mount -o remount,ro /
echo '{_DONE}'
sync
poweroff -ff
"""


def run_in_new_guest(
    disk: Path, kernel: Path, initrd: Path, script: str, more: Sequence[Path] = ()
) -> None:
    """Boot `disk` (raw, root on its first partition) and run `script` with `sh -eux`, the root writable.

    The raw disks `more` are /dev/vdc, /dev/vdd and so on. Raises LabError with the console's last lines where the
    script fails or takes longer than SECONDS.
    """
    text = disk.with_name("script.raw")
    console = disk.with_name("console.txt")
    # The script travels as a second disk: /bin/sh reads it from the device, and powers off before the zeros.
    body = (_BEFORE + script + _AFTER).encode()
    text.write_bytes(body.ljust((len(body) // 4096 + 1) * 4096, b"\n"))
    accel = "kvm" if accelerator() == "kvm" else "tcg"
    argv = [EMULATOR, "-machine", f"pc,accel={accel}", "-m", "1024", "-smp", "2"]
    argv += ["-nodefaults", "-display", "none", "-no-reboot"]
    argv += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe,discard=unmap"]
    argv += ["-drive", f"file={text},format=raw,if=virtio,readonly=on"]
    for one in more:
        argv += [
            "-drive",
            f"file={one},format=raw,if=virtio,cache=unsafe,discard=unmap",
        ]
    argv += [
        "-serial",
        f"file:{console}",
        "-kernel",
        str(kernel),
        "-initrd",
        str(initrd),
    ]
    argv += [
        "-append",
        "root=/dev/vda1 rw console=ttyS0 no_timer_check quiet panic=-1 init=/bin/sh -- /dev/vdb",
    ]
    try:
        tools.call(argv, seconds=SECONDS)
        said = console.read_text(encoding="utf-8", errors="replace")
        if _DONE not in said.splitlines():
            # a panic's own lines would hide the command that failed
            before = said.partition("Kernel panic")[0]
            raise LabError(
                f"the new guest did not finish its first boot; its console:\n{tools.last_lines(before, 15)}"
            )
    finally:
        text.unlink(missing_ok=True)
        console.unlink(missing_ok=True)
