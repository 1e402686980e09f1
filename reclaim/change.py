"""The name that checks and fixers written for earlier versions import: `reclaim.changes.change`."""

from __future__ import annotations

from reclaim.changes.change import (
    Change,
    CommandChange,
    DefinitionChange,
    FileChange,
    Place,
    Trim,
    changed_definition,
    from_json,
    to_json,
)

__all__ = [
    "Change",
    "CommandChange",
    "DefinitionChange",
    "FileChange",
    "Place",
    "Trim",
    "changed_definition",
    "from_json",
    "to_json",
]
