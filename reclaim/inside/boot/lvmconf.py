"""lvm.conf(5), taken apart as libdm/libdm-config.c of lvm2 does it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_QUOTED = re.compile(r"\"(?P<escaped>(?:[^\"\\]|\\.)*)\"|'(?P<plain>[^']*)'", re.DOTALL)
_MARK = re.compile(r"[{}\[\],=]")
_NUMBER = re.compile(r"[+-]?[0-9.]+")
_WORD = re.compile(r"[^\s#={}\"'\[\],][^\s#={}]*")
#: behind which token a value follows, not a name: the tokens differ in what ends them
_BEFORE_VALUE = ("=", "[", ",")
#: how deep sections may lie in each other; lvm.conf has one level
_MAX_DEPTH = 20


class NotUnderstoodError(ValueError):
    """A configuration that is not understood; its text names the part."""


def settings(text: str) -> dict[str, list[str]]:
    """The settings of one file: "devices/filter" -> its values. The last of several counts, as in lvm2.

    Raises NotUnderstoodError.
    """
    tokens = list(_tokens(text))
    found: dict[str, list[str]] = {}
    sections: list[str] = []
    at = 0
    while at < len(tokens):
        kind, name = tokens[at]
        following = tokens[at + 1][0] if at + 1 < len(tokens) else ""
        if kind == "}" and sections:
            sections.pop()
            at += 1
        elif kind == "text" and following == "{" and len(sections) < _MAX_DEPTH:
            sections.append(name.strip("/"))
            at += 2
        elif kind == "text" and following == "=":
            values, at = _values(tokens, at + 2)
            found["/".join((*sections, name.strip("/")))] = values
        else:
            raise NotUnderstoodError(f"it cannot be parsed at {(name or kind)[:40]!r}")
    if sections:
        raise NotUnderstoodError(f"the section {sections[-1][:40]!r} does not end")
    return found


def _values(tokens: list[tuple[str, str]], at: int) -> tuple[list[str], int]:
    """The value, or the values of the array, that begins at token *at*; and where it ended."""
    if at < len(tokens) and tokens[at][0] == "text":
        return [tokens[at][1]], at + 1
    if at >= len(tokens) or tokens[at][0] != "[":
        raise NotUnderstoodError("a setting has no value")
    values: list[str] = []
    at += 1
    while at < len(tokens) and tokens[at][0] in ("text", ","):
        if tokens[at][0] == "text":
            values.append(tokens[at][1])
        at += 1
    if at >= len(tokens) or tokens[at][0] != "]":
        raise NotUnderstoodError("an array does not end")
    return values, at + 1


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Each token as its kind and its text: "text", or the mark itself."""
    at, before = 0, ""
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        if at == len(text):
            return
        kind, value, at = _token(text, at, is_value=before in _BEFORE_VALUE)
        yield kind, value
        before = kind


def _token(text: str, at: int, *, is_value: bool) -> tuple[str, str, int]:
    if match := _MARK.match(text, at):
        return match[0], "", match.end()
    if match := _QUOTED.match(text, at):
        if match["plain"] is not None:
            return "text", match["plain"], match.end()
        return (
            "text",
            re.sub(r"\\([\"\\])", r"\1", match["escaped"]),
            match.end(),
        )  # dm_unescape_double_quotes
    number = _NUMBER.match(text, at) if is_value else None
    match = number or _WORD.match(text, at)
    if match is None:
        raise NotUnderstoodError(f"it cannot be parsed at {text[at : at + 40]!r}")
    return "text", match[0], match.end()
