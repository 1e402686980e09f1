"""Commands in the shell of a guest: how they end, and the devices that they need."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ChangeFailed, NotYet, ProbeError
from reclaim.changes.in_guest import COMMAND_SECONDS, expect_devices, run
from reclaim.handles.hypervisor import Hypervisor
from tests.support import InhabitedGuest, Inside, InsideBackend, inhabited

if TYPE_CHECKING:
    from pathlib import Path

    from testinfra.backend.base import CommandResult


def _guest(folder: Path, **statuses: int) -> InhabitedGuest:
    """A guest in which the block devices named by *statuses* are looked for with these results."""
    guest = inhabited(folder, Inside())
    for name, status in statuses.items():
        guest.within.commands[f"test -b /dev/{name}"] = partial(_ends, status)
    return guest


def _ends(status: int, _inside: Inside) -> int:
    return status


def test_devices_that_are_there_are_no_obstacle(tmp_path: Path) -> None:
    guest = _guest(tmp_path, vda=0, vdb=0)
    expect_devices(guest, ["/dev/vda", "/dev/vdb"])
    assert guest.within.ran == ["test -b /dev/vda", "test -b /dev/vdb"]


def test_a_device_that_is_not_there_is_named_and_nothing_is_run(tmp_path: Path) -> None:
    guest = _guest(tmp_path, vda=0, vdb=1)
    with pytest.raises(NotYet, match="/dev/vdb"):
        expect_devices(guest, ["/dev/vda", "/dev/vdb", "/dev/vdc"])
    assert guest.within.ran == ["test -b /dev/vda", "test -b /dev/vdb"]


def test_no_devices_are_not_looked_for(tmp_path: Path) -> None:
    guest = _guest(tmp_path)
    guest.within.problem = ProbeError("one: no answer")
    expect_devices(guest, [])


def test_the_name_of_a_device_is_a_word(tmp_path: Path) -> None:
    guest = _guest(tmp_path)
    with pytest.raises(NotYet):
        expect_devices(guest, ["/dev/a b;id"])
    assert guest.within.ran == ["test -b '/dev/a b;id'"]


def test_a_command_that_ends_well_says_nothing(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(commands={"update-grub": lambda _inside: (0, b"out", b"warning")}))
    run(guest, "update-grub")
    assert guest.within.ran == ["update-grub"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param((3, b"out\n", b"err\n"), "status 3: err", id="standard-error-first"),
        pytest.param((3, b"a\nout\n", b" \n"), "status 3: a; out", id="else-standard-output"),
        pytest.param((127, b"", b""), "status 127: ", id="nothing"),
    ],
)
def test_a_command_that_fails_is_told_with_status_and_cause(
    tmp_path: Path, answer: tuple[int, bytes, bytes], words: str
) -> None:
    guest = inhabited(tmp_path, Inside(commands={"update-grub": lambda _inside: answer}))
    with pytest.raises(ChangeFailed) as caught:
        run(guest, "update-grub")
    assert str(caught.value).startswith("one: update-grub ")
    assert words in str(caught.value)


def test_a_command_has_the_time_that_an_initramfs_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    def timed(backend: InsideBackend, command: str, *_arguments: str, **more: object) -> CommandResult:
        given.append(more.get("seconds"))
        return backend.result(0, command.encode(), b"", b"")

    monkeypatch.setattr(InsideBackend, "run", timed)
    monkeypatch.setattr(Hypervisor, "strain", lambda _self: 2.0)
    run(inhabited(tmp_path, Inside()), "update-initramfs -u")
    assert given == [2 * COMMAND_SECONDS], "more on a busy hypervisor"
