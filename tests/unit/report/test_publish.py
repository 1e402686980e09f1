"""The files that are made from the record of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.engine.part import Options
from reclaim.engine.run import Run
from reclaim.report.publish import Pages
from tests.command import FLEET


def test_a_link_in_the_place_of_the_page_is_replaced(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    victim = tmp_path / "victim"
    victim.write_text("root's own")
    run = Run(Options(uri=FLEET, definitions_only=True, reports=tmp_path / "reports"))
    run.open()
    run.prepare()
    pages = Pages(pytestconfig, run)
    pages.rows = None
    (part,) = run.parts
    assert run.close() == []
    page = part.folder / "report.html"
    page.symlink_to(victim)
    assert pages.finish() == []
    assert victim.read_text() == "root's own"
    assert not page.is_symlink()
    assert page.stat().st_mode & 0o777 == 0o600
