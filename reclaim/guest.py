"""The name that checks and fixers written for earlier versions import: `reclaim.handles.guest`."""

from __future__ import annotations

from reclaim.handles.guest import (
    Disk,
    Guest,
)

__all__ = ["Disk", "Guest"]
