"""Tests with real guests run where they can; elsewhere they are skipped by name, and with CI set they fail."""

from __future__ import annotations

import os
from functools import cache

import pytest

from lab import host


@cache
def _reason() -> str:
    """Why no real guest can run here; empty where one can."""
    return "; ".join(host.missing())


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("guest") is None or not _reason():
        return
    if os.environ.get("CI"):
        pytest.fail(f"real guests must run where CI is set: {_reason()}", pytrace=False)
    pytest.skip(f"no real guest here: {_reason()}")
