"""GRUB 2: the menu, what it is generated from, and its environment block."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reclaim.base.cached import once
from reclaim.inside.boot import cmdline
from reclaim.inside.boot.bootfile import BootFile, begins, in_lines
from reclaim.inside.boot.cmdline import Name
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus

_MENU = re.compile(r"/boot/grub2?/grub\.cfg\Z|/boot/efi/EFI/[^/]+/grub\.cfg\Z")
_DEFAULTS = re.compile(r"/etc/default/grub(\.d/.+\.cfg)?\Z")
_ENVIRONMENT = re.compile(r"/boot/grub2?/grubenv\Z")
_ENVIRONMENT_BYTES = 1024
#: files that grub's own scripts read into the menu and leave to the user
_SOURCED = re.compile(r"/boot/grub2?/(custom|user)\.cfg\Z")
_INSTALL_DEVICE = "/etc/default/grub_installdevice"
_KERNEL_LINE = re.compile(r"[ \t]*(?:linux(?:16|efi)?[ \t]|set[ \t]+kernelopts=)")
#: grub-mkconfig marks what each script wrote: a menu without marks was written by hand, and is not to be made anew
_SECTION = re.compile(r"^### (?P<what>BEGIN|END) (?P<script>\S+) ###", re.MULTILINE)
#: scripts of GRUB's own that write the kernel lines anew from the defaults
_GENERATED = (
    "10_linux",
    "10_linux_zfs",
    "10_linux_proxy",
    "20_linux_xen",
    "10_linux_bls",
    "15_ostree",
)
#: GRUB_DISABLE_UUID sets the other where that is not set (grub-mkconfig)
_NO_UUID = re.compile(
    r"^(?P<line>[ \t]*(?:export[ \t]+)?GRUB_DISABLE_(?:LINUX_)?UUID=(?P<q>[\"']?)true(?P=q).*)$",
    re.MULTILINE,
)
_CMDLINE = re.compile(
    r"^(?P<head>[ \t]*(?:export[ \t]+)?GRUB_CMDLINE_LINUX\w*\+?=)(?P<value>.*)$",
    re.MULTILINE,
)
_GRUB_DEVICE = re.compile(
    r"^[ \t]*(?:export[ \t]+)?(?P<name>GRUB_DEVICE\w*=[\"']?(?P<device>/dev/[^\s\"']+))",
    re.MULTILINE,
)


@once
def menus(facts: Facts) -> dict[str, str]:
    """The menus that boot something, by path; RHEL's stub on the EFI system partition leads to another."""
    return {
        path: text
        for path, text in facts.boot_files.items()
        if _MENU.match(path)
        and re.search(r"^[ \t]*(menuentry|blscfg|linux)", text, re.MULTILINE)
    }


def defaults(facts: Facts) -> dict[str, str]:
    """The files that the menu is generated from, by path."""
    return {
        path: text for path, text in facts.boot_files.items() if _DEFAULTS.match(path)
    }


def update_command(facts: Facts) -> str | None:
    """The distribution's own command that writes the menus; None where none is installed."""
    if "update-grub" in facts.tools:
        return "update-grub"
    for tool in ("grub2-mkconfig", "grub-mkconfig"):
        if tool in facts.tools:
            return " && ".join(
                f"{tool} -o {path}"
                for path in menus(facts)
                if re.fullmatch(r"[\w/.-]+", path, re.ASCII)
            )
    return None


def kernel_lines(text: str) -> Iterator[tuple[str, str]]:
    """The lines of a menu that hold kernel parameters, each with the script that wrote it ("": none)."""
    script = ""
    for line in text.splitlines():
        if section := _SECTION.match(line):
            script = section["script"] if section["what"] == "BEGIN" else ""
        elif _KERNEL_LINE.match(line):
            yield script, line


def menu_names(facts: Facts) -> dict[tuple[str, str], list[Name]]:
    """Bus names in the menus, by menu and by the script that wrote them."""
    found: dict[tuple[str, str], dict[Name, None]] = {}
    for path, text in menus(facts).items():
        for script, line in kernel_lines(text):
            for name in cmdline.names(line):
                found.setdefault((path, script), {})[name] = None
    return {key: list(listed) for key, listed in found.items()}


def default_names(text: str) -> list[Name]:
    """Bus names that the next menu would have from one file of defaults."""
    return [
        name
        for match in _CMDLINE.finditer(text)
        for name in cmdline.names(match["value"])
    ]


def defaults_named_stably(facts: Facts, text: str) -> str:
    """A defaults file without bus names: kernel parameters by UUID, and GRUB allowed to use UUIDs."""
    text = _NO_UUID.sub(lambda match: "#" + match["line"], text)
    return _CMDLINE.sub(
        lambda match: match["head"] + cmdline.named_stably(facts, match["value"]), text
    )


def places(facts: Facts) -> Iterator[BootFile]:
    """Where GRUB names devices by their bus."""
    update = update_command(facts)
    by_hand = {path for path, text in menus(facts).items() if not _SECTION.search(text)}
    in_menus = {
        key: listed
        for key, listed in menu_names(facts).items()
        if key[0] not in by_hand
    }
    generated = [
        name
        for (_, script), listed in in_menus.items()
        if _is_generated(script)
        for name in listed
    ]
    yield from _defaults_places(facts, generated, update)
    for (path, script), listed in in_menus.items():
        names = tuple(map(str, listed))
        if _is_generated(script):
            yield BootFile(
                path, names, tuple(name.device for name in listed), then=update
            )
        elif script not in facts.boot_files:
            yield BootFile(
                path, names, advice=f"{script} writes them: name them by UUID there"
            )
    for path, text in facts.boot_files.items():
        if path.startswith("/etc/grub.d/"):
            place = in_lines(
                facts, path, _KERNEL_LINE.match, by_entry=True, then=update
            )
        elif _SOURCED.match(path) or path in by_hand:
            place = in_lines(facts, path, _KERNEL_LINE.match, by_entry=True)
        elif _ENVIRONMENT.match(path):
            place = _environment(facts, path, text)
        elif path == _INSTALL_DEVICE:
            place = _install_device(facts, text)
        else:
            continue
        if place:
            yield place


def _is_generated(script: str) -> bool:
    return not script or script.rpartition("/")[2] in _GENERATED


def _defaults_places(
    facts: Facts, generated: list[Name], update: str | None
) -> Iterator[BootFile]:
    named = [
        *generated,
        *(name for text in defaults(facts).values() for name in default_names(text)),
    ]
    devices = tuple(dict.fromkeys(name.device for name in named))
    for path, text in defaults(facts).items():
        names = list(dict.fromkeys(str(name) for name in default_names(text)))
        if names or (generated and _NO_UUID.search(text)):
            stable = defaults_named_stably(facts, text)
            yield BootFile(path, tuple(names), devices, text, stable, update)
        for match in _GRUB_DEVICE.finditer(text):
            if is_renamed_by_bus(match["device"]):
                yield BootFile(
                    path, (match["name"],), advice=f"take {match['name']} out of {path}"
                )


def _environment(facts: Facts, path: str, text: str) -> BootFile | None:
    """The environment block: 1024 bytes exactly, padded with `#` (grub-core/lib/envblk.c)."""
    place = in_lines(facts, path, begins(r"\w+="))
    if place is None or place.after is None:
        return place
    body = place.after.rstrip("#")
    room = _ENVIRONMENT_BYTES - len(body.encode("utf-8", errors="surrogateescape"))
    fits = (
        room >= 0
        and len(text.encode("utf-8", errors="surrogateescape")) == _ENVIRONMENT_BYTES
    )
    advice = "" if fits else "grub2-editenv - set kernelopts=… by hand"
    return BootFile(
        path,
        place.names,
        place.devices,
        text,
        body + "#" * room if fits else None,
        advice=advice,
    )


def _install_device(facts: Facts, text: str) -> BootFile | None:
    """SUSE's list of where the next update of GRUB installs to (perl-Bootloader): a line each, then words."""
    gone = [
        line
        for line in text.split("\n")
        if line.startswith("/dev/") and facts.device(line.strip()) is None
    ]
    if not gone:
        return None
    names = tuple(f"{line.strip()} is not there" for line in gone)
    disk = boot_disk(facts)
    if disk is None or len(gone) > 1 or re.search(r"\d\s*\Z", gone[0]):
        return BootFile(
            _INSTALL_DEVICE,
            names,
            advice=f"{_INSTALL_DEVICE}: name what GRUB is to be installed to",
        )
    after = text.replace(gone[0].strip(), link_to(facts, disk))
    return BootFile(_INSTALL_DEVICE, names, (gone[0].strip(),), text, after)


def link_to(facts: Facts, disk: BlockDevice) -> str:
    """A name of a whole *disk* that does not hang on the order of discovery, where it has one."""
    links = (
        path
        for path in facts.links_to.get(disk.path, ())
        if path.startswith("/dev/disk/by-id/")
    )
    return min(links, default=disk.path)


def gone_install_devices(facts: Facts) -> dict[str, list[str]]:
    """The devices that do not exist of debconf's `install_devices`, by question: the next upgrade would leave
    a core image that does not fit its modules (Launchpad bugs 1889555 and 1891680), or stop."""
    gone = {
        question: [device for device in devices if facts.device(device) is None]
        for question, devices in facts.grub_install_devices.items()
    }
    return {question: devices for question, devices in gone.items() if devices}


def install_device(facts: Facts, question: str) -> BlockDevice | None:
    """What that question is about: the boot disk, or the EFI system partition."""
    if question.startswith("grub-pc"):
        return boot_disk(facts)
    return next(
        (
            facts.device(mount.source)
            for mount in facts.mounts
            if mount.target == "/boot/efi"
        ),
        None,
    )


def boot_disk(facts: Facts) -> BlockDevice | None:
    """The whole disk that /boot lies on, or None where that is not one disk."""
    for target in ("/boot", "/"):
        for mount in facts.mounts:
            if mount.target == target:
                device = facts.device(mount.source.partition("[")[0])
                ways = facts.stack(device) if device else ()
                return ways[0][0] if len(ways) == 1 else None
    return None
