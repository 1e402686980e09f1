"""The known name that a mistyped one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: characters of a mistyped name that are compared
_MOST = 60
#: characters of a known name that are enough at the beginning of a mistyped one: "saturday" begins with "sat"
_BEGINS = 3
#: names that `near` asks about, and how alike they have to be
_SEVERAL, _ALIKE = 3, 0.75


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that is most like *name*, or None if none is: `_` and `-`, and case, do not count."""
    by_form: dict[str, str] = {}
    for candidate in known:
        by_form.setdefault(_form(candidate), candidate)
        # "vienna" is the zone Europe/Vienna
        by_form.setdefault(_form(candidate).rpartition("/")[2], candidate)
    form = _form(name[:_MOST])
    close = difflib.get_close_matches(form, by_form, 1)
    begins = [
        each for each in by_form if len(each) >= _BEGINS and form.startswith(each)
    ]
    return next((by_form[each] for each in (*close, *begins)), None)


def meant(name: str, known: Iterable[str]) -> str:
    """Return the one of *known* that is most like *name* as a question in brackets, or ""."""
    close = nearest(name, known)
    return f" (did you mean {close}?)" if close else ""


def near(word: str, known: list[str]) -> str:
    """Return words that name those of *known* that are near *word*, or nothing."""
    close = difflib.get_close_matches(
        word, list(dict.fromkeys(known)), _SEVERAL, _ALIKE
    )
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _form(name: str) -> str:
    return name.casefold().replace("_", "-")
