"""What is changed in the process of a run before it begins, to have what cannot be had otherwise."""

from __future__ import annotations

from typing import Any

from tests.faults.points import Watch


def no_holes_can_be_punched(_watch: Watch, _asked: dict[str, Any]) -> None:
    """As on a filesystem that has none, where a copy is written anew beside itself."""
    from reclaim import holes  # noqa: PLC0415 (in the child alone)

    holes.can_punch = lambda _folder: False
