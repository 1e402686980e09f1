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
_OPTIONS = re.compile(r"^[ \t]*Options[ \t]*=(?P<options>.*)$", re.MULTILINE)


def names(text: str) -> list[str]:
    """The bus names in a unit, or in a drop-in of one."""
    found = [match["device"] for match in _WHAT.finditer(text)]
    for match in _OPTIONS.finditer(text):
        options = (
            DEVICE_OPTION.match(option)
            for option in match["options"].strip().split(",")
        )
        found += [option["device"] for option in options if option]
    return [device for device in found if is_renamed_by_bus(device)]


def named_stably(facts: Facts, text: str) -> Rewritten:
    """A unit's text without bus names; `left` tells why one stays."""
    stable: dict[str, str] = {}
    left: list[str] = []
    for device in names(text):
        block = facts.device(device)
        name = stable_path(facts, block) if block else None
        if name is None:
            left.append(
                f"{device} {'has no UUID of its own' if block else 'is not there'}"
            )
        else:
            stable[device] = name

    def renamed(line: re.Match[str]) -> str:
        return re.sub(
            r"(=[ \t]*)(/dev/[^\s,]+)",
            lambda one: one[1] + stable.get(one[2], one[2]),
            line[0],
        )

    return Rewritten(
        _OPTIONS.sub(renamed, _WHAT.sub(renamed, text)), list(stable), left
    )


@dataclass(frozen=True)
class Swap:
    """A swap unit that has to be called otherwise: its name is its device's."""

    path: str
    text: str
    devices: list[str]


def swap_named_stably(facts: Facts, path: str, text: str) -> Swap | str:
    """The unit that takes the place of the swap unit at *path*, or why there can be none."""
    new = named_stably(facts, text)
    if new.left:
        return new.left[0]
    folder, _, name = path.rpartition("/")
    what = _WHAT.search(new.text)
    if ".swap.d/" in path or what is None or f"{path}.d" in _folders(facts):
        return f"{new.replaced[0]} is the unit's own name, and there are drop-ins: rename both"
    unit = f"{folder}/{escaped(what['device'])}.swap"
    if facts.units.get(unit, new.text) != new.text:
        return f"{name} and {unit} are for one device: remove one"
    return Swap(unit, new.text, new.replaced)


@once
def _folders(facts: Facts) -> frozenset[str]:
    return frozenset(path.rpartition("/")[0] for path in facts.units)


def escaped(path: str) -> str:
    """As `systemd-escape --path` has it (systemd.unit(5), "String Escaping")."""
    found = "".join(
        "-"
        if character == "/"
        else character
        if re.match(r"[A-Za-z0-9:_.]", character)
        else f"\\x{ord(character):02x}"
        for character in path.strip("/")
    )
    return f"\\x2e{found[1:]}" if found.startswith(".") else found
