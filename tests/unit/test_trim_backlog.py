"""trim-backlog: the check and the fixer as a pair, on real files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.agent import AgentBlocked
from reclaim.change import Trim
from reclaim.inventory import GuestNotes, Inventory
from reclaim.verdict import Verdict
from tests.support import Inside, block, disk_xml, engine, inhabited, mounted, part, requirement, subject, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support import InhabitedGuest

MIB = 1024**2
SIZE = 256 * MIB


def _image(folder: Path, allocated: int) -> Path:
    """A sparse file of which the file system holds *allocated* bytes."""
    path = folder / "disk.img"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
        os.posix_fallocate(stream.fileno(), 0, allocated)
    return path


def _guest(folder: Path, allocated: int, used: int, **more: Any) -> InhabitedGuest:
    image = _image(folder, allocated)
    device = block("vda", part("vda1", fstype="ext4", size=SIZE - MIB), size=SIZE)
    inside = Inside(devices=[device], mounts=[mounted("/", "/dev/vda1", size=SIZE - MIB, used=used)])
    return inhabited(folder, inside, disk_xml(source=str(image), **more.pop("disk", {})), **more)


def _punch(guest: InhabitedGuest, folder: Path) -> Callable[[], Any]:
    def trim() -> Any:
        used = guest.within.mounts[0]["used"]
        image = folder / "disk.img"
        image.unlink()
        _image(folder, used)
        return {"paths": [{"path": "/", "trimmed": 100 * MIB, "minimum": 0}]}

    return trim


def test_a_backlog_is_trimmed_and_the_host_holds_less(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.answers["guest-fstrim"] = _punch(guest, tmp_path)
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NONCOMPLIANT
    assert requirement("trim-backlog").fixer(subject(guest, "vda").disk) == [Trim("one")]
    held = guest.hypervisor.allocated(str(tmp_path / "disk.img"))
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED, result.reason
    assert "the guest says it trimmed 104857600 bytes" in result.reason
    assert held - guest.hypervisor.allocated(str(tmp_path / "disk.img")) >= 170 * MIB
    again = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_a_guest_that_says_it_trimmed_is_not_believed(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.answers["guest-fstrim"] = lambda: {"paths": [{"path": "/", "trimmed": 10**12}]}
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason.endswith("the change was applied and did not help")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param({"paths": [{"path": "/", "error": "no"}]}, "nothing could be trimmed: /: no", id="all-failed"),
        pytest.param({}, "has no paths", id="no-paths"),
        pytest.param([], "has no paths", id="a-list"),
        pytest.param({"paths": ["/"]}, "cannot be parsed", id="no-objects"),
    ],
)
def test_a_trim_that_failed_is_told(tmp_path: Path, answer: Any, words: str) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.answers["guest-fstrim"] = lambda: answer
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert [change.applied for change in result.changes] == [False]
    assert words in result.reason.partition("; not mended: one: ")[2]


def test_where_the_agent_does_not_trim_fstrim_does(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)

    def blocked() -> Any:
        raise AgentBlocked("one: the guest agent does not allow guest-fstrim")

    def fstrim(_inside: Inside) -> int:
        _punch(guest, tmp_path)()
        return 0

    guest.answers["guest-fstrim"] = blocked
    guest.within.commands["fstrim -av"] = fstrim
    result = engine(guest.hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(guest, "vda"))
    assert result.verdict is Verdict.FIXED, result.reason
    assert guest.within.ran == ["fstrim -av"]


@pytest.mark.parametrize(
    ("allocated", "used", "verdict"),
    [
        pytest.param(84, 20, Verdict.COMPLIANT, id="64-MiB-more"),
        pytest.param(90, 20, Verdict.NONCOMPLIANT, id="70-MiB-more"),
        pytest.param(10, 200, Verdict.COMPLIANT, id="less-than-used"),
        pytest.param(0, 20, Verdict.COMPLIANT, id="nothing"),
    ],
)
def test_the_slack_is_tolerated(tmp_path: Path, allocated: int, used: int, verdict: Verdict) -> None:
    # the partition table's MiB is on no filesystem, and so is not the guest's need
    guest = _guest(tmp_path, max(allocated * MIB, 1), used * MIB)
    assert verdict_of(guest, "trim-backlog", "vda") is verdict


def test_an_image_that_is_gone_is_an_error(tmp_path: Path) -> None:
    guest = _guest(tmp_path, MIB, MIB)
    (tmp_path / "disk.img").unlink()
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.ERROR


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        pytest.param({"disk": {"inner": "<readonly/>"}}, Verdict.NOT_APPLICABLE, id="read-only"),
        pytest.param(
            {"inventory": Inventory(guest={"one": GuestNotes(thick=True)})}, Verdict.NOT_APPLICABLE, id="thick"
        ),
        pytest.param({"running": False}, Verdict.NOT_ASSESSABLE, id="off"),
    ],
)
def test_verdicts_that_start_no_fixer(tmp_path: Path, more: dict[str, Any], verdict: Verdict) -> None:
    assert verdict_of(_guest(tmp_path, 200 * MIB, 20 * MIB, **more), "trim-backlog", "vda") is verdict


def test_a_disk_that_cannot_be_told_is_not_assessed(tmp_path: Path) -> None:
    guest = _guest(tmp_path, 200 * MIB, 20 * MIB)
    guest.within.devices.append(block("vdb"))
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NOT_ASSESSABLE


def test_a_block_device_is_not_counted_as_a_file(tmp_path: Path) -> None:
    xml = "<disk type='block' device='disk'><source dev='/dev/loop9'/><target dev='vda' bus='virtio'/></disk>"
    guest = inhabited(tmp_path, Inside(), xml)
    assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NOT_ASSESSABLE
