"""The mistakes in an inventory, in words about a TOML file, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from reclaim.base.nearest import meant
from reclaim.inventory import names
from reclaim.inventory.places import Place
from reclaim.inventory.tables import (
    BackupNotes,
    GuestNotes,
    Inventory,
    Policy,
    Ssh,
    SshOfGuests,
    dotted,
)
from reclaim.inventory.waivers import Waiver
from reclaim.inventory.windows import Window

#: the tables, by the keys that lead to them; None stands for any name or number
_TABLES: dict[tuple[str | None, ...], type[BaseModel]] = {
    (): Inventory,
    ("policy",): Policy,
    ("guest", None): GuestNotes,
    ("guest", None, "ssh"): Ssh,
    ("guest", None, "waive", None): Waiver,
    ("ssh", None): SshOfGuests,
    ("backup", None): BackupNotes,
    ("window", None): Window,
}
#: the tables with two brackets, and those with one
_SEVERAL = ("ssh", "backup", "window")
_WHOLE, _SWITCH = "give a whole number", "give true or false"
_TABLE, _LIST = "give a table", "give a list in [ ]"
#: words for each kind of error of pydantic that a file can cause
_WORDS = {
    "missing": "this key is required",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "string_type": "give a text in quotes",
    "path_type": "give a path in quotes",
    "list_type": _LIST,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "too_short": "give at least one",
    "greater_than_equal": "give {ge} or more",
    "less_than_equal": "give {le} or less",
}
_FALLBACK = "this value is not understood"
_OURS = "Value error, "


class Mistake(NamedTuple):
    """A mistake, and the keys that lead to it. Its words are made when they are shown: there may be very many."""

    place: Place
    words: Callable[[], str]


def of_schema(exc: ValidationError, data: Mapping[str, Any]) -> list[Mistake]:
    """Return the mistakes that *exc* found in *data*, in the words of TOML."""
    wrong = []
    for error in exc.errors(include_url=False):
        place = tuple(error["loc"])
        if error["type"] != "missing":
            place = _in_file(place, data)
        wrong.append(Mistake(place, partial(_in_words, error)))
    return wrong


def _in_file(place: Place, data: Any) -> Place:
    """Return *place* as far as the file has it: a text may stand for the table of a waiver."""
    for index, key in enumerate(place):
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return place[:index]
    return place


def of_meaning(
    data: Mapping[str, Any], requirements: Iterable[str] | None
) -> Iterator[Mistake]:
    """Yield the mistakes that no type shows: one address for several guests, and requirements that are unknown.

    *requirements* are the known ones; if that is None, each is taken.
    """
    guests = data.get("guest")
    for name, notes in guests.items() if isinstance(guests, dict) else ():
        if not isinstance(notes, dict):
            continue
        ssh, waive = notes.get("ssh"), notes.get("waive")
        if isinstance(ssh, dict) and "address" in ssh and names.is_glob(name):
            yield Mistake(
                ("guest", name, "ssh", "address"),
                lambda: (
                    "an address belongs to one guest: give it in the table with that guest's name"
                ),
            )
        if isinstance(waive, dict) and requirements is not None:
            yield from _unknown_requirements(name, waive, list(requirements))


def _unknown_requirements(
    guest: str, waive: dict[str, Any], known: list[str]
) -> Iterator[Mistake]:
    for slug in waive:
        if slug not in known:
            words = partial(_no_such_requirement, slug, known)
            yield Mistake(("guest", guest, "waive", slug), words)


def _no_such_requirement(slug: str, known: list[str]) -> str:
    close = meant(slug, known)
    return f"no such requirement{close} (there are: {', '.join(known)})"


def named(place: Place) -> str:
    """Return *place* as TOML writes it: "policy.bus", "[[ssh]].guests"."""
    keys = [str(key) for key in place if isinstance(key, str)]
    if not keys:
        return ""
    if keys[0] not in _SEVERAL or len(place) == 1:
        return dotted(keys)
    return ".".join([f"[[{keys[0]}]]", *([dotted(keys[1:])] if keys[1:] else [])])


def _in_words(error: Any) -> str:
    kind, place, given = error["type"], tuple(error["loc"]), error["input"]
    if kind == "value_error":
        return str(error["msg"]).removeprefix(_OURS)
    if kind == "extra_forbidden":
        return _no_such_key(place, given)
    if kind == "literal_error":
        return _choice(error["ctx"]["expected"], given)
    if brackets := _brackets(place, given):
        return brackets
    words = _WORDS.get(kind, _FALLBACK)
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{_shortly(given)}: {words.format(**error['ctx'])}"
    return words


def _shortly(number: Any) -> str:
    """Return *number* if it is of a length that people read: Python does not write out every one."""
    return str(number) if abs(number) < 10**18 else "that number"


def _no_such_key(place: Place, given: Any) -> str:
    *above, key = place
    known = keys_of(tuple(above))
    noun = "table" if not above and isinstance(given, dict | list) else "key"
    close = meant(str(key), known)
    if close:
        return f"there is no such {noun}{close}"
    return f"there is no such {noun} (there are: {', '.join(known)})"


def keys_of(place: Place) -> list[str]:
    """Return the keys that the table at *place* may have."""
    for pattern, table in _TABLES.items():
        if len(pattern) == len(place) and all(
            name in (None, key) for name, key in zip(pattern, place, strict=True)
        ):
            return [info.alias or key for key, info in table.model_fields.items()]
    return []


def _choice(expected: str, given: Any) -> str:
    """Return the allowed values, which pydantic lists as "'a', 'b' or 'c'"."""
    choices = re.findall(r"'([^']*)'", expected)
    quoted = [f'"{choice}"' for choice in choices]
    one_of = " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
    close = meant(given, choices) if isinstance(given, str) else ""
    return f"give {one_of}{close}"


def _brackets(place: Place, given: Any) -> str | None:
    """Return words for a table with one bracket that needs two, or the other way round."""
    if len(place) != 1:
        return None
    name = place[0]
    if name in _SEVERAL and isinstance(given, dict):
        return f"there may be several of these: write [[{name}]]"
    if name not in _SEVERAL and isinstance(given, list):
        header = "[guest.NAME]" if name == "guest" else f"[{name}]"
        return f"write {header}, with one bracket"
    return None
