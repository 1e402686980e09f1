"""Commands about runs that are printed to be typed."""

from __future__ import annotations

from pathlib import Path

from reclaim.base import typed


def undo(folder: Path, *, anywhere: bool = False) -> str:
    """Return the command that takes back the run in *folder*, to be typed where this process stands, or *anywhere*."""
    if anywhere:
        return typed.command("undo", str(folder.absolute()))
    return typed.command("undo", str(folder), stand=typed.here())
