"""The width of text on a terminal: a wide character takes two columns."""

from __future__ import annotations

import math


def columns_of(text: str) -> int:
    """Return the columns that *text* takes. A control character takes none."""
    if text.isascii():
        return sum(map(str.isprintable, text))
    from wcwidth import wcswidth, wcwidth  # noqa: PLC0415 (start-up)

    width = wcswidth(text)
    return width if width >= 0 else sum(max(wcwidth(sign), 0) for sign in text)


def clip(text: str, columns: int | None) -> str:
    """Return *text* as far as *columns* of the terminal hold it. A wide character takes two."""
    if columns is None or columns_of(text) <= columns:
        return text
    from wcwidth import wcwidth  # noqa: PLC0415 (start-up)

    kept, width = "", 1
    for character in text:
        width += max(wcwidth(character), 0)
        if width > columns:
            break
        kept += character
    return f"{kept}…"


def height(text: str, columns: int | None) -> int:
    """Return the number of lines that *text* takes: more than one on a screen that is too narrow."""
    if columns is None:
        return text.count("\n") + 1
    lines = text.split("\n")
    return sum(max(1, math.ceil(columns_of(line) / columns)) for line in lines)
