"""The trim of a running guest: by its agent, else by fstrim; the bytes that come back are the host's count."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import AgentAbsent, AgentBlocked, ChangeFailed, ProbeError
from reclaim.changes.trim import Trim, xfs_script
from tests.support import InhabitedGuest, Inside, disk_xml, inhabited, mounted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1024**2


def _image(path: Path, mib: int) -> Path:
    """A file that holds so many MiB."""
    path.unlink(missing_ok=True)
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, mib * MIB)
    return path


def _guest(folder: Path, *mib: int, **more: Any) -> InhabitedGuest:
    """A guest with an image of so many MiB for each disk."""
    disks = [
        disk_xml(f"vd{letter}", source=str(_image(folder / f"{letter}.img", size)))
        for letter, size in zip("abc", mib, strict=False)
    ]
    return inhabited(folder, Inside(), *disks, **more)


def _agent(guest: InhabitedGuest, *paths: Any, then: Callable[[], Any] = lambda: None) -> None:
    def trim() -> Any:
        then()
        return {"paths": list(paths)}

    guest.answers["guest-fstrim"] = trim


def _no_agent(guest: InhabitedGuest, error: ProbeError) -> None:
    def absent() -> Any:
        raise error

    guest.answers["guest-fstrim"] = absent


def test_what_came_back_is_what_the_host_counts(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 4, 2)

    def shrink() -> None:
        _image(tmp_path / "a.img", 1)
        _image(tmp_path / "b.img", 3)  # one that grows meanwhile takes nothing off

    _agent(guest, {"path": "/", "trimmed": 1000}, {"path": "/srv", "trimmed": 24, "minimum": 0}, then=shrink)
    note = Trim("one").apply(guest)["note"]
    assert "3.0 MiB" in note
    assert "1024 bytes" in note
    assert "not " not in note
    assert guest.within.ran == []


def test_a_guest_that_lies_gives_nothing_back(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 1)
    _agent(guest, {"path": "/", "trimmed": 10**15})
    assert Trim("one").apply(guest)["note"].startswith("0 B ")


def test_an_image_that_is_gone_meanwhile_is_not_counted(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 4, 2)
    _agent(guest, {"path": "/", "trimmed": 1}, then=(tmp_path / "a.img").unlink)
    assert Trim("one").apply(guest)["note"].startswith("0 B ")


def test_a_block_device_is_not_counted(tmp_path: Path) -> None:
    device = "<disk type='block' device='disk'><source dev='/dev/null'/><target dev='vda' bus='virtio'/></disk>"
    guest = inhabited(tmp_path, Inside(), device)
    _agent(guest, {"path": "/", "trimmed": 1})
    assert Trim("one").apply(guest)["note"].startswith("0 B ")


def test_a_filesystem_that_failed_is_named_beside_those_that_were_trimmed(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 1)
    _agent(guest, {"path": "/", "trimmed": 5}, {"path": "/old", "error": "not supported"})
    assert Trim("one").apply(guest)["note"].endswith("not /old: not supported")


def test_many_failures_are_named_in_part_and_cut(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 1)
    _agent(guest, *({"path": f"/{number}{'p' * 500}", "error": "e" * 500} for number in range(50)))
    with pytest.raises(ChangeFailed) as caught:
        Trim("one").apply(guest)
    assert "/4p" in str(caught.value)
    assert "/5p" not in str(caught.value)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(7, id="a-number"),
        pytest.param([], id="a-list"),
        pytest.param({}, id="no-paths"),
        pytest.param({"paths": {"/": 1}}, id="paths-as-an-object"),
        pytest.param({"paths": [{"path": "/", "trimmed": 1}, "/srv"]}, id="a-text"),
        pytest.param({"paths": [None]}, id="null"),
        pytest.param({"paths": [{"path": "/", "trimmed": "9" * 30}]}, id="a-text-for-a-number"),
    ],
)
def test_an_answer_of_another_shape_is_no_trim(tmp_path: Path, answer: Any) -> None:
    guest = _guest(tmp_path, 1)
    guest.answers["guest-fstrim"] = lambda: answer
    with pytest.raises(ProbeError, match="guest-fstrim"):
        Trim("one").apply(guest)
    assert guest.within.ran == []


@pytest.mark.parametrize("error", [AgentAbsent("one: no agent"), AgentBlocked("one: not allowed")])
def test_fstrim_stands_in_for_the_agent(tmp_path: Path, error: ProbeError) -> None:
    guest = _guest(tmp_path, 1)
    _no_agent(guest, error)
    said = b"/: 2 KiB (2048 bytes) trimmed on /dev/vda1\n/srv: 1 B (1 bytes) trimmed on /dev/vdb1\nnoise (9 bytes)\n"
    guest.within.commands["LC_ALL=C fstrim -av"] = lambda _inside: (64, said, b"fstrim: /old: no\n\n")
    note = Trim("one").apply(guest)["note"]
    assert "a trim of 2049 bytes" in note
    assert note.endswith("; not /old: no")


def test_an_fstrim_that_says_nothing_is_told_by_its_status(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 1)
    _no_agent(guest, AgentAbsent("one: no agent"))
    guest.within.commands["LC_ALL=C fstrim -av"] = lambda _inside: (32, b"", b"")
    with pytest.raises(ChangeFailed, match="32"):
        Trim("one").apply(guest)
    guest.within.commands["LC_ALL=C fstrim -av"] = lambda _inside: (0, b"", b"")
    assert "a trim of 0 bytes" in Trim("one").apply(guest)["note"], "there was nothing to trim"


def test_numbers_without_end_are_not_read(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 1)
    _no_agent(guest, AgentAbsent("one: no agent"))
    said = b"/: (" + b"9" * 100_000 + b" bytes) trimmed\n/srv: (3 bytes) trimmed\n"
    guest.within.commands["LC_ALL=C fstrim -av"] = lambda _inside: (0, said, b"")
    assert "a trim of 3 bytes" in Trim("one").apply(guest)["note"]


def test_an_agent_that_answers_late_is_not_asked_in_another_way(tmp_path: Path) -> None:
    """The trim may be under way."""
    guest = _guest(tmp_path, 1)
    _no_agent(guest, ProbeError("one: it did not answer in time"))
    with pytest.raises(ProbeError, match="in time"):
        Trim("one").apply(guest)
    assert guest.within.ran == []


def _with_mounts(guest: InhabitedGuest, *mounts: dict[str, Any]) -> None:
    guest.within.mounts += mounts
    guest.forget()
    _agent(guest, {"path": "/", "trimmed": 1})


def _by_halves(guest: InhabitedGuest) -> list[list[str]]:
    """The mount points of each command that trimmed by halves."""
    commands = map(shlex.split, guest.within.ran)
    return [words[4:] for words in commands if xfs_script() in words]


def test_xfs_is_trimmed_again_by_halves_of_its_groups(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 4)
    _with_mounts(
        guest,
        mounted("/srv", "/dev/vdb", "xfs", "rw,noatime"),
        mounted("/var/lib/it's", "/dev/vdc1", "xfs", "rw"),
    )
    assert "; not " not in Trim("one").apply(guest)["note"]
    assert _by_halves(guest) == [["/srv", "/var/lib/it's"]]


def test_each_xfs_is_trimmed_once(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 4)
    _with_mounts(guest, *(mounted(target, f"/dev/vdb[{target}]", "xfs", "rw") for target in ("/srv", "/home")))
    Trim("one").apply(guest)
    assert len(_by_halves(guest)[0]) == 1


def test_an_xfs_that_is_trimmed_whole_only_is_named(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 4)
    _with_mounts(guest, mounted("/srv", "/dev/vdb", "xfs", "rw"))
    guest.within.untrimmed = "/srv\n/etc\n\x1b[2J\n"
    note = Trim("one").apply(guest)["note"]
    assert note.endswith("; not /srv by halves of its groups")


@pytest.mark.parametrize(("fstype", "options"), [("ext4", "rw"), ("xfs", "ro,relatime")])
def test_nothing_else_is_trimmed_twice(tmp_path: Path, fstype: str, options: str) -> None:
    guest = _guest(tmp_path, 4)
    _with_mounts(guest, mounted("/srv", "/dev/vdb", fstype, options))
    Trim("one").apply(guest)
    assert _by_halves(guest) == []


def test_a_guest_that_runs_no_commands_is_trimmed_once(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 4)
    _with_mounts(guest, mounted("/srv", "/dev/vdb", "xfs", "rw"))
    guest.within.problem = AgentBlocked("one: not allowed")
    assert "; not " not in Trim("one").apply(guest)["note"]


def test_promise_and_price_are_shown_before_and_after(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 1)
    _agent(guest, {"path": "/", "trimmed": 1})
    trim = Trim("one", "5.0 GiB", "it has 1 checkpoint")
    for text in (trim.diff, trim.apply(guest)["note"]):
        assert "5.0 GiB" in text
        assert "it has 1 checkpoint" in text
    bare = Trim("one")
    assert ";" not in bare.diff
    assert "came back of" not in bare.apply(guest)["note"]
    assert "one" in trim.target
    assert trim.undo(guest, {})
