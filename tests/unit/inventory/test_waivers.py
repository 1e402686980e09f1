"""Reasons of waivers that say something, and the days on which a waiver is in force."""

from __future__ import annotations

from datetime import date

import pytest

from reclaim.inventory import Waiver
from reclaim.inventory.waivers import says_nothing

FILLERS = [
    "",
    "   ",
    "\t\n",
    "-",
    "--",
    "—",
    "…",
    "...",
    "?",
    "!?",
    "n/a",
    "N/A",
    "n.a.",
    "na",
    "none",
    "None.",
    "nil",
    "null",
    "todo",
    "TODO",
    "to do",
    "To-Do!",
    "tbd",
    "T.B.D.",
    "tba",
    "fixme",
    "xxx",
    "wip",
    "because",
    "reason",
    "no reason",
    "waived",
    "ignore",
    "temporary",
    "see above",
    "dito",
    "lorem ipsum",
    "true",
    "\u200b",
    "\u00a0",
    "\u3000",
    "\ufeff",
    "\uff34\uff2f\uff24\uff2f",  # TODO in full width
    "🙂",
    "_",
    "''",
]


@pytest.mark.parametrize("text", FILLERS)
def test_a_text_that_says_nothing_is_no_reason(text: str) -> None:
    assert says_nothing(text)
    with pytest.raises(ValueError, match="give the reason why it need not hold"):
        Waiver(reason=text)


@pytest.mark.parametrize(
    "text",
    [
        "its kernel has no virtio-scsi",
        "TODO: replaced in spring",
        "OPS-4711",
        "#4711",
        "ε",
        "旧式",
        "none of it is ours",
    ],
)
def test_a_reason(text: str) -> None:
    assert Waiver(reason=f" {text} ").reason == text


@pytest.mark.parametrize(("day", "has_ended"), [(30, False), (31, False), (1, True)])
def test_the_last_day_is_within(day: int, *, has_ended: bool) -> None:
    waiver = Waiver(reason="replaced in spring", until=date(2027, 1, 31))
    today = date(2027, 1 if day > 1 else 2, day)
    assert waiver.has_ended(today) is has_ended
    assert not Waiver(reason="for ever").has_ended(today)
