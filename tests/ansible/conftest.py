"""Controllers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ansible.playing import Controller


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path / "controller")
