"""CommandChange, run for real by this machine's /bin/sh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra

from reclaim.base.errors import ChangeFailed, NotYet, ProbeError
from reclaim.changes.command import CommandChange
from reclaim.handles.guest import Guest
from tests.support import Inside, inhabited


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


def test_a_part_of_a_command_that_fails_is_taken_back(here: Guest, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(ChangeFailed, match="ended with status 1"):
        CommandChange("here", f"touch '{mark}' && false", f"rm '{mark}'").apply(here)
    assert not mark.exists()


def test_a_part_that_cannot_be_taken_back_leaves_the_outcome_open(here: Guest, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(ProbeError, match=r"status 1.*could not take back a part of it: .*status 3"):
        CommandChange("here", f"touch '{mark}' && false", "exit 3").apply(here)
    assert mark.exists()


def test_a_part_is_taken_back_although_the_devices_that_it_names_are_gone(tmp_path: Path) -> None:
    """The guest named them before the command too: only a later undo could let it look for a disk that went."""
    guest = inhabited(tmp_path, Inside(commands={"there": lambda _inside: 1, "back": lambda _inside: 0}))
    with pytest.raises(ChangeFailed, match="there ended with status 1"):
        CommandChange("one", "there", "back", ["/dev/vda"]).apply(guest)
    assert guest.within.ran == ["there", "back"]


def test_a_command_whose_end_is_lost_is_left_as_it_is(tmp_path: Path) -> None:
    def lose(_inside: Inside) -> int:
        raise ProbeError("one: no answer")

    guest = inhabited(tmp_path, Inside(commands={"there": lose, "back": lambda _inside: 0}))
    with pytest.raises(ProbeError, match="no answer"):
        CommandChange("one", "there", "back").apply(guest)
    assert guest.within.ran == ["there"]


def test_a_command_that_nothing_takes_back_says_so(here: Guest) -> None:
    assert CommandChange("here", "true").undo(here, {}) == "true: it cannot be undone"


def test_it_shows_the_command_and_the_guest() -> None:
    change = CommandChange("web", "update-grub", "true", ["/dev/vda"])
    assert change.diff == "update-grub"
    assert "web" in change.target


def test_a_command_that_cannot_be_taken_back_in_a_guest_needs_no_answer_of_it(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(problem=ProbeError("one: no answer")))
    CommandChange("one", "true", None, ["/dev/vdz"]).undo(guest, {})


def test_the_way_back_is_not_run_without_its_devices(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(commands={"back": lambda _inside: 0}))
    change = CommandChange("one", "there", "back", ["/dev/vda"])
    with pytest.raises(NotYet, match="/dev/vda"):
        change.undo(guest, {})
    assert guest.within.ran == ["test -b /dev/vda"]
    guest.within.commands["test -b /dev/vda"] = lambda _inside: 0
    assert change.undo(guest, {}) == "back"
    assert guest.within.ran[-1] == "back"


def test_a_way_back_that_fails_is_told(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(commands={"back": lambda _inside: (5, b"", b"no room\n")}))
    with pytest.raises(ChangeFailed, match=r"5.*no room"):
        CommandChange("one", "there", "back").undo(guest, {})
