"""lvm.conf(5), taken apart as libdm/libdm-config.c of lvm2 does it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_QUOTED = re.compile(r"\"(?P<escaped>(?:[^\"\\]|\\.)*)\"|'(?P<plain>[^']*)'", re.DOTALL)
_MARK = re.compile(r"[{}\[\],=]")
_NUMBER = re.compile(r"[+-]?[0-9.]+")
_WORD = re.compile(r"[^\s#={}\"'\[\],][^\s#={}]*")
#: behind which token a value follows, not a name: other characters end them
_BEFORE_VALUE = ("=", "[", ",")
#: how deep sections may lie in each other; lvm.conf has one level
_MAX_DEPTH = 20


class NotUnderstoodError(ValueError):
    """A configuration that is not understood; its text names the part."""


def settings(text: str) -> dict[str, list[str]]:
    """Return the settings of one file: "devices/filter" -> its values. The last of several counts, as in lvm2.

    Raises NotUnderstoodError.
    """
    tokens = list(_tokens(text))
    by_name: dict[str, list[str]] = {}
    sections: list[str] = []
    index = 0
    while index < len(tokens):
        kind, name = tokens[index]
        following = ""
        if kind == "text":
            following = _kind(tokens, index + 1)
        if kind == "}" and sections:
            sections.pop()
            index += 1
        elif following == "{" and len(sections) < _MAX_DEPTH:
            sections.append(name.strip("/"))
            index += 2
        elif following == "=":
            values, index = _values(tokens, index + 2)
            by_name["/".join((*sections, name.strip("/")))] = values
        else:
            raise NotUnderstoodError(f"it cannot be parsed at {(name or kind)[:40]!r}")
    if sections:
        raise NotUnderstoodError(f"the section {sections[-1][:40]!r} does not end")
    return by_name


def _kind(tokens: list[tuple[str, str]], index: int) -> str:
    """Return the kind of the token at *index*; "" behind the last."""
    if index < len(tokens):
        return tokens[index][0]
    return ""


def _values(tokens: list[tuple[str, str]], index: int) -> tuple[list[str], int]:
    """Return the value, or the values of the array, that begins at token *index*; and the token behind it."""
    kind = _kind(tokens, index)
    if kind == "text":
        return [tokens[index][1]], index + 1
    if kind != "[":
        raise NotUnderstoodError("a setting has no value")
    values: list[str] = []
    index += 1
    while _kind(tokens, index) in ("text", ","):
        kind, value = tokens[index]
        if kind == "text":
            values.append(value)
        index += 1
    if _kind(tokens, index) != "]":
        raise NotUnderstoodError("an array does not end")
    return values, index + 1


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield each token as its kind and its text: "text", or the mark itself."""
    position, before = 0, ""
    while True:
        space = _SPACE.match(text, position)
        if space:
            position = space.end()
        if position == len(text):
            return
        is_value = before in _BEFORE_VALUE
        kind, value, position = _token(text, position, is_value=is_value)
        yield kind, value
        before = kind


def _token(text: str, position: int, *, is_value: bool) -> tuple[str, str, int]:
    """Return the kind and the text of the token at *position*, and the position behind it."""
    mark = _MARK.match(text, position)
    if mark:
        return mark[0], "", mark.end()
    quoted = _QUOTED.match(text, position)
    if quoted:
        value = quoted["plain"]
        if value is None:
            # dm_unescape_double_quotes
            value = re.sub(r"\\([\"\\])", r"\1", quoted["escaped"])
        return "text", value, quoted.end()
    number = None
    if is_value:
        number = _NUMBER.match(text, position)
    bare = number or _WORD.match(text, position)
    if bare is None:
        raise NotUnderstoodError(
            f"it cannot be parsed at {text[position : position + 40]!r}"
        )
    return "text", bare[0], bare.end()
