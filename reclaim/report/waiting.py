"""The guests of a record that wait for their maintenance window."""

from __future__ import annotations

from datetime import timezone

from reclaim.base.text import counted, printable, some
from reclaim.record.record import Record

#: guests that are named
_NAMED = 6


def waiting(record: Record) -> list[str]:
    """Return one line: the guests of *record* that wait for a window, and its beginning. Empty if none does."""
    waits = sorted(
        (row.next_window, row.guest)
        for row in record.results
        if row.next_window is not None and row.guest is not None
    )
    if not waits:
        return []
    guests = list(dict.fromkeys(guest for _, guest in waits))
    names = some([*map(printable, guests)], _NAMED)
    begins = f"{waits[0][0].astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    verb = "waits for its" if len(guests) == 1 else "wait for their"
    which = "which" if len(guests) == 1 else "the first of which"
    return [
        f"{counted(len(guests), 'guest')} {verb} maintenance window, {which} begins {begins}: {names}"
    ]
