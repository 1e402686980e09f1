"""The name that checks and fixers written for earlier versions import: `reclaim.base.errors`."""

from __future__ import annotations

from reclaim.base.errors import (
    AgentAbsent,
    AgentBlocked,
    AgentFrozen,
    ChangedSince,
    ChangeFailed,
    JournalLost,
    NoAccess,
    NotApplicable,
    NotAssessable,
    NotLinux,
    NotLinuxButWindows,
    NotYet,
    Pending,
    PowerCycleFailed,
    ProbeError,
    ReclaimError,
    Refused,
    StillRunning,
    Untrusted,
    Withheld,
)

__all__ = [
    "AgentAbsent",
    "AgentBlocked",
    "AgentFrozen",
    "ChangeFailed",
    "ChangedSince",
    "JournalLost",
    "NoAccess",
    "NotApplicable",
    "NotAssessable",
    "NotLinux",
    "NotLinuxButWindows",
    "NotYet",
    "Pending",
    "PowerCycleFailed",
    "ProbeError",
    "ReclaimError",
    "Refused",
    "StillRunning",
    "Untrusted",
    "Withheld",
]
