"""The lines of a TOML file on which its tables, keys and list elements begin: tomllib does not keep them.

tomllib is the judge of the file, so this reads only what tomllib has accepted, or would but for a name that is there
twice. Its answer counts only if it has the very keys that tomllib found: no line is better than a wrong one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: the keys and numbers of list elements that lead to a value, as in pydantic's `loc`
Place = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONG_STRINGS = (
    re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL),
    re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL),
)
_STRINGS = (re.compile(r'"(?:[^"\\\n]|\\.)*"'), re.compile(r"'[^'\n]*'"))
#: numbers, switches, dates; a blank may part a date from its time
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d[ ]\d\d:[^\s,\]}#]*|[^\s,\]}#\[{\"']+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


class NotRead(Exception):
    """This is no TOML. *line* is that of a text that does not end, or, with *bracket*, of a list or inline table."""

    def __init__(self, line: int | None = None, *, bracket: bool = False) -> None:
        super().__init__(line)
        self.line, self.bracket = line, bracket


class Repeated(NamedTuple):
    """A table or key that is there twice, with both lines."""

    place: Place
    first: int
    line: int


def lines_of(text: str, data: dict[str, Any]) -> dict[Place, int]:
    """Return the line of each place in *text*, which tomllib read as *data*. Empty if they cannot be told for sure."""
    try:
        reader = _TomlReader(text)
        reader.read()
    except (NotRead, RecursionError):
        return {}
    return reader.lines if reader.lines.keys() == set(_places(data)) else {}


def first_repeated(text: str) -> Repeated | None:
    """Return the first table or key that *text* has twice, or None. Raises NotRead if it is no TOML."""
    reader = _TomlReader(text)
    try:
        reader.read()
    except (RecursionError, ValueError) as exc:
        raise NotRead from exc
    return reader.repeated


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, (*place, index))


@dataclass
class _TomlReader:
    """One pass over *text*. `lines` has the first line of each place."""

    text: str
    lines: dict[Place, int] = field(default_factory=dict)
    repeated: Repeated | None = None
    _at: int = 0
    _starts: list[int] = field(default_factory=list)
    #: tables with a header, and values; and values alone
    _made: set[Place] = field(default_factory=set)
    _values: set[Place] = field(default_factory=set)
    #: arrays of tables, each with the number of its tables
    _arrays: dict[Place, int] = field(default_factory=dict)

    def read(self) -> None:
        """Read it all. Raises NotRead."""
        self._starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        table: Place = ()
        while True:
            self._skip_blank()
            if self._at >= len(self.text):
                return
            if self.text.startswith("[[", self._at):
                table = self._array_header()
            elif self.text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _line(self, at: int) -> int:
        return bisect_right(self._starts, at)

    def _skip_blank(self) -> None:
        match = _BLANK.match(self.text, self._at)
        self._at = match.end() if match else self._at

    def _expect(self, token: str) -> None:
        if not self.text.startswith(token, self._at):
            raise NotRead
        self._at += len(token)

    # Tables

    def _array_header(self) -> Place:
        line = self._line(self._at)
        self._at += 2
        *above, name = self._key()
        self._expect("]]")
        place = (*self._inside(above), name)
        index = self._arrays.get(place, 0)
        self._arrays[place] = index + 1
        self._note(place, line)
        self._note((*place, index), line)
        return (*place, index)

    def _header(self) -> Place:
        line = self._line(self._at)
        self._at += 1
        *above, name = self._key()
        self._expect("]")
        place = (*self._inside(above), name)
        self._make(place, line)
        return place

    def _inside(self, keys: list[str]) -> Place:
        """Return the place of the table that *keys* lead to: of an array of tables its last."""
        place: Place = ()
        for key in keys:
            place = (*place, key)
            if count := self._arrays.get(place):
                place = (*place, count - 1)
        return place

    def _note(self, place: Place, line: int) -> None:
        for length in range(1, len(place) + 1):
            self.lines.setdefault(place[:length], line)

    def _make(self, place: Place, line: int) -> None:
        if self.repeated is None and (again := self._again(place)):
            self.repeated = Repeated(again, self.lines[again], line)
        self._made.add(place)
        self._note(place, line)

    def _again(self, place: Place) -> Place | None:
        """Return *place* if it is there already, or the value in which it would be a key; else None."""
        if place in self._made:
            return place
        above = (place[:length] for length in range(1, len(place)))
        return next((key for key in above if key in self._values), None)

    # Keys and values

    def _pair(self, table: Place) -> None:
        line = self._line(self._at)
        place = (*table, *self._key())
        self._expect("=")
        self._make(place, line)
        self._value(place)
        self._values.add(place)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip_blank()
            parts.append(self._part())
            self._skip_blank()
            if not self.text.startswith(".", self._at):
                return parts
            self._at += 1

    def _part(self) -> str:
        if self.text[self._at : self._at + 1] in ('"', "'"):
            return _content(self._string(is_key=True))
        match = _BARE.match(self.text, self._at)
        if match is None:
            raise NotRead
        self._at = match.end()
        return match[0]

    def _string(self, *, is_key: bool = False) -> str:
        is_long = not is_key and self.text.startswith(('"""', "'''"), self._at)
        for kind in _LONG_STRINGS if is_long else _STRINGS:
            if match := kind.match(self.text, self._at):
                self._at = match.end()
                return match[0]
        raise NotRead(self._line(self._at))

    def _value(self, place: Place) -> None:
        self._skip_blank()
        first = self.text[self._at : self._at + 1]
        if first == "[":
            self._list(place)
        elif first == "{":
            self._inline_table(place)
        elif first in ('"', "'") and first:
            self._string()
        elif match := _PLAIN.match(self.text, self._at):
            self._at = match.end()
        else:
            raise NotRead

    def _list(self, place: Place) -> None:
        opened, index = self._at, 0
        self._at += 1
        while not self._ends("]", opened):
            element = (*place, index)
            self._make(element, self._line(self._at))
            self._value(element)
            self._next("]", opened)
            index += 1

    def _inline_table(self, place: Place) -> None:
        opened = self._at
        self._at += 1
        while not self._ends("}", opened):
            self._pair(place)
            self._next("}", opened)

    def _ends(self, bracket: str, opened: int) -> bool:
        """Skip blanks, and *bracket*. True if it was there. Raises NotRead at the end of the text."""
        self._skip_blank()
        if self._at >= len(self.text):
            raise NotRead(self._line(opened), bracket=True)
        if not self.text.startswith(bracket, self._at):
            return False
        self._at += 1
        return True

    def _next(self, bracket: str, opened: int) -> None:
        """Skip the comma behind an element. Raises NotRead if neither it nor *bracket* is there."""
        if not self._ends(bracket, opened):
            self._expect(",")
        else:
            self._at -= 1


def _content(quoted: str) -> str:
    """Return the text in quotes that a key may be."""
    text = quoted[1:-1]
    return text if quoted[0] == "'" else _ESCAPE.sub(_unescaped, text)


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPES.get(code, code)
