"""A screen, a pipe, and one hypervisor's part of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reclaim.engine.part import Part
from tests.screens import Made, reporter_on
from tests.support import disk_xml, domain_xml, engine, opened

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def reporter(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """Make pytest's own reporter for a screen of so many columns and lines, or for a pipe."""
    return partial(reporter_on, pytestconfig, monkeypatch)


@pytest.fixture
def part(tmp_path: Path) -> Part:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    folder = tmp_path / "reports/test-driver/20260101T000000Z-audit"
    folder.mkdir(parents=True)
    return Part(hypervisor, hypervisor.guests, engine(hypervisor, tmp_path, "audit"), folder)
