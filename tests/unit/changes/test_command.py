"""CommandChange, run for real by this machine's /bin/sh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra

from reclaim.base.errors import ChangeFailed
from reclaim.changes.command import CommandChange
from reclaim.handles.guest import Guest


@dataclass
class _Local:
    """This machine, in the place of a guest: only its shell is asked for."""

    shell: Any
    name: str = "here"


@pytest.fixture
def here() -> Guest:
    return cast("Guest", _Local(testinfra.get_host("local://")))


def test_a_command_runs_and_is_taken_back(here: Guest, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    change = CommandChange("here", f"touch '{mark}'", f"rm '{mark}'")
    outcome = change.apply(here)
    assert mark.exists()
    change.undo(here, outcome)
    assert not mark.exists()


def test_a_command_that_fails_is_told_in_its_last_words(here: Guest) -> None:
    with pytest.raises(ChangeFailed, match=r"ended with status 4: the cause; it failed; last words$"):
        CommandChange(
            "here", "for line in working 'the cause' '' 'it failed' 'last words'; do echo $line; done >&2; exit 4"
        ).apply(here)


def test_a_command_that_nothing_takes_back_says_so(here: Guest) -> None:
    assert CommandChange("here", "true").undo(here, {}) == "true: nothing takes it back"
