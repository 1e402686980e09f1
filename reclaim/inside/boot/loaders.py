"""Every place of a guest's boot that names devices, whichever boot loader reads it."""

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
#: initramfs.conf(5): each of them may have the settings of the others
_INITRAMFS_TOOLS = re.compile(r"/etc/initramfs-tools/(initramfs\.conf|conf\.d/.+)\Z")
_DRACUT = re.compile(r"/etc/dracut\.conf(\.d/.+\.conf)?\Z")
#: dracut.conf(5): devices that an image waits for or mounts, or the naming of the devices that it waits for
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
    """Return the reason why /boot may lack the files that boot: fstab has a filesystem for it that is not mounted."""
    if "/boot" in facts.mounts_on:
        return None
    if any(entry.target.rstrip("/") == "/boot" for entry in fstab.listed(facts)):
        return "/boot is in fstab and not mounted: the files of the boot lie there"
    return None


def why_not_known(facts: Facts) -> str | None:
    """Return the reason why reclaim cannot see how this guest boots; None if it can."""
    incomplete = why_not_all_of_boot(facts)
    if incomplete:
        return incomplete
    unread = entries.unread(facts)
    if unread:
        return f"the command line built into {', '.join(unread)} cannot be read"
    if grub.menus(facts) or entries.are_there(facts):
        return _why_not_these(facts)
    for path, name in _NOT_READ.items():
        if path in facts.boot_files:
            return f"it boots with {name} ({path}), which reclaim does not read"
    return "no grub.cfg, no boot entry, no extlinux.conf: reclaim does not know how this guest boots"


def _why_not_these(facts: Facts) -> str | None:
    """Return the reason why the running kernel was not booted by these files: none has its root.

    An entry of the firmware that starts the kernel itself is in no file; a menu may lie about unused.
    """
    texts = [*facts.boot_files.values(), *facts.unified.values()]
    known = {parameter for text in texts for parameter in cmdline.parameters(text)}
    for name in cmdline.names(facts.command_line):
        if name.is_cut:
            continue
        values = [name.value]
        device = facts.device(name.device)
        if device:
            values += [f"{tag}={getattr(device, tag.lower())}" for tag in TAGS]
        if known.isdisjoint(f"{name.parameter}={value}" for value in values):
            return f"it was booted with {name}, which is in no boot loader file that reclaim read"
    return None


def places(facts: Facts) -> list[BootFile]:
    """Return every place that names a device by its bus."""
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
    """Yield initramfs.conf, conf.d/resume and its neighbours (initramfs-tools(7)). The initramfs has a copy of them."""
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
            stable = _resume_named_stably(facts, text)
            yield BootFile(
                path=path,
                names=shown,
                devices=devices,
                before=text,
                after=stable,
                rebuild=True,
            )
        others: list[str] = []
        for line in _RESUME.sub("", text).split("\n"):
            others += other_services.devices(line.partition("#")[0])
        if others:
            yield BootFile(
                path=path,
                names=tuple(others),
                advice=f"{path}: name the device by UUID=, then update-initramfs -u -k all",
            )


def _resume_named_stably(facts: Facts, text: str) -> str:
    def stable(match: re.Match[str]) -> str:
        device = facts.device(match["device"])
        name = None
        if device:
            name = stable_name(facts, device)
        if name:
            return f"{match['key']}{name}"
        return match[0]

    return _RESUME.sub(stable, text)


def _dracut(facts: Facts) -> Iterator[BootFile]:
    """Yield the settings that dracut writes into each image: a command line, devices to wait for."""
    for path, text in facts.boot_files.items():
        if not _DRACUT.match(path):
            continue
        place = in_lines(facts, path, begins(r"kernel_cmdline\+?="))
        if place:
            yield replace(place, rebuild=True)
        by_hand = tuple(match[0].strip() for match in _BY_HAND.finditer(text))
        if by_hand:
            yield BootFile(
                path=path,
                names=by_hand,
                advice=f"{path}: name devices by UUID, then dracut --force --regenerate-all",
            )


def _baked(facts: Facts) -> Iterator[BootFile]:
    """Yield the images that wait for devices by their bus, whatever the files say that they were made from."""
    for kernel in facts.kernels:
        image = kernel.path or kernel.unified
        devices = filter(is_renamed_by_bus, sorted(kernel.waits))
        names = tuple(f"waits for {device}" for device in devices)
        if names and image:
            yield BootFile(
                path=image,
                names=names,
                advice=f"build {image} again, so that it waits for no device by its bus",
            )
