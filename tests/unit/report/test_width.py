"""The width of text on a terminal."""

from __future__ import annotations

import pytest

from reclaim.report.width import clip, columns_of, height


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abcdef", None, "abcdef"),
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("\N{CJK UNIFIED IDEOGRAPH-4E00}" * 3, 6, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 3),
        ("\N{CJK UNIFIED IDEOGRAPH-4E00}" * 4, 6, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 2 + "…"),
        ("e\N{COMBINING ACUTE ACCENT}fghij", 5, "e\N{COMBINING ACUTE ACCENT}fgh…"),
    ],
)
def test_a_line_is_cut_by_the_columns_that_it_takes(text: str, columns: int | None, shown: str) -> None:
    assert clip(text, columns) == shown


def test_a_control_character_takes_no_column() -> None:
    assert columns_of("a\x1bb") == 2


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [("", 10, 1), ("a" * 10, 10, 1), ("a" * 11, 10, 2), ("一" * 6, 10, 2), ("a\nb", 10, 2), ("a" * 999, None, 1)],
)
def test_a_line_that_is_too_long_takes_several(text: str, columns: int | None, lines: int) -> None:
    assert height(text, columns) == lines
