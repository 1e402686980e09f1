"""GRUB 2: the menu, the files that it is generated from, and its environment block."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from reclaim.base.cached import once
from reclaim.inside.boot import cmdline
from reclaim.inside.boot.bootfile import BootFile, begins, in_lines
from reclaim.inside.boot.cmdline import Name
from reclaim.inside.devices import BlockDevice, Mount
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import is_renamed_by_bus

_MENU = re.compile(r"/boot/grub2?/grub\.cfg\Z|/boot/efi/EFI/[^/]+/grub\.cfg\Z")
#: a menu that boots something itself
_BOOTS = re.compile(r"^[ \t]*(menuentry|blscfg|linux)", re.MULTILINE)
#: a path that the shell takes as it is
_PLAIN_PATH = re.compile(r"[\w/.-]+", re.ASCII)
_DEFAULTS = re.compile(r"/etc/default/grub(\.d/.+\.cfg)?\Z")
_ENVIRONMENT = re.compile(r"/boot/grub2?/grubenv\Z")
_ENVIRONMENT_BYTES = 1024
#: files that grub's own scripts read into the menu and leave to the user
_SOURCED = re.compile(r"/boot/grub2?/(custom|user)\.cfg\Z")
_INSTALL_DEVICE = "/etc/default/grub_installdevice"
_KERNEL_LINE = re.compile(r"[ \t]*(?:linux(?:16|efi)?[ \t]|set[ \t]+kernelopts=)")
#: grub-mkconfig marks the lines of each script: a menu without marks was written by hand, and is not to be made anew
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
#: GRUB_DISABLE_UUID sets the other if that is not set (grub-mkconfig)
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
    """Return the menus that boot something, by path; RHEL's stub on the EFI system partition leads to another."""
    return {
        path: text
        for path, text in facts.boot_files.items()
        if _MENU.match(path) and _BOOTS.search(text)
    }


def defaults(facts: Facts) -> dict[str, str]:
    """Return the files that the menu is generated from, by path."""
    return {
        path: text for path, text in facts.boot_files.items() if _DEFAULTS.match(path)
    }


def update_command(facts: Facts) -> str | None:
    """Return the distribution's own command that writes the menus; None if none is installed."""
    if "update-grub" in facts.tools:
        return "update-grub"
    for tool in ("grub2-mkconfig", "grub-mkconfig"):
        if tool in facts.tools:
            paths = filter(_PLAIN_PATH.fullmatch, menus(facts))
            commands = [f"{tool} -o {path}" for path in paths]
            return " && ".join(commands)
    return None


def kernel_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a menu that hold kernel parameters, each with the script that wrote it ("": none)."""
    script = ""
    for line in text.splitlines():
        section = _SECTION.match(line)
        if section:
            begins_here = section["what"] == "BEGIN"
            script = ""
            if begins_here:
                script = section["script"]
        elif _KERNEL_LINE.match(line):
            yield script, line


def menu_names(facts: Facts) -> dict[tuple[str, str], list[Name]]:
    """Return the bus names in the menus, by menu and by the script that wrote them."""
    names: dict[tuple[str, str], dict[Name, None]] = {}
    for path, text in menus(facts).items():
        for script, line in kernel_lines(text):
            for name in cmdline.names(line):
                names.setdefault((path, script), {})[name] = None
    return {key: list(listed) for key, listed in names.items()}


def default_names(text: str) -> list[Name]:
    """Return the bus names that the next menu would have from one file of defaults."""
    names = []
    for match in _CMDLINE.finditer(text):
        names += cmdline.names(match["value"])
    return names


def defaults_named_stably(facts: Facts, text: str) -> str:
    """Return a defaults file without bus names: kernel parameters by UUID, and GRUB allowed to use UUIDs."""
    text = _NO_UUID.sub(lambda match: "#" + match["line"], text)
    return _CMDLINE.sub(
        lambda match: match["head"] + cmdline.named_stably(facts, match["value"]), text
    )


def places(facts: Facts) -> Iterator[BootFile]:
    """Yield the files of GRUB that name devices by their bus."""
    update = update_command(facts)
    by_hand = {path for path, text in menus(facts).items() if not _SECTION.search(text)}
    in_menus: dict[tuple[str, str], list[Name]] = {}
    generated: list[Name] = []
    for (path, script), names in menu_names(facts).items():
        if path in by_hand:
            continue
        in_menus[path, script] = names
        if _is_generated(script):
            generated += names
    yield from _defaults_places(facts, generated, update)
    yield from _menu_places(facts, in_menus, update)
    for path, text in facts.boot_files.items():
        if path.startswith("/etc/grub.d/"):
            place = _in_kernel_lines(facts, path, then=update)
        elif _SOURCED.match(path) or path in by_hand:
            place = _in_kernel_lines(facts, path)
        elif _ENVIRONMENT.match(path):
            place = _environment(facts, path, text)
        elif path == _INSTALL_DEVICE:
            place = _install_device(facts, text)
        else:
            continue
        if place:
            yield place


def _in_kernel_lines(
    facts: Facts, path: str, then: str | None = None
) -> BootFile | None:
    return in_lines(
        facts,
        path,
        is_read=_KERNEL_LINE.match,
        by_entry=True,
        then=then,
    )


def _menu_places(
    facts: Facts, in_menus: Mapping[tuple[str, str], list[Name]], update: str | None
) -> Iterator[BootFile]:
    """Yield the menus, each with the way to change it: by GRUB's command, or in the script that wrote it."""
    for (path, script), named in in_menus.items():
        names = tuple(map(str, named))
        if _is_generated(script):
            devices = tuple(name.device for name in named)
            yield BootFile(
                path=path,
                names=names,
                devices=devices,
                then=update,
            )
        elif script not in facts.boot_files:
            yield BootFile(
                path=path,
                names=names,
                advice=f"{script} writes them: name them by UUID there",
            )


def _is_generated(script: str) -> bool:
    return not script or script.rpartition("/")[2] in _GENERATED


def _defaults_places(
    facts: Facts, generated: list[Name], update: str | None
) -> Iterator[BootFile]:
    named = list(generated)
    for text in defaults(facts).values():
        named += default_names(text)
    devices = tuple(dict.fromkeys(name.device for name in named))
    for path, text in defaults(facts).items():
        names = tuple(dict.fromkeys(map(str, default_names(text))))
        forbids_uuids = _NO_UUID.search(text) is not None
        if names or (generated and forbids_uuids):
            stable = defaults_named_stably(facts, text)
            yield BootFile(
                path=path,
                names=names,
                devices=devices,
                before=text,
                after=stable,
                then=update,
            )
        for match in _GRUB_DEVICE.finditer(text):
            if is_renamed_by_bus(match["device"]):
                advice = f"take {match['name']} out of {path}"
                yield BootFile(
                    path=path,
                    names=(match["name"],),
                    advice=advice,
                )


def _environment(facts: Facts, path: str, text: str) -> BootFile | None:
    """Return the environment block: 1024 bytes exactly, padded with `#` (grub-core/lib/envblk.c)."""
    place = in_lines(facts, path, begins(r"\w+="))
    if place is None:
        return place
    if place.after is None:
        return place
    body = place.after.rstrip("#")
    room = _ENVIRONMENT_BYTES - _bytes_in(body)
    if room < 0 or _bytes_in(text) != _ENVIRONMENT_BYTES:
        return BootFile(
            path=path,
            names=place.names,
            devices=place.devices,
            before=text,
            advice="grub2-editenv - set kernelopts=… by hand",
        )
    return BootFile(
        path=path,
        names=place.names,
        devices=place.devices,
        before=text,
        after=body + "#" * room,
    )


def _bytes_in(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogateescape"))


def _install_device(facts: Facts, text: str) -> BootFile | None:
    """Return SUSE's list of targets for the next update of GRUB (perl-Bootloader): a line each, then words."""
    gone = []
    for line in text.split("\n"):
        if line.startswith("/dev/") and facts.device(line.strip()) is None:
            gone.append(line.strip())
    if not gone:
        return None
    names = tuple(f"{device} is not there" for device in gone)
    disk = boot_disk(facts)
    if disk is None or len(gone) > 1 or gone[0][-1].isdecimal():
        return BootFile(
            path=_INSTALL_DEVICE,
            names=names,
            advice=f"{_INSTALL_DEVICE}: name the device to which grub-install writes",
        )
    after = text.replace(gone[0], link_to(facts, disk))
    return BootFile(
        path=_INSTALL_DEVICE,
        names=names,
        devices=(gone[0],),
        before=text,
        after=after,
    )


def link_to(facts: Facts, disk: BlockDevice) -> str:
    """Return a name of a whole *disk* that the order of discovery does not change, if it has one."""
    links = facts.links_to.get(disk.path, ())
    by_id = (path for path in links if path.startswith("/dev/disk/by-id/"))
    return min(by_id, default=disk.path)


def gone_install_devices(facts: Facts) -> dict[str, list[str]]:
    """Return the devices in debconf's `install_devices` that do not exist, by question.

    The next upgrade would leave a core image that does not fit its modules (Launchpad bugs 1889555 and 1891680),
    or stop.
    """
    gone: dict[str, list[str]] = {}
    for question, devices in facts.grub_install_devices.items():
        for device in devices:
            if facts.device(device) is None:
                gone.setdefault(question, []).append(device)
    return gone


def install_device(facts: Facts, question: str) -> BlockDevice | None:
    """Return the device that a question of debconf is about: the boot disk, or the EFI system partition."""
    if question.startswith("grub-pc"):
        return boot_disk(facts)
    mount = _first_mount(facts, "/boot/efi")
    if mount:
        return facts.device(mount.source)
    return None


def boot_disk(facts: Facts) -> BlockDevice | None:
    """Return the whole disk that /boot lies on, or None if it is not one disk."""
    mount = _first_mount(facts, "/boot") or _first_mount(facts, "/")
    if mount is None:
        return None
    device = facts.device(mount.device)
    if device is None:
        return None
    ways = facts.stack(device)
    if len(ways) != 1:
        return None
    way = ways[0]
    return way[0]


def _first_mount(facts: Facts, target: str) -> Mount | None:
    mounts = facts.mounts_on.get(target, ())
    if mounts:
        return mounts[0]
    return None
