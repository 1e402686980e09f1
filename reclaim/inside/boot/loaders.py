"""What a guest boots with: every place that names devices, whichever boot loader reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from reclaim.inside import fstab
from reclaim.inside.boot import (
    cmdline,
    crypttab,
    entries,
    grub,
    other_services,
    raid_lvm_zfs,
)
from reclaim.inside.boot.bootfile import BootFile, begins, in_lines
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import TAGS, is_renamed_by_bus, stable_name

#: boot loaders that are known by name alone, and the file each is known by
_NOT_READ = {
    "/boot/grub/menu.lst": "GRUB Legacy",
    "/boot/grub/grub.conf": "GRUB Legacy",
    "/etc/lilo.conf": "LILO",
    "/etc/zipl.conf": "zipl",
    "/boot/limine.conf": "Limine",
    "/boot/limine.cfg": "Limine",
    "/boot/efi/EFI/refind/refind.conf": "rEFInd",
    "/boot/refind_linux.conf": "rEFInd",
}
#: initramfs.conf(5): what may be said in the one may be said in the others
_INITRAMFS_TOOLS = re.compile(r"/etc/initramfs-tools/(initramfs\.conf|conf\.d/.+)\Z")
_DRACUT = re.compile(r"/etc/dracut\.conf(\.d/.+\.conf)?\Z")
#: dracut.conf(5): what it has an image wait for or mount, or how it names the devices that the image waits for
_BY_HAND = re.compile(
    r"^[ \t]*(?:(?:add_device|fstab_lines)\+?=.*/dev/(?:(?:x?vd|[sh]d)[a-z]|disk/by-(?:path|id)/)"
    r"|persistent_policy=[\"']?by-(?:path|id)).*$",
    re.MULTILINE,
)
_RESUME = re.compile(
    r"^(?P<key>[ \t]*(?:RESUME|ROOT)=)(?P<q>[\"']?)(?P<device>/dev/\S+?)(?P=q)[ \t]*$",
    re.MULTILINE,
)


def why_not_all_of_boot(facts: Facts) -> str | None:
    """Why what lies in /boot may not be what boots: fstab has a filesystem for it that is not mounted."""
    if "/boot" in facts.mounts_on:
        return None
    if any(entry.target.rstrip("/") == "/boot" for entry in fstab.listed(facts)):
        return "/boot is in fstab and not mounted: what boots lies there"
    return None


def why_not_known(facts: Facts) -> str | None:
    """Why nobody can tell what boots this guest; None where it can be told."""
    if why := why_not_all_of_boot(facts):
        return why
    if unread := entries.unread(facts):
        return f"the command line built into {', '.join(unread)} cannot be read"
    if grub.menus(facts) or entries.are_there(facts):
        return _elsewhere(facts)
    for path, name in _NOT_READ.items():
        if path in facts.boot_files:
            return f"it boots with {name} ({path}), which reclaim does not read"
    return "no grub.cfg, no boot entry, no extlinux.conf: what boots this guest is not known"


def _elsewhere(facts: Facts) -> str | None:
    """Why what runs was not booted by what was read: nothing there has its root.

    An entry of the firmware that starts the kernel itself is in no file; a menu may lie about unused.
    """
    texts = [*facts.boot_files.values(), *facts.unified.values()]
    known = {parameter for text in texts for parameter in cmdline.parameters(text)}
    for name in cmdline.names(facts.command_line):
        device = facts.device(name.device)
        values = (
            [f"{tag}={getattr(device, tag.lower())}" for tag in TAGS] if device else []
        )
        if known.isdisjoint(
            f"{name.parameter}={value}" for value in (name.value, *values)
        ):
            return f"it was booted with {name}, which is in no file of a boot loader that was read"
    return None


def places(facts: Facts) -> list[BootFile]:
    """Every place that names a device by its bus."""
    return [
        *grub.places(facts),
        *entries.places(facts),
        *_initramfs_tools(facts),
        *_dracut(facts),
        *_baked(facts),
        *crypttab.places(facts),
        *raid_lvm_zfs.places(facts),
        *other_services.places(facts),
    ]


def _initramfs_tools(facts: Facts) -> Iterator[BootFile]:
    """initramfs.conf, conf.d/resume and its neighbours (initramfs-tools(7)): what lies in the initramfs is a copy."""

    def stable(match: re.Match[str]) -> str:
        device = facts.device(match["device"])
        name = stable_name(facts, device) if device else None
        return f"{match['key']}{name}" if name else match[0]

    for path, text in facts.boot_files.items():
        if not _INITRAMFS_TOOLS.match(path):
            continue
        named = [
            match
            for match in _RESUME.finditer(text)
            if is_renamed_by_bus(match["device"])
        ]
        if named:
            shown = tuple(f"{match['key'].strip()}{match['device']}" for match in named)
            devices = tuple(match["device"] for match in named)
            yield BootFile(
                path, shown, devices, text, _RESUME.sub(stable, text), rebuild=True
            )
        others = [
            name
            for line in _RESUME.sub("", text).split("\n")
            for name in other_services.devices(line.partition("#")[0])
        ]
        if others:
            yield BootFile(
                path,
                tuple(others),
                advice=f"{path}: name the device by UUID=, then update-initramfs -u -k all",
            )


def _dracut(facts: Facts) -> Iterator[BootFile]:
    """What dracut writes into each image: a command line, devices to wait for."""
    for path, text in facts.boot_files.items():
        if not _DRACUT.match(path):
            continue
        if place := in_lines(facts, path, begins(r"kernel_cmdline\+?=")):
            yield replace(place, rebuild=True)
        if by_hand := tuple(match[0].strip() for match in _BY_HAND.finditer(text)):
            yield BootFile(
                path,
                by_hand,
                advice=f"{path}: name devices by UUID, then dracut --force --regenerate-all",
            )


def _baked(facts: Facts) -> Iterator[BootFile]:
    """What an image waits for, whatever the files say that it was made from."""
    for kernel in facts.kernels:
        names = tuple(
            f"waits for {device}"
            for device in sorted(kernel.waits)
            if is_renamed_by_bus(device)
        )
        image = kernel.path or kernel.unified
        if names and image:
            yield BootFile(
                image,
                names,
                advice=f"build {image} anew, and see that it waits for nothing by its bus",
            )
