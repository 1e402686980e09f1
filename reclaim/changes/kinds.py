"""Every kind of change, as the journal writes it and reads it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from reclaim.base import strict
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.domfstrim import TrimTimer
from reclaim.changes.file_change import FileChange
from reclaim.changes.live_update import LiveUpdate
from reclaim.changes.power import PowerCycle
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.changes.trim import Trim


def to_json(change: Change) -> dict[str, Any]:
    """*change* as plain values, for the journal."""
    return {"kind": change.kind, **asdict(change)}  # type: ignore[call-overload]


def from_json(data: Any) -> Change:
    """The change that `to_json` wrote. Raises ValueError for a kind or a value that is unknown."""
    values = dict(data) if isinstance(data, dict) else {}
    kind = values.pop("kind", None)
    for known in _KINDS:
        if known.kind == kind:
            change: Change = strict.build(known, values)  # type: ignore[assignment]
            return change
    raise ValueError(f"a change of kind {kind!r:.60} is unknown to this version")


def can_be_undone(change: Change) -> bool:
    """True if `undo` brings an earlier state back. Free space that was given back, for one, stays so."""
    if isinstance(change, CommandChange):
        return change.back is not None
    return isinstance(change, DefinitionChange | FileChange | LiveUpdate | TrimTimer)


_KINDS = (
    DefinitionChange,
    FileChange,
    CommandChange,
    Trim,
    LiveUpdate,
    PowerCycle,
    AmendCycle,
    Boot,
    TrimTimer,
    ImageAmend,
    HolePunch,
    SparseRewrite,
    Sparsify,
)
