"""Files that a system makes anew from a configuration of its own: changes of them are lost."""

from __future__ import annotations

import re

from reclaim.inside.facts import Facts

_NIXOS = "NixOS"
_GUIX = "Guix System"
#: os-release(5): ID or ID_LIKE of systems whose /etc is built from one configuration, and lies in a store
_SYSTEMS = {"nixos": _NIXOS, "guix": _GUIX}
#: how they begin the fstab that they make (nixos/modules/tasks/filesystems.nix, gnu/services/base.scm)
_HEADERS = {
    _NIXOS: re.compile(r"# This is a generated file\.\s+Do not edit!"),
    _GUIX: re.compile(r"# This file was generated from your Guix configuration"),
}
#: how tools of configuration management mark their files: they write them again, with the old names
_MANAGED = re.compile(
    r"^[ \t]*#[^\n]*\b(?:Ansible|Puppet|Chef|SaltStack|Salt|CFEngine)\b[^\n]*$",
    re.MULTILINE | re.IGNORECASE,
)
#: how they mark a part of a file as theirs (Ansible's blockinfile): the rest of it is not
_BLOCK = re.compile(r"\b(?:BEGIN|END|BLOCK)\b", re.IGNORECASE)
#: how any other program marks a file that it writes again
_NOT_TO_EDIT = re.compile(
    r"^[ \t]*#[^\n]*\b(?:do(?:[ \t]{1,9}not|n['’]t)[ \t]{1,9}(?:edit|modify|change)|lost|overwritten)\b[^\n]*$",
    re.MULTILINE | re.IGNORECASE,
)
#: files that people write: menus of boot loaders have such words as well, and a command that makes them anew
_BY_HAND = (
    "/etc/crypttab",
    "/etc/default/",
    "/etc/fstab",
    "/etc/kernel/",
    "/etc/systemd/",
)
#: how much of a file's begin is looked at
_HEAD = 1000


def system(facts: Facts) -> str | None:
    """Return the system that makes this guest's /etc and its boot entries from a configuration; None elsewhere."""
    for word in (facts.os.get("ID", ""), *facts.os.get("ID_LIKE", "").split()):
        if word in _SYSTEMS:
            return _SYSTEMS[word]
    for name, header in _HEADERS.items():
        if header.match(facts.fstab):
            return name
    return None


def managed(path: str, text: str) -> list[str]:
    """Return a remark on a file that another program marks as its own, or a part of it; none on another file."""
    mark = _mark(path, text)
    if not mark:
        return []
    there_too = ": change it there too" if _BLOCK.search(mark) else ""
    return [f'{path} is marked "{mark}"{there_too}']


def why_not_edited(path: str, text: str) -> str | None:
    """Return why names are not changed in the file at *path*: a program that marks it would write it again."""
    if not whole(path, text):
        return None
    return (
        f"{path} would be written again with the old names: name the devices by UUID= in the source that it is "
        "made from"
    )


def whole(path: str, text: str) -> str:
    """Return the comment with which another program marks the whole file as its own, or ""."""
    mark = _mark(path, text)
    return "" if _BLOCK.search(mark) else mark


def _mark(path: str, text: str) -> str:
    """Return the comment with which another program marks *text* as its own, or ""."""
    head = text[:_HEAD]
    match = _MANAGED.search(head)
    if match is None and path.startswith(_BY_HAND):
        match = _NOT_TO_EDIT.search(head)
    return match[0].strip("# \t\r")[:100] if match else ""


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
