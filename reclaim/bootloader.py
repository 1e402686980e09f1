"""What a Debian or Ubuntu guest boots with: grub2 and initramfs-tools, read and rewritten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reclaim.facts import BlockDevice, Facts
from reclaim.fstab import is_renamed_by_bus, stable_name

GRUB_CFG = "/boot/grub/grub.cfg"
RESUME = "/etc/initramfs-tools/conf.d/resume"
_DEFAULTS = re.compile(r"/etc/default/grub(\.d/.+\.cfg)?\Z")
#: kernel parameters that name a block device (Documentation/admin-guide/kernel-parameters.txt)
_PARAMETER = re.compile(r"(?<![\w.-])(?P<key>root|resume)=(?P<device>/dev/[^\s\"']+)")
_NO_UUID = re.compile(
    r"^(?P<line>[ \t]*(?:export[ \t]+)?GRUB_DISABLE_LINUX_UUID=(?P<q>[\"']?)true(?P=q).*)$", re.MULTILINE
)
_CMDLINE = re.compile(r"^[ \t]*(?:export[ \t]+)?GRUB_CMDLINE_LINUX\w*=.*$", re.MULTILINE)
_RESUME = re.compile(r"^[ \t]*RESUME=(?P<q>[\"']?)(?P<device>/dev/\S+?)(?P=q)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Name:
    """A device named by its bus: in which file, what for, which device."""

    path: str
    parameter: str
    device: str

    def __str__(self) -> str:
        return f"{self.path}: {self.parameter}={self.device}"


def defaults(facts: Facts) -> dict[str, str]:
    """The files that update-grub reads, by path."""
    return {path: text for path, text in facts.boot_files.items() if _DEFAULTS.match(path)}


def menu_names(facts: Facts) -> list[Name]:
    """Bus names on the kernel lines of grub's menu: what the next boot uses."""
    lines = [line for line in facts.boot_files.get(GRUB_CFG, "").splitlines() if re.match(r"\s*linux(16|efi)?\s", line)]
    return list(dict.fromkeys(name for line in lines for name in _parameters(GRUB_CFG, line)))


def default_names(facts: Facts) -> list[Name]:
    """Bus names that the next update-grub would write into the menu."""
    found: list[Name] = []
    for path, text in defaults(facts).items():
        for line in _CMDLINE.findall(text):
            found += _parameters(path, line)
    return found


def resume_names(facts: Facts) -> list[Name]:
    """Bus names that the initramfs resumes from."""
    devices = (match["device"] for match in _RESUME.finditer(facts.boot_files.get(RESUME, "")))
    return [Name(RESUME, "RESUME", device) for device in devices if is_renamed_by_bus(device)]


def _parameters(path: str, line: str) -> Iterator[Name]:
    for match in _PARAMETER.finditer(line):
        if is_renamed_by_bus(match["device"]):
            yield Name(path, match["key"], match["device"])


def gone_install_devices(facts: Facts) -> list[str]:
    """The devices of `grub-pc/install_devices` that do not exist: the next grub-pc upgrade would leave
    a core image that does not fit its modules (Launchpad bugs 1889555 and 1891680)."""
    return [device for device in facts.grub_install_devices if facts.device(device) is None]


def boot_disk(facts: Facts) -> BlockDevice | None:
    """The whole disk that /boot lies on, or None where that is not one disk."""
    for target in ("/boot", "/"):
        for mount in facts.mounts:
            if mount.target == target:
                device = facts.device(mount.source.partition("[")[0])
                ways = facts.stack(device) if device else ()
                return ways[0][0] if len(ways) == 1 else None
    return None


def named_stably(facts: Facts, path: str, text: str) -> str:
    """A defaults file without bus names: kernel parameters by UUID, and grub allowed to use UUIDs.

    A device that has no name of its own stays as it is.
    """
    text = _NO_UUID.sub(lambda match: "#" + match["line"], text)

    def stable(match: re.Match[str]) -> str:
        device = facts.device(match["device"]) if is_renamed_by_bus(match["device"]) else None
        name = stable_name(facts, device) if device else None
        return f"{match['key']}={name}" if name else match[0]

    return _CMDLINE.sub(lambda line: _PARAMETER.sub(stable, line[0]), text)


def resumed_stably(facts: Facts, text: str) -> str:
    """conf.d/resume by UUID; a device without one stays as it is."""

    def stable(match: re.Match[str]) -> str:
        device = facts.device(match["device"])
        name = stable_name(facts, device) if device else None
        return f"RESUME={name}" if name else match[0]

    return _RESUME.sub(stable, text)
