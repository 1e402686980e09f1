"""Foreign text is made fit to be shown; sizes are written as people read them."""

from __future__ import annotations

import pytest

from reclaim.base.text import LIMIT, last_words, printable, size, some


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain é 漢", "plain é 漢", id="letters"),
        pytest.param("a\nb\tc", "a b c", id="white-space"),
        pytest.param("\x1b[31mred", "\\x1b[31mred", id="escape"),
        pytest.param("a\rb", "a\\rb", id="carriage-return"),
        pytest.param("a\x00b", "a\\x00b", id="nul"),
        pytest.param("a\x9bb", "a\\x9bb", id="c1"),
        pytest.param("a\u202eb", "a\\u202eb", id="right-to-left"),
        pytest.param("a\u2028b", "a\\u2028b", id="line-separator"),
        pytest.param("\udcff", "\\udcff", id="surrogate"),
        pytest.param("", "", id="empty"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_breaks_stay_where_asked_for() -> None:
    assert printable("a\n\tb\x1b", lines=True) == "a\n b\\x1b"


@pytest.mark.parametrize("character", ["x", "\x1b", "\udcff"])
def test_long_text_is_cut(character: str) -> None:
    shown = printable(character * (LIMIT * 3))
    assert len(shown) == LIMIT + 1
    assert shown.endswith("…")
    assert not printable("x" * LIMIT).endswith("…")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        pytest.param(1024**2 - 1, "1.0 MiB", id="nearly-a-MiB"),
        pytest.param(1024**3 - 1, "1.0 GiB", id="nearly-a-GiB"),
        pytest.param(1024**4 - 1, "1.0 TiB", id="nearly-a-TiB"),
        pytest.param(1023.7, "1.0 KiB", id="nearly-a-KiB"),
        pytest.param(1023.9 * 1024, "1023.9 KiB", id="under-a-MiB"),
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2, "1.0 MiB"),
        (1024**3 * 2.5, "2.5 GiB"),
        (1024**4 * 3, "3.0 TiB"),
        (1024**5, "1024.0 TiB"),
        (2**64, "16777216.0 TiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_size(count: float, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        pytest.param(["a\nb\nc\nd\n"], "b; c; d", id="the-last-three-lines"),
        pytest.param(["  a \n\n \n"], "a", id="without-empty-lines"),
        pytest.param(["", "beside"], "beside", id="the-first-output-that-is-not-empty"),
        pytest.param(["\n \n", ""], "no output", id="silence"),
        pytest.param(["\x1b[31mred\n"], "\\x1b[31mred", id="control-characters"),
        pytest.param(["x" * 9000], "x" * 200, id="a-long-line"),
    ],
)
def test_the_last_words_of_a_program(outputs: list[str], words: str) -> None:
    assert last_words(*outputs) == words


def test_the_last_words_are_as_many_lines_as_are_asked_for() -> None:
    assert last_words("a\nb\n", most=1) == "b"
    assert last_words("", silent="status 3") == "status 3"


def test_the_last_words_show_no_secret() -> None:
    assert "hunter2" not in last_words(f"{'x' * 180} password=hunter2hunter2")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        (list("abcde"), "a, b and 3 more"),
    ],
)
def test_the_first_names_are_shown_and_the_others_counted(names: list[str], shown: str) -> None:
    assert some(names, 2) == shown
