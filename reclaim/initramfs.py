"""What builds a guest's initramfs, told what to put in, and run so that an old image stays until the new one is whole.

update-initramfs writes `<image>.new` and renames it (generate_initramfs in Debian's update-initramfs).
The others do not: dracut copies onto the image and removes it where that fails (the end of dracut.sh),
mkinitfs removes it first (initfs_cpio), mkinitcpio writes into it. For these the image is built beside
and renamed here, one kernel after the other: /boot needs room for one more.
"""

from __future__ import annotations

import re

from reclaim.errors import Withheld
from reclaim.facts import Facts, Kernel
from reclaim.fstab import is_renamed_by_bus
from reclaim.storage import filesystems
from reclaim.text import size

#: what a kernel needs to find its root on a virtio-scsi disk
MODULES = ("virtio_pci", "virtio_scsi", "sd_mod")
#: the builders that are known, and how each is told which image to write for which kernel
_BESIDE = {
    "dracut": "dracut --force {image}.reclaim {release}",
    "mkinitcpio": "mkinitcpio -k {release} -g {image}.reclaim",
    "mkinitfs": "mkinitfs -o {image}.reclaim {release}",
}
_BUILDERS = ("update-initramfs", *_BESIDE)
#: bytes of /boot that are left beside a new image
_SPARE = 1024 * 1024


def builder(facts: Facts) -> str:
    """The tool that builds this guest's initramfs. Raises Withheld where it is none that is known."""
    for tool in _BUILDERS:
        if tool in facts.tools:
            return tool
    raise Withheld(f"none of {', '.join(_BUILDERS)} is installed in the guest")


def rebuild(facts: Facts) -> str:
    """The command that rebuilds every kernel's initramfs. Raises Withheld where /boot has no room for it."""
    tool = builder(facts)
    needed = max((kernel.initramfs_bytes for kernel in facts.kernels), default=0)
    needed += needed // 10 + _SPARE  # a tenth: what is added
    if facts.boot_free is not None and facts.boot_free < needed:
        raise Withheld(
            f"/boot has {size(facts.boot_free)} free, a new initramfs takes {size(needed)}: remove old kernels"
        )
    if tool == "update-initramfs":
        return "update-initramfs -u -k all"
    commands = [_beside(tool, kernel) for kernel in facts.kernels if kernel.path]
    if not commands:
        raise Withheld(f"no kernel in /boot has an initramfs: {tool} by hand")
    return " && ".join(commands)


def _beside(tool: str, kernel: Kernel) -> str:
    names = {"image": kernel.path or "", "release": kernel.release}
    if not all(re.fullmatch(r"[\w/][\w./+~:-]*", name, re.ASCII) for name in names.values()):
        raise Withheld(f"{tool} by hand: a kernel's name has characters of the shell")
    build = _BESIDE[tool].format(**names)
    return "{{ {build} && mv -f {image}.reclaim {image} || {{ rm -f {image}.reclaim; false; }}; }}".format(
        build=build, **names
    )


def disks(facts: Facts) -> list[str]:
    """The disks that the guest runs on, by their names on the bus that they are on now.

    An initramfs without virtio_scsi must not come back while they have other names.
    """
    found = {way[0].path for one in filesystems(facts) for way in one.ways}
    return sorted(path for path in found if is_renamed_by_bus(path))
