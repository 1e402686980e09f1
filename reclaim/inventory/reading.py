"""The inventory is read: a file that others could have written is not obeyed, and every mistake in it is named."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reclaim.base.errors import Mistakes, ReclaimError, Untrusted
from reclaim.base.text import printable
from reclaim.files import trust
from reclaim.inventory import mistakes, places, syntax
from reclaim.inventory.mistakes import Mistake
from reclaim.inventory.places import Place
from reclaim.inventory.tables import Inventory

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: bytes of an inventory that are read: a fleet of 10,000 guests takes about one million
_MOST = 2 * 1024 * 1024
#: mistakes that are named; the others are counted
_SHOWN = 100


@dataclass(frozen=True)
class InventoryFile:
    """An inventory with the file that it is from."""

    path: Path
    inventory: Inventory
    _text: str = field(repr=False, default="")
    _data: dict[str, Any] = field(repr=False, default_factory=dict)

    @cached_property
    def _lines(self) -> dict[Place, int]:
        return places.lines_of(self._text, self._data)

    def line(self, place: Place) -> int | None:
        """Return the line on which *place* begins, or the table that it is in; None if that is not known for sure."""
        return _line_of(self._lines, place)


def read_inventory(path: Path, requirements: Iterable[str] | None = None) -> Inventory:
    """Return the inventory at *path*. Raises as `read_file` does."""
    return read_file(path, requirements).inventory


def read_file(path: Path, requirements: Iterable[str] | None = None) -> InventoryFile:
    """Read the TOML file at *path*. Waivers may name *requirements* alone, or any if that is None.

    An inventory names users, commands and files to be changed. Raises Untrusted if others could have written it,
    Mistakes with a line for each mistake, and ReclaimError if it cannot be read.
    """
    text = _read_text(path)
    data = _parsed(path, text)
    wrong = list(mistakes.of_meaning(data, requirements))
    try:
        inventory = Inventory.model_validate(data)
    except ValidationError as exc:
        wrong += mistakes.of_schema(exc, data)
    if wrong:
        raise Mistakes(_told(path, wrong, places.lines_of(text, data)))
    return InventoryFile(path, inventory, text, data)


def _told(path: Path, wrong: list[Mistake], lines: dict[Place, int]) -> list[str]:
    """Return a line for each mistake, in the order of the file."""
    numbered = [(_line_of(lines, mistake.place), mistake) for mistake in wrong]
    numbered.sort(key=lambda pair: pair[0] or 0)
    shown = [
        _located(path, line, mistakes.named(place), words())
        for line, (place, words) in numbered[:_SHOWN]
    ]
    shown = list(dict.fromkeys(shown))
    if len(wrong) > _SHOWN:
        shown.append(f"inventory {path}: and {len(wrong) - _SHOWN} more mistakes")
    return shown


def _located(path: Path, line: int | None, name: str, words: str) -> str:
    where = f", line {line}" if line is not None else ""
    # a name in brackets: "guest.password: …" would be taken for a secret
    key = f" ({name})" if name else ""
    return printable(f"inventory {path}{where}{key}: {words}")


def _line_of(lines: dict[Place, int], place: Place) -> int | None:
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


def _read_text(path: Path) -> str:
    try:
        data = trust.read(path, _MOST)
    except Untrusted as exc:
        raise Untrusted(
            exc.path, exc.wrong, f"the inventory {path} is not trusted: {exc.way_out}"
        ) from exc
    except OSError as exc:
        raise ReclaimError(f"inventory {path}: {exc.strerror}") from exc
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ReclaimError(
            f"inventory {path}, line {line}: not UTF-8 at byte {exc.start}"
        ) from exc


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as exc:
        # tomllib's own error is one, and so is a number of too many digits
        line, words = syntax.in_words(str(exc), text)
        raise Mistakes([_located(path, line, "", f"not TOML: {words}")]) from exc
    except RecursionError as exc:
        raise ReclaimError(
            f"inventory {path}: its lists or tables are nested too deep"
        ) from exc
