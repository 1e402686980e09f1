"""The commands that build a guest's initramfs, so that an old image stays until the new one is whole.

update-initramfs writes `<image>.new` and renames it (generate_initramfs in Debian's update-initramfs).
The others do not: dracut copies onto the image and removes it if that fails (the end of dracut.sh),
mkinitfs removes it first (initfs_cpio), mkinitcpio writes into it. For these the image is built beside
and renamed here, one kernel after the other: /boot needs room for one more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from reclaim.base.cached import once
from reclaim.base.errors import Withheld
from reclaim.base.text import size
from reclaim.definition.domain import Definition
from reclaim.inside.facts import Facts, Kernel
from reclaim.inside.filesystems import filesystems
from reclaim.inside.fstab import is_renamed_by_bus

_MODULES = ("virtio_pci", "virtio_scsi", "sd_mod")
#: the builders that are known, each with its command to write one kernel's image
_BESIDE = {
    "dracut": "dracut --force {image}.reclaim {release}",
    "mkinitcpio": "mkinitcpio -k {release} -g {image}.reclaim",
    "mkinitfs": "mkinitfs -o {image}.reclaim {release}",
}
_BUILDERS = ("update-initramfs", *_BESIDE)
#: initramfs-tools' own update-initramfs calls its mkinitramfs: another's reads none of its files
_NEEDS = {"update-initramfs": "mkinitramfs"}
#: update-initramfs.conf(5)
_UPDATES = "/etc/initramfs-tools/update-initramfs.conf"
_NO_UPDATES = re.compile(r"^[ \t]*update_initramfs=[\"']?no\b", re.MULTILINE)
#: dracut.conf(5)
_UEFI = re.compile(r"^[ \t]*uefi=[\"']?yes", re.MULTILINE)
#: mkinitcpio(8), "PRESETS": NAME_image, and the other settings of NAME, or of ALL
_IMAGE = re.compile(
    r"^[ \t]*(?P<name>\w+)_image=(?P<q>[\"']?)(?P<path>[^\"'\s]+)(?P=q)", re.MULTILINE
)
_SETTING = re.compile(
    r"^[ \t]*(?P<name>\w+?)_(?P<what>config|options)=(?P<q>[\"'(]?)(?P<value>[^\"'()\n]*)",
    re.MULTILINE,
)
#: names that the shell takes as they are
_PLAIN = re.compile(r"[\w/][\w./+~:-]*", re.ASCII)
#: bytes of /boot that are left beside a new image
_SPARE = 1024 * 1024


def modules(definition: Definition) -> tuple[str, ...]:
    """Return the modules that a kernel needs to find its root on a virtio-scsi disk of that guest."""
    # on s390x virtio is a channel device, and its driver no module (S390_GUEST in Linux' arch/s390/Kconfig is a bool)
    if definition.arch == "s390x":
        return _MODULES[1:]
    return _MODULES


def named_images(facts: Facts) -> list[tuple[str, Kernel]]:
    """Return each kernel with its name: its release, and the image too if the release has several.

    kernel-install(8) copies kernel and initramfs to where the boot loader finds them, or puts both into a unified
    image: the one that boots is not the one in /boot, and may be older.
    """
    releases = Counter(kernel.release for kernel in facts.kernels)
    named = []
    for kernel in facts.kernels:
        name = kernel.release
        if releases[kernel.release] > 1:
            image = kernel.unified or kernel.path or "without an initramfs"
            name = f"{kernel.release} ({image})"
        named.append((name, kernel))
    return named


def why_not_known(definition: Definition, facts: Facts) -> str | None:
    """Return the reason why reclaim does not know the modules of the kernels that the guest boots; None if it does."""
    from reclaim.inside.boot.loaders import (  # noqa: PLC0415 (start-up)
        why_not_all_of_boot,
    )

    given = definition.root.findtext("os/kernel")
    if given and not _is_built_in(facts, modules(definition)):
        return (
            f"the host gives it its kernel ({given}): reclaim does not know its drivers"
        )
    if not given:
        reason = why_not_all_of_boot(facts)
        if reason:
            return reason
    if not facts.kernels:
        return "no kernel in /boot: reclaim does not know its kernel"
    unread = []
    for name, kernel in named_images(facts):
        if kernel.problem:
            unread.append(f"{name}: {kernel.problem}")
    return "; ".join(unread) or None


def _is_built_in(facts: Facts, needed: tuple[str, ...]) -> bool:
    """True if the kernel that runs has the modules in itself."""
    for kernel in facts.kernels:
        if kernel.release == facts.running_kernel:
            return kernel.builtin.issuperset(needed)
    return False


def lacking(facts: Facts, needed: tuple[str, ...]) -> list[str]:
    """Return the kernels that lack some of the modules *needed* when they boot, in words: `6.1 has no sd_mod`."""
    sentences = []
    for name, kernel in named_images(facts):
        missing = ", ".join(module for module in needed if not kernel.has(module))
        if missing:
            sentences.append(f"{name} has no {missing}")
    return sentences


#: parameters of the kernel, of modprobe and of dracut that keep modules out, and functions that stand for drivers
_KEPT_OUT = re.compile(
    r"(?<![\w.-])(?P<key>module_blacklist|modprobe\.blacklist|rd\.driver\.blacklist|rdblacklist|initcall_blacklist)="
    r"(?P<list>[\w,-]+)"
)
_INITCALLS = {
    "virtio_scsi_init": "virtio_scsi",
    "init_sd": "sd_mod",
    "virtio_pci_driver_init": "virtio_pci",
}
#: `blacklist MODULE`, and `install MODULE /bin/false` and the like (modprobe.d(5))
_MODPROBE = re.compile(
    r"^[ \t]*(?P<key>blacklist|install)[ \t]+(?P<module>[\w-]+)[ \t]*(?P<command>\S*)",
    re.MULTILINE,
)
_NOTHING = ("true", "false", ":")


def kept_out(facts: Facts, needed: tuple[str, ...]) -> list[str]:
    """Return the settings that keep a module of *needed* from being loaded, each with its file.

    A kernel that has the module in itself obeys `initcall_blacklist` alone, and any other all but that.
    """
    settings: dict[str, None] = {}
    for path, text in {**facts.boot_files, **facts.unified}.items():
        read = _in_modprobe if "/modprobe.d/" in path else _in_parameters
        for module, setting in read(text):
            obeys_initcalls = setting.startswith("initcall_")
            kernels = {module in kernel.builtin for kernel in facts.kernels}
            if module in needed and obeys_initcalls in kernels:
                settings[f"{path}: {setting} keeps {module} out"] = None
    return list(settings)


def _in_parameters(text: str) -> Iterator[tuple[str, str]]:
    """Yield each module that a parameter in *text* keeps out, with that parameter."""
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        for match in _KEPT_OUT.finditer(line):
            for name in match["list"].split(","):
                module = _module(name)
                if match["key"].startswith("initcall_"):
                    module = _INITCALLS.get(name, "")
                yield module, f"{match['key']}={name}"


def _in_modprobe(text: str) -> Iterator[tuple[str, str]]:
    """Yield each module that a file of modprobe.d(5) keeps out, with its line."""
    for match in _MODPROBE.finditer(text):
        does_nothing = match["command"].rpartition("/")[2] in _NOTHING
        if match["key"] == "blacklist" or does_nothing:
            yield _module(match["module"]), match[0].strip()


def _module(name: str) -> str:
    return name.replace("-", "_")


def not_even_modules(facts: Facts, needed: tuple[str, ...]) -> str:
    """Return the kernels that do not have some of the modules *needed* at all, in words: `6.1 has no sd_mod`."""
    sentences: dict[str, None] = {}
    for kernel in facts.kernels:
        for module in sorted(kernel.lacking.intersection(needed)):
            sentences[f"{kernel.release} has no {module}"] = None
    return "; ".join(sentences)


def builder(facts: Facts) -> str:
    """Return the tool that builds this guest's initramfs. Raises Withheld if none that reclaim knows is installed."""
    for tool in _BUILDERS:
        if tool in facts.tools and _NEEDS.get(tool, tool) in facts.tools:
            return tool
    raise Withheld(f"none of {', '.join(_BUILDERS)} is installed in the guest")


def rebuild(facts: Facts) -> str:
    """Return the command that rebuilds every kernel's initramfs. Raises Withheld if there is no safe one.

    /boot may have no room for it, or the images have settings that reclaim does not repeat.
    """
    tool = builder(facts)
    unified = [kernel.unified for kernel in facts.kernels if kernel.unified]
    if unified:
        raise Withheld(
            f"build {', '.join(unified)} again with the same tool: the initramfs is inside"
        )
    for kernel in facts.kernels:
        _expect_room(facts, kernel)
    if tool == "update-initramfs":
        return _update_all(facts)
    commands = [_beside(facts, tool, kernel) for kernel in facts.kernels if kernel.path]
    if not commands:
        raise Withheld(f"no kernel in /boot has an initramfs: {tool} by hand")
    return " && ".join(commands)


def _update_all(facts: Facts) -> str:
    if _NO_UPDATES.search(facts.boot_files.get(_UPDATES, "")):
        raise Withheld(
            f"{_UPDATES} sets update_initramfs=no: update-initramfs does nothing"
        )
    return "update-initramfs -u -k all"


def _expect_room(facts: Facts, kernel: Kernel) -> None:
    free, folder = kernel.free, kernel.path
    if free is None:
        free, folder = facts.boot_free, "/boot"
    added = kernel.initramfs_bytes // 10
    needed = kernel.initramfs_bytes + added + _SPARE
    if not kernel.path:
        return
    if free is None:
        return
    if free < needed:
        raise Withheld(
            f"{folder} has {size(free)} free, a new initramfs takes {size(needed)}: remove old kernels"
        )


def _beside(facts: Facts, tool: str, kernel: Kernel) -> str:
    names = {"image": kernel.path or "", "release": kernel.release}
    if not all(map(_PLAIN.fullmatch, names.values())):
        raise Withheld(f"{tool} by hand: a kernel's name has characters of the shell")
    _expect_plain(facts, tool, kernel)
    build = _BESIDE[tool].format(**names)
    return "{{ {build} && mv -f {image}.reclaim {image} || {{ rm -f {image}.reclaim; false; }}; }}".format(
        build=build, **names
    )


def _expect_plain(facts: Facts, tool: str, kernel: Kernel) -> None:
    """Raise Withheld if a file gives *tool* options for this image that our command would lose."""
    if tool == "dracut":
        path = _unified_by_dracut(facts)
        if path:
            raise Withheld(f"dracut by hand: {path} has it build unified images")
    if tool == "mkinitcpio":
        presets = _presets(facts)
        setting = presets.get("") or presets.get(kernel.path or "")
        if setting:
            raise Withheld(f"mkinitcpio by hand: {setting}")


@once
def _unified_by_dracut(facts: Facts) -> str | None:
    """Return the file that has dracut build unified images, or None."""
    for path, text in facts.boot_files.items():
        if path.startswith("/etc/dracut.conf") and _UEFI.search(text):
            return path
    return None


@once
def _presets(facts: Facts) -> Mapping[str, str]:
    """Return the settings that mkinitcpio's presets have beside an image's path, by that path; "": for all images."""
    settings: dict[str, str] = {}
    for path, text in facts.boot_files.items():
        if not path.endswith(".preset"):
            continue
        images: dict[str, list[str]] = {"ALL": [""]}
        for match in _IMAGE.finditer(text):
            images.setdefault(match["name"], []).append(match["path"])
        for match in _SETTING.finditer(text):
            if match["value"] in ("", "/etc/mkinitcpio.conf"):
                continue
            setting = f"{path} sets {match['name']}_{match['what']}"
            for image in images.pop(match["name"], ()):
                settings.setdefault(image, setting)
    return settings


def disks(facts: Facts) -> list[str]:
    """Return the disks that the guest runs on, by their names on the bus that they are on now.

    An initramfs without virtio_scsi must not come back while they have other names.
    """
    paths: set[str] = set()
    for filesystem in filesystems(facts):
        paths.update(way[0].path for way in filesystem.ways)
    return sorted(path for path in paths if is_renamed_by_bus(path))
