"""The line about guests that wait for their maintenance window."""

from __future__ import annotations

import json
from pathlib import Path

from reclaim.record import record
from reclaim.report.waiting import waiting
from tests import records


def _waiting(*waits: tuple[str, str | None]) -> list[str]:
    rows = []
    for guest, begins in waits:
        row = records.row("live-definition", "pending", guest, reason="waits for a power cycle")
        rows.append({**row, "next_window": begins} if begins else row)
    return waiting(record.parsed(json.dumps(records.document(rows)), Path("results.json")))


def test_nobody_waits() -> None:
    assert _waiting(("web", None)) == []


def test_the_first_window_is_named() -> None:
    assert _waiting(("web", "2026-12-05T21:00:00Z")) == [
        "1 guest waits for its maintenance window, which begins 2026-12-05 21:00 UTC: web"
    ]
    waits = [(f"g{number}", f"2026-12-{10 - number:02}T21:00:00Z") for number in range(8)]
    expected = (
        "8 guests wait for their maintenance window, the first of which begins 2026-12-03 21:00 UTC: "
        "g7, g6, g5, g4, g3, g2 and 2 more"
    )
    assert _waiting(*waits, waits[0], ("web", None)) == [expected]
