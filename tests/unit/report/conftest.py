"""A screen, a pipe, and one hypervisor's part of a run."""

from __future__ import annotations

import argparse
import copy
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reclaim.engine.part import Part
from tests.support import disk_xml, domain_xml, engine, opened

if TYPE_CHECKING:
    from collections.abc import Callable


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


Made = tuple[pytest.TerminalReporter, io.StringIO]


@pytest.fixture
def reporter(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """Make pytest's own reporter for a screen of so many columns and lines, or for a pipe."""

    def make(columns: int = 0, lines: int = 24, verbosity: int = 0) -> Made:
        config = copy.copy(pytestconfig)
        config.option = argparse.Namespace(**{**vars(pytestconfig.option), "verbose": verbosity})
        monkeypatch.setenv("COLUMNS", str(columns or 80))
        monkeypatch.setenv("LINES", str(lines))
        out = _Screen() if columns else io.StringIO()
        made = pytest.TerminalReporter(config, out)
        made._tw.hasmarkup = False
        return made, out

    return make


@pytest.fixture
def part(tmp_path: Path) -> Part:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    folder = tmp_path / "reports/test-driver/20260101T000000Z-audit"
    folder.mkdir(parents=True)
    return Part(hypervisor, hypervisor.guests, engine(hypervisor, tmp_path, "audit"), folder)
