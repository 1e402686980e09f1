"""Mount and swap units (systemd.mount(5), systemd.swap(5)) that the administrator wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reclaim.base.cached import once
from reclaim.inside.facts import Facts
from reclaim.inside.fstab import (
    DEVICE_OPTION,
    Rewritten,
    is_renamed_by_bus,
    stable_path,
)

_WHAT = re.compile(
    r"^(?P<key>[ \t]*What[ \t]*=[ \t]*)(?P<device>/dev/\S+)(?P<rest>[ \t]*)$",
    re.MULTILINE,
)
#: a device in either of them
_PATH = re.compile(r"(?P<equals>=[ \t]*)(?P<device>/dev/[^\s,]+)")
_OPTIONS = re.compile(r"^[ \t]*Options[ \t]*=(?P<options>.*)$", re.MULTILINE)


def names(text: str) -> list[str]:
    """Return the bus names in a unit, or in a drop-in of one."""
    devices = [match["device"] for match in _WHAT.finditer(text)]
    for match in _OPTIONS.finditer(text):
        options = match["options"].strip()
        for option in options.split(","):
            named = DEVICE_OPTION.match(option)
            if named:
                devices.append(named["device"])
    return list(filter(is_renamed_by_bus, devices))


def named_by_bus(facts: Facts) -> list[str]:
    """Return the devices that units name by their bus, each with the unit's path."""
    named = []
    for path, text in facts.units.items():
        named += [f"{path}: {device}" for device in names(text)]
    return named


def named_stably(facts: Facts, text: str) -> Rewritten:
    """Return a unit's text without bus names; `left` has the reasons for those that stay."""
    stable: dict[str, str] = {}
    left: list[str] = []
    for device in names(text):
        block = facts.device(device)
        if block is None:
            left.append(f"{device} is not there")
            continue
        name = stable_path(facts, block)
        if name is None:
            left.append(f"{device} has no UUID of its own")
        else:
            stable[device] = name

    def renamed(line: re.Match[str]) -> str:
        return _PATH.sub(
            lambda path: path["equals"] + stable.get(path["device"], path["device"]),
            line[0],
        )

    return Rewritten(
        text=_OPTIONS.sub(renamed, _WHAT.sub(renamed, text)),
        replaced=list(stable),
        left=left,
    )


@dataclass(frozen=True)
class Swap:
    """A swap unit that needs another file name: a swap unit is named after its device."""

    path: str
    text: str
    devices: list[str]


def swap_named_stably(facts: Facts, path: str, text: str) -> Swap | str:
    """Return the unit that takes the place of the swap unit at *path*, or the reason why there is none."""
    new = named_stably(facts, text)
    if new.left:
        return new.left[0]
    folder, _, name = path.rpartition("/")
    device = _WHAT.search(new.text)
    has_drop_ins = ".swap.d/" in path or f"{path}.d" in _folders(facts)
    if device is None or has_drop_ins:
        return f"{new.replaced[0]} is the unit's own name, and there are drop-ins: rename both"
    unit = f"{folder}/{escaped(device['device'])}.swap"
    if facts.units.get(unit, new.text) != new.text:
        return f"{name} and {unit} are for one device: remove one"
    return Swap(
        path=unit,
        text=new.text,
        devices=new.replaced,
    )


@once
def _folders(facts: Facts) -> frozenset[str]:
    return frozenset(path.rpartition("/")[0] for path in facts.units)


def escaped(path: str) -> str:
    """Return *path* as `systemd-escape --path` has it (systemd.unit(5), "String Escaping")."""
    name = "".join(map(_escaped_character, path.strip("/")))
    if name.startswith("."):
        return f"\\x2e{name[1:]}"
    return name


def _escaped_character(character: str) -> str:
    if character == "/":
        return "-"
    if re.match(r"[A-Za-z0-9:_.]", character):
        return character
    return f"\\x{ord(character):02x}"
