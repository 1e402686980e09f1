"""Faults of TOML's syntax, in plain words and with their line. No text of the file is shown: it may hold a secret."""

from __future__ import annotations

import re

from reclaim.inventory import places
from reclaim.inventory.mistakes import named

#: the beginnings of tomllib's messages, and the words for them
_WORDS = {
    "Cannot ": "this table or key is there already",
    "Duplicate": "this key is there already",
    "Expected ']'": "the ] behind the name of a table is missing",
    "Expected ']]'": "the ]] behind the name of a table is missing",
    "Expected '='": "a key is followed by = and its value",
    "Expected '\"'": "a text in quotes does not end on its line",
    'Expected "\'"': "a text in quotes does not end on its line",
    "Expected newline": "nothing may follow a value on its line: is a text without quotes?",
    "Found invalid": "a character that cannot stand here: is a text without quotes?",
    "Illegal character '\\n'": "a text in quotes does not end on its line",
    "Illegal character": "a control character",
    "Invalid initial": "a key is missing, or needs quotes",
    "Invalid statement": "a line is a # comment, a [table], or NAME = value",
    "Invalid date": "there is no such date or time",
    "Invalid hex": "\\u needs four hexadecimal digits, and \\U eight",
    "Invalid value": "this value is not understood: a text needs quotes, a switch is true or false",
    "Escaped character": "\\u and \\U need the number of a character",
    "Unclosed array": "a list that begins with [ has no ]",
    "Unclosed inline": "an inline table that begins with { has no }",
    "Unescaped": "a backslash: double it, or put the text in single quotes",
    "Unterminated": "a text has no closing quotes",
    "Exceeds the limit": "a number with too many digits",
}
_YAML = re.compile(r"\s*[\w-]+:(?:\s|$)")


def in_words(message: str, text: str) -> tuple[int | None, str]:
    """Return the line and the words of the fault that tomllib found in *text*, with its *message*."""
    match = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(match[1]) if match else None
    if "end of document" in message:
        line = text.rstrip().count("\n") + 1
    try:
        repeated = places.first_repeated(text)
    except places.NotRead as exc:
        line = exc.line or line
        if exc.bracket:
            return line, "the list or inline table that begins here does not end"
    else:
        if repeated is not None:
            first, name = repeated.first, named(repeated.place)
            return repeated.line, f"{name} is there already, on line {first}"
    words = next(
        (
            words
            for beginning, words in sorted(_WORDS.items(), reverse=True)
            if message.startswith(beginning)
        ),
        "a line is a # comment, a [table], or NAME = value",
    )
    if line is not None and _YAML.match(_line(text, line)):
        words = 'this looks like YAML, and TOML writes NAME = "value"'
    return line, words


def _line(text: str, number: int) -> str:
    lines = text.split("\n", number)
    return lines[number - 1][:200] if len(lines) >= number else ""
