"""What builds a guest's initramfs, told what to put in, and run so that an old image stays until the new one is whole.

update-initramfs writes `<image>.new` and renames it (generate_initramfs in Debian's update-initramfs).
The others do not: dracut copies onto the image and removes it where that fails (the end of dracut.sh),
mkinitfs removes it first (initfs_cpio), mkinitcpio writes into it. For these the image is built beside
and renamed here, one kernel after the other: /boot needs room for one more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reclaim.base.cached import once
from reclaim.base.errors import Withheld
from reclaim.base.text import size
from reclaim.definition.domain import Definition
from reclaim.inside.facts import Facts, Kernel
from reclaim.inside.filesystems import filesystems
from reclaim.inside.fstab import is_renamed_by_bus

_MODULES = ("virtio_pci", "virtio_scsi", "sd_mod")
#: the builders that are known, and how each is told which image to write for which kernel
_BESIDE = {
    "dracut": "dracut --force {image}.reclaim {release}",
    "mkinitcpio": "mkinitcpio -k {release} -g {image}.reclaim",
    "mkinitfs": "mkinitfs -o {image}.reclaim {release}",
}
_BUILDERS = ("update-initramfs", *_BESIDE)
#: update-initramfs.conf(5)
_UPDATES = "/etc/initramfs-tools/update-initramfs.conf"
_NO_UPDATES = re.compile(r"^[ \t]*update_initramfs=[\"']?no\b", re.MULTILINE)
#: dracut.conf(5)
_UEFI = re.compile(r"^[ \t]*uefi=[\"']?yes", re.MULTILINE)
#: mkinitcpio(8), "PRESETS": NAME_image, and what else is said of NAME, or of ALL
_IMAGE = re.compile(
    r"^[ \t]*(?P<name>\w+)_image=(?P<q>[\"']?)(?P<path>[^\"'\s]+)(?P=q)", re.MULTILINE
)
_SETTING = re.compile(
    r"^[ \t]*(?P<name>\w+?)_(?P<what>config|options)=(?P<q>[\"'(]?)(?P<value>[^\"'()\n]*)",
    re.MULTILINE,
)
#: bytes of /boot that are left beside a new image
_SPARE = 1024 * 1024


def modules(definition: Definition) -> tuple[str, ...]:
    """What a kernel needs to find its root on a virtio-scsi disk of that guest."""
    # on s390x virtio is a channel device, and its driver no module (S390_GUEST in Linux' arch/s390/Kconfig is a bool)
    return _MODULES[1:] if definition.arch == "s390x" else _MODULES


def builder(facts: Facts) -> str:
    """The tool that builds this guest's initramfs. Raises Withheld where it is none that is known."""
    for tool in _BUILDERS:
        # initramfs-tools' own update-initramfs calls its mkinitramfs: another's reads none of its files
        if tool in facts.tools and (
            tool != "update-initramfs" or "mkinitramfs" in facts.tools
        ):
            return tool
    raise Withheld(f"none of {', '.join(_BUILDERS)} is installed in the guest")


def rebuild(facts: Facts) -> str:
    """The command that rebuilds every kernel's initramfs. Raises Withheld where /boot has no room for it."""
    tool = builder(facts)
    unified = [kernel.unified for kernel in facts.kernels if kernel.unified]
    if unified:
        raise Withheld(
            f"build {', '.join(unified)} anew by what built it: the initramfs is inside"
        )
    for kernel in facts.kernels:
        _expect_room(facts, kernel)
    if tool == "update-initramfs":
        if _NO_UPDATES.search(facts.boot_files.get(_UPDATES, "")):
            raise Withheld(
                f"{_UPDATES} says update_initramfs=no: update-initramfs does nothing"
            )
        return "update-initramfs -u -k all"
    commands = [_beside(facts, tool, kernel) for kernel in facts.kernels if kernel.path]
    if not commands:
        raise Withheld(f"no kernel in /boot has an initramfs: {tool} by hand")
    return " && ".join(commands)


def _expect_room(facts: Facts, kernel: Kernel) -> None:
    free = facts.boot_free if kernel.free is None else kernel.free
    needed = (
        kernel.initramfs_bytes + kernel.initramfs_bytes // 10 + _SPARE
    )  # a tenth: what is added
    if kernel.path and free is not None and free < needed:
        where = "/boot" if kernel.free is None else kernel.path
        raise Withheld(
            f"{where} has {size(free)} free, a new initramfs takes {size(needed)}: remove old kernels"
        )


def _beside(facts: Facts, tool: str, kernel: Kernel) -> str:
    names = {"image": kernel.path or "", "release": kernel.release}
    if not all(
        re.fullmatch(r"[\w/][\w./+~:-]*", name, re.ASCII) for name in names.values()
    ):
        raise Withheld(f"{tool} by hand: a kernel's name has characters of the shell")
    _expect_plain(facts, tool, kernel)
    build = _BESIDE[tool].format(**names)
    return "{{ {build} && mv -f {image}.reclaim {image} || {{ rm -f {image}.reclaim; false; }}; }}".format(
        build=build, **names
    )


def _expect_plain(facts: Facts, tool: str, kernel: Kernel) -> None:
    """Raises Withheld where *tool* is told more about this image than is repeated here."""
    if tool == "dracut" and (path := _unified_by_dracut(facts)):
        raise Withheld(f"dracut by hand: {path} has it build unified images")
    if tool != "mkinitcpio":
        return
    known = _presets(facts)
    if told := known.get("") or known.get(kernel.path or ""):
        raise Withheld(f"mkinitcpio by hand: {told}")


@once
def _unified_by_dracut(facts: Facts) -> str | None:
    """The file that has dracut build unified images."""
    return next(
        (
            p
            for p, text in facts.boot_files.items()
            if p.startswith("/etc/dracut.conf") and _UEFI.search(text)
        ),
        None,
    )


@once
def _presets(facts: Facts) -> Mapping[str, str]:
    """What mkinitcpio's presets say of an image beside its path, in words, by that path; "": of all images."""
    found: dict[str, str] = {}
    for path, text in facts.boot_files.items():
        if not path.endswith(".preset"):
            continue
        images: dict[str, list[str]] = {"ALL": [""]}
        for match in _IMAGE.finditer(text):
            images.setdefault(match["name"], []).append(match["path"])
        for match in _SETTING.finditer(text):
            if match["value"] not in ("", "/etc/mkinitcpio.conf"):
                for image in images.pop(match["name"], ()):
                    found.setdefault(
                        image, f"{path} sets {match['name']}_{match['what']}"
                    )
    return found


def disks(facts: Facts) -> list[str]:
    """The disks that the guest runs on, by their names on the bus that they are on now.

    An initramfs without virtio_scsi must not come back while they have other names.
    """
    found = {way[0].path for one in filesystems(facts) for way in one.ways}
    return sorted(path for path in found if is_renamed_by_bus(path))
