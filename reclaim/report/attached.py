"""The result behind a report of pytest."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.base.verdict import Result

_ATTACHED = "_reclaim_result"


def attach(report: pytest.TestReport, result: Result) -> None:
    """Let the hooks that are given *report* find the *result* behind it."""
    setattr(report, _ATTACHED, result)


def attached(report: Any) -> Result | None:
    """Return the result behind *report*; None for a test of the project itself."""
    result = getattr(report, _ATTACHED, None)
    return result if isinstance(result, Result) else None
