"""The name that checks and fixers written for earlier versions import: `reclaim.changes`."""

from __future__ import annotations

from reclaim.changes.change import Change, Place
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange, changed_definition
from reclaim.changes.file_change import FileChange
from reclaim.changes.kinds import from_json, to_json
from reclaim.changes.trim import Trim

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
