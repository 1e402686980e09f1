"""Words of commands: values that are not known keep their origin, and a file cannot bring marks of its own."""

from __future__ import annotations

import pytest

from reclaim.jobs.words import (
    UNKNOWN,
    Origin,
    Origins,
    Word,
    absolute,
    clean,
    is_sure,
    pattern,
    shown,
    sure_part,
)

MARK = "\U000f0001"


def test_each_value_has_a_mark_and_a_key_is_known_again() -> None:
    origins = Origins()
    guest = origins.mark(Origin("guest"), key="variable GUEST")
    other = origins.mark()
    assert guest != other
    assert origins.mark(key="variable GUEST") == guest
    assert origins.mark(key="variable OTHER") not in (guest, other)
    assert origins.of(guest) == Origin("guest")
    assert origins.of(other) == Origin()
    assert not is_sure(guest)


@pytest.mark.parametrize("text", ["", "a", UNKNOWN, "\U000f0001", "\U0010ffff", "\U000f0000\U000f0000"])
def test_a_text_that_is_not_one_known_mark_has_no_origin(text: str) -> None:
    origins = Origins()
    origins.mark(Origin("guest"))
    assert origins.of(text) is None


def test_marks_come_to_an_end() -> None:
    origins = Origins()
    marks = [origins.mark() for _ in range(5000)]
    assert marks[4000:] == [UNKNOWN] * 1000
    assert UNKNOWN not in marks[:4000]
    assert len(set(marks)) == 4001
    assert origins.mark(key="late") == UNKNOWN


def test_the_origins_within_a_text_in_their_order() -> None:
    origins = Origins()
    guest, path = origins.mark(Origin("guest")), origins.mark(Origin("image"))
    assert origins.within(f"/a/{path}-{guest}{UNKNOWN}.img") == [Origin("image"), Origin("guest")]
    assert origins.within("/a/b") == []


@pytest.mark.parametrize(
    ("word", "options", "option"),
    [
        (Word("-a", splits=True), True, False),
        (Word(UNKNOWN, splits=True), True, True),
        (Word(f"{MARK}x", splits=True), True, False),
        (Word(f"/x{MARK}", splits=True), False, False),
        (Word("-a"), False, False),
        (Word(UNKNOWN), False, True),
        (Word(MARK + UNKNOWN), False, True),
        (Word(""), False, False),
    ],
)
def test_a_word_that_may_be_options(word: Word, *, options: bool, option: bool) -> None:
    assert word.may_be_options is options
    assert word.may_be_option is option
    assert word.is_sure is (UNKNOWN not in word.text and MARK not in word.text)


def test_a_file_cannot_bring_marks() -> None:
    assert clean("plain") == "plain"
    assert clean("gänse") == "gänse"
    assert clean(f"a\U000f0000b{UNKNOWN}c\U0010ffff") == f"a{UNKNOWN}b{UNKNOWN}c{UNKNOWN}"


def test_the_known_part_and_the_words_for_people() -> None:
    text = f"/backup/{MARK}/web{UNKNOWN}.img"
    assert sure_part(text) == "/backup/"
    assert shown(text) == "/backup/…/web….img"
    assert sure_part("/backup") == shown("/backup") == "/backup"


@pytest.mark.parametrize(
    ("text", "fits", "fits_not"),
    [
        ("/a/*.img", ["/a/b.img", "/a/.img"], ["/a/b/c.img", "/a/bximg", "/a/b.img2"]),
        ("/a/?.img", ["/a/b.img"], ["/a/.img", "/a/bc.img", "/a//.img"]),
        (f"/a/{MARK}.img", ["/a/b.img", "/a/b/c.img", "/a/b\nc.img"], ["/b/a.img"]),
        (f"/a/{MARK}{UNKNOWN}", ["/a/", "/a/b/c"], ["/a"]),
        ("/a/**", ["/a/b"], ["/a/b/c"]),
        ("/a(b)+[c]", ["/a(b)+[c]"], ["/ab", "/abc"]),
        ("*a*b*", ["xaxbx"], ["a/b", "/ab"]),
        ("/s/*a*b*c*d*", ["/s/anything", "/s/x/y"], ["/t/abcd"]),
    ],
)
def test_a_pattern_fits_all_that_a_text_may_be(text: str, fits: list[str], fits_not: list[str]) -> None:
    expression = pattern(text)
    assert [one for one in fits if not expression.fullmatch(one)] == []
    assert [one for one in fits_not if expression.fullmatch(one)] == []


@pytest.mark.parametrize(
    ("text", "folder", "path"),
    [
        ("/a/b", "/w", "/a/b"),
        ("b", "/w", "/w/b"),
        ("./b/../c", "/w", "/w/c"),
        ("..", "/w/x", "/w"),
        ("b/", "/w", "/w/b/"),
        ("/a/.", "/w", "/a/"),
        (".", "/w", "/w/"),
        ("//a//b", "/w", "/a/b"),
        ("/", "/w", "/"),
        ("///", "/w", "/"),
        ("b", "", f"{UNKNOWN}/b"),
        ("b", UNKNOWN, f"{UNKNOWN}/b"),
        ("~/b", "/w", UNKNOWN),
        (MARK, "/w", MARK),
        (f"{MARK}/b", "/w", f"{MARK}/b"),
        (f"b{MARK}", "/w", f"/w/b{MARK}"),
        ("", "/w", "/w/"),
    ],
)
def test_a_path_from_a_folder_on(text: str, folder: str, path: str) -> None:
    assert absolute(text, folder) == path
