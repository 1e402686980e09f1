"""`inventory explain GUEST`: each key that counts for a guest, its value, and the table and line that it is from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import NamedTuple

from reclaim.base.text import printable
from reclaim.engine.declared import located
from reclaim.inventory import Inventory, InventoryFile, Policy, Ssh, Waiver
from reclaim.inventory.places import Place
from reclaim.inventory.windows import Window

_DEFAULT = "default"


class Explained(NamedTuple):
    """A key, its value in words, and the place that it is from."""

    key: str
    value: str
    source: str


def lines(file: InventoryFile, part: Inventory, guest: str, now: datetime) -> list[str]:
    """Return a line for each key. *part* is the inventory of the guest's hypervisor, *now* the time there."""
    table = [
        *_of_guest(file, part, guest, now),
        *_of_windows(file, part, guest),
        *_of_policy(file),
    ]
    widths = [max(len(line[column]) for line in table) for column in (0, 1)]
    return [
        f"{line.key:<{widths[0]}}  {line.value:<{widths[1]}}  {line.source}"
        for line in table
    ]


def _of_guest(
    file: InventoryFile, part: Inventory, guest: str, now: datetime
) -> Iterator[Explained]:
    settings = {setting.place[2:]: setting for setting in part.settings_of(guest)}
    if ("thick",) not in settings:
        yield Explained("thick", "as its images are", _DEFAULT)
    if ("pull_plug",) not in settings:
        pull_plug = json.dumps(part.policy.pull_plug)
        yield Explained("pull_plug", pull_plug, _source_of_policy(file, "pull_plug"))
    for keys, setting in settings.items():
        key = ".".join(map(str, keys))
        yield Explained(key, _value(setting.value, now), located(file, setting.place))
    yield from _of_ssh(file, part, guest)


def _of_ssh(file: InventoryFile, part: Inventory, guest: str) -> Iterator[Explained]:
    """Yield the settings of the `[[ssh]]` that counts, if no table of guests has any."""
    way = part.ssh_of(guest)
    if way is None:
        yield Explained("ssh", "no", _DEFAULT)
        return
    if part.notes(guest).ssh is not None:
        return
    number = _number(file.inventory.ssh, way)
    for key in Ssh.model_fields:
        if key in way.model_fields_set:
            place: Place = ("ssh", number, key)
            yield Explained(
                f"ssh.{key}", _plain(getattr(way, key)), located(file, place)
            )
    if way.model_fields_set <= {"guests", "on"}:
        yield Explained("ssh", "as in ssh_config", located(file, ("ssh", number)))


def _of_windows(
    file: InventoryFile, part: Inventory, guest: str
) -> Iterator[Explained]:
    windows: list[Window] = part.windows_of(guest)
    if not windows:
        yield Explained("window", "any time", _DEFAULT)
    for window in windows:
        place: Place = ("window", _number(file.inventory.window, window))
        yield Explained("window", window.words, located(file, place))


def _of_policy(file: InventoryFile) -> Iterator[Explained]:
    policy = file.inventory.policy
    for key in Policy.model_fields:
        if key != "pull_plug":
            value = _plain(getattr(policy, key))
            yield Explained(f"policy.{key}", value, _source_of_policy(file, key))


def _source_of_policy(file: InventoryFile, key: str) -> str:
    is_set = key in file.inventory.policy.model_fields_set
    return located(file, ("policy", key)) if is_set else _DEFAULT


def _number(tables: Sequence[object], table: object) -> int:
    return next(number for number, each in enumerate(tables) if each is table)


def _value(value: object, now: datetime) -> str:
    if not isinstance(value, Waiver):
        return _plain(value)
    reason = printable(value.reason)
    if value.until is None:
        return reason
    ended = ", which is past" if value.has_ended(now.date()) else ""
    return f"{reason} (until {value.until}{ended})"


def _plain(value: object) -> str:
    shown = str(value) if isinstance(value, PurePath) else value
    return printable(json.dumps(shown, ensure_ascii=False))
