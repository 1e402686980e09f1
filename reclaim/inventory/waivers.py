"""Waivers: a requirement that need not hold for a guest, with the reason, and the last day on which that is so."""

from __future__ import annotations

import unicodedata
from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from reclaim.inventory.keys import Table

#: days before the end of a waiver in which a run mentions it
SOON_DAYS = 14
#: texts that stand for a reason to come, or for none; compared by letters and digits alone
_FILLERS = """
asdf because blah dito ditto dummy dunno empty exception exempt false fixme foo foobar idk ignore ignored
justbecause later lorem loremipsum missing na nil no none noreason nothing notapplicable null ok okay
pending placeholder qwerty reason reasonhere sameasabove seeabove skip skipped tba tbc tbd temp temporary
test testing tmp todo true unknown unspecified waive waived waiver wip writeme xx xxx xxxx yes
"""
_NO_REASONS = frozenset(_FILLERS.split())


def says_nothing(reason: str) -> bool:
    """True if *reason* is blank, has neither letter nor digit, or is a filler such as "n/a" or "TODO"."""
    text = unicodedata.normalize("NFKC", reason).casefold()
    core = "".join(filter(str.isalnum, text))
    return not core or core in _NO_REASONS


def _a_reason(text: str) -> str:
    text = text.strip()
    if says_nothing(text):
        shown = f"{text!r} is no reason: " if text else ""
        raise ValueError(f"{shown}give the reason why it need not hold")
    return text


def _a_date(value: Any) -> Any:
    # a time of day is a date too in Python, and no waiver ends at one
    if type(value) is date:
        return value
    raise ValueError("give a date without quotes, such as 2027-01-31")


def _a_table(value: Any) -> Any:
    """Let a text stand for the table with that reason."""
    if isinstance(value, str):
        return {"reason": value}
    if not isinstance(value, dict | Waiver):
        # a TypeError would be no mistake of the user to pydantic
        raise ValueError(  # noqa: TRY004
            'give the reason in quotes, or { reason = "…", until = 2027-01-31 }'
        )
    return value


Reason = Annotated[str, AfterValidator(_a_reason)]
Day = Annotated[
    date,
    BeforeValidator(_a_date),
    WithJsonSchema({"type": "string", "format": "date"}),
]


class Waiver(Table):
    """The reason why a requirement need not hold, and the last day on which that is so."""

    reason: Reason = Field(
        description='Why it need not hold. A text that says nothing, such as "n/a" or "todo", is refused.'
    )
    until: Day | None = Field(
        default=None,
        description="The last day of the waiver, by the local date of the hypervisor; from the next day on the row is "
        "judged. It has no end if this is absent.",
    )

    def has_ended(self, today: date) -> bool:
        return self.until is not None and today > self.until


Waived = Annotated[Waiver, BeforeValidator(_a_table)]
