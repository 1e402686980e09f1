"""Fix with a power cycle, and undo, over and over on one real guest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import paths
from tests.faults import record
from tests.guest.test_interrupted import Life
from tests.guest.tiny import made
from tests.support import definition_of

pytestmark = [pytest.mark.guest, pytest.mark.long]
_CYCLES = int(os.environ.get("SOAK_CYCLES", "20"))


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with made("soak", machine="pc-i440fx-7.2") as tiny:
        booted = definition_of(tiny.guest())
        yield Life(tiny, tmp_path / "reports", booted, booted)


def test_a_guest_is_what_it_was_after_each_cycle(life: Life, request: pytest.FixtureRequest) -> None:
    original, kept = life.defined.xml, []
    for _ in range(_CYCLES):
        done = life.run("--fix", "--force", "--restart", "--keep", "2")
        assert life.power["verdict"] == "fixed", done.stdout
        assert life.tiny.domain.isActive()
        assert life.defined.xml != original
        undone, said = life.undo(life.latest)
        assert undone, said
        assert life.defined.xml == original
        life.tiny.domain.destroy()
        life.tiny.start()
        kept.append((len(list(life.reports.rglob("*"))), len(list(paths.guests().glob(f"{life.tiny.name}*")))))
    assert kept[-1] == kept[min(3, _CYCLES - 1)], kept
    record.note(request.node.nodeid, {"cycles": _CYCLES})
