"""Files that a system makes anew from a configuration of its own: changes of them are lost."""

from __future__ import annotations

import re

from reclaim.inside.facts import Facts

_NIXOS = "NixOS"
_GUIX = "Guix System"
#: os-release(5): ID of systems whose /etc is built from one configuration, and lies in a store
_SYSTEMS = {"nixos": _NIXOS, "guix": _GUIX}
#: how they begin the fstab that they make (nixos/modules/tasks/filesystems.nix, gnu/services/base.scm)
_HEADERS = {
    _NIXOS: re.compile(r"# This is a generated file\.\s+Do not edit!"),
    _GUIX: re.compile(r"# This file was generated from your Guix configuration"),
}
#: how tools of configuration management mark their files: a file can be edited, and they may write it again
_MANAGED = re.compile(
    r"^[ \t]*#[^\n]*\b(?:Ansible|Puppet|Chef|SaltStack|Salt|CFEngine)\b[^\n]*$",
    re.MULTILINE | re.IGNORECASE,
)
#: how much of a file's begin is looked at
_HEAD = 1000


def system(facts: Facts) -> str | None:
    """Return the system that makes this guest's /etc and its boot entries from a configuration; None elsewhere."""
    declared = _SYSTEMS.get(facts.os.get("ID", ""))
    if declared:
        return declared
    for name, header in _HEADERS.items():
        if header.match(facts.fstab):
            return name
    return None


def managed(path: str, text: str) -> list[str]:
    """Return a remark on a file that a tool of configuration management marks as its own; none on another file."""
    match = _MANAGED.search(text[:_HEAD])
    if match is None:
        return []
    mark = match[0].strip("# \t\r")[:100]
    return [f'{path} is marked "{mark}": change it there too']


def mounted_by(name: str, target: str, device: str) -> str:
    """Return the setting for the device of *target* in the configuration of the system *name*."""
    if name == _GUIX:
        return (
            f'the file-system with (mount-point "{target}"): (device {_guix(device)})'
        )
    if target in ("none", "swap"):
        return f'swapDevices = [ {{ device = "{device}"; }} ]'
    return f'fileSystems."{target}".device = "{device}"'


def _guix(device: str) -> str:
    kind, _, value = device.removeprefix("/dev/disk/by-").partition("/")
    if kind == "label":
        kind = "file-system-label"
    return f'({kind} "{value}")'


def booted_by(name: str) -> str:
    """Return the settings that name devices for the boot in the configuration of the system *name*."""
    if name == _GUIX:
        return "bootloader, kernel-arguments, mapped-devices"
    return "boot.kernelParams, boot.resumeDevice, boot.initrd.luks.devices, environment.etc"


def rebuilt_by(name: str) -> str:
    """Return the command that builds the system *name* anew."""
    if name == _GUIX:
        return "guix system reconfigure"
    return "nixos-rebuild boot"
