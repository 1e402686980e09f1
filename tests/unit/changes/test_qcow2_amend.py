"""qcow2 0.10 made 1.1 by the real qemu-img, while nothing has the image open."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import AgentAbsent, ChangeFailed, NotLinux, ProbeError, Withheld
from reclaim.changes import power
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend, amend, amendment
from reclaim.handles.guest import Disk
from tests.support import Inside, disk_xml, executable, inhabited

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support import InhabitedGuest

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img (Debian and Ubuntu: qemu-utils)")
ODD = 'a b,c="d"\'%s$(id).qcow2'


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAUSE", "_STEADY_SECONDS", "_BLIND_SECONDS", "_SETTLE_SECONDS"):
        monkeypatch.setattr(power, name, 0)


def _made(path: Path, *options: str, kind: str = "qcow2") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), "1M"], check=True)
    return path


def _old(path: Path) -> Path:
    """A qcow2 0.10, over a backing file: such an image keeps every block."""
    base = _made(path.with_name(f"base-of-{len(path.name)}"))
    return _made(path, "-o", "compat=0.10", "-b", str(base), "-F", "qcow2")


def _version(path: Path) -> int:
    return path.read_bytes()[7]


def _guest(folder: Path, images: Sequence[Path], **more: Any) -> InhabitedGuest:
    disks = [
        disk_xml(f"vd{letter}", source=str(path).replace("'", "&apos;"))
        for letter, path in zip("abc", images, strict=False)
    ]
    guest = inhabited(folder, more.pop("inside", Inside()), *disks, **more)
    guest.answers = {"guest-ping": dict, "guest-shutdown": guest.domain.destroy}
    return guest


def _tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a qemu-img of ours in front of the real one."""
    (folder / "bin").mkdir()
    tool = folder / "bin" / "qemu-img"
    executable(tool, f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


# One image ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["disk.qcow2", ODD])
def test_an_image_is_version_3_and_its_backing_file_as_it_was(tmp_path: Path, name: str) -> None:
    path = _old(tmp_path / name)
    base = next(tmp_path.glob("base-of-*"))
    content = base.read_bytes()
    change = ImageAmend("one", str(path))
    note = change.apply(_guest(tmp_path, [path], running=False))["note"]
    assert _version(path) == 3
    assert base.read_bytes() == content
    assert str(path) in note
    assert str(path) in change.undo(_guest(tmp_path, [path]), {})


def test_the_command_is_shown_as_it_would_be_typed(tmp_path: Path) -> None:
    change = ImageAmend("one", str(tmp_path / "a b\x1b"))
    assert change.diff.endswith(f"'{tmp_path / 'a b'}\x1b'")
    assert change.target == f"{tmp_path / 'a b'}\\x1b"


def test_the_image_of_a_running_guest_is_left(tmp_path: Path) -> None:
    path = _old(tmp_path / "disk.qcow2")
    with pytest.raises(ChangeFailed, match="runs"):
        ImageAmend("one", str(path)).apply(_guest(tmp_path, [path]))
    assert _version(path) == 2


def test_the_words_of_qemu_img_name_the_path_alone(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"no image at all")
    guest = _guest(tmp_path, [path], running=False)
    with pytest.raises(ChangeFailed) as caught:
        amend(guest, str(path))
    assert str(caught.value).startswith(f"{path}: qemu-img amend: ")
    assert "json:" not in str(caught.value)
    assert path.read_bytes() == b"no image at all"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("exit 7", "7", id="fails-without-a-word"),
        pytest.param("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1", "x", id="floods"),
        pytest.param("exit 0", "did not change the image", id="does-nothing"),
    ],
)
def test_an_amend_that_did_not_help_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    path = _old(tmp_path / "disk.qcow2")
    guest = _guest(tmp_path, [path], running=False)
    _tool(tmp_path, monkeypatch, script)
    with pytest.raises(ChangeFailed, match=words) as caught:
        amend(guest, str(path))
    assert len(str(caught.value)) < 500 + len(str(path))
    assert _version(path) == 2


# The change for a disk ------------------------------------------------------------------------


def test_a_guest_that_is_off_needs_no_power_cycle(tmp_path: Path) -> None:
    path = _old(tmp_path / "disk.qcow2")
    guest = _guest(tmp_path, [path], running=False)
    assert amendment(Disk(guest, "vda")) == ImageAmend("one", str(path))


@pytest.mark.slow
def test_a_running_guest_is_cycled_once_for_all_of_its_old_images(tmp_path: Path) -> None:
    images = [_old(tmp_path / "a.qcow2"), _made(tmp_path / "good.qcow2"), _old(tmp_path / "third.qcow2")]
    guest = _guest(tmp_path, images)
    change = amendment(Disk(guest, "vdc"))
    assert isinstance(change, AmendCycle)
    assert change.paths == [str(images[2]), str(images[0])]
    assert change.defined == guest.persistent.xml
    for path in change.paths:
        assert path in change.why
        assert path in change.diff
    assert str(images[1]) not in change.why


@pytest.mark.parametrize(
    "problem", [AgentAbsent("one: no agent"), ProbeError("one: late"), NotLinux("one", "FreeBSD 14 answers")]
)
def test_a_guest_that_cannot_be_seen_to_come_back_is_left_to_a_person(tmp_path: Path, problem: ProbeError) -> None:
    path = _old(tmp_path / "disk.qcow2")
    guest = _guest(tmp_path, [path], inside=Inside(problem=problem))
    with pytest.raises(Withheld) as caught:
        amendment(Disk(guest, "vda"))
    assert str(path) in str(caught.value)
    assert ("FreeBSD" in str(caught.value)) is isinstance(problem, NotLinux)


# The power cycle ------------------------------------------------------------------------------


def _cycle(guest: InhabitedGuest, *paths: Path | str) -> AmendCycle:
    change = amendment(Disk(guest, "vda"))
    assert isinstance(change, AmendCycle)
    xml = guest.persistent.xml
    return AmendCycle("one", change.booted, change.before, "why", xml, list(map(str, paths)))


@pytest.mark.slow
def test_the_images_are_amended_while_it_is_off_and_it_is_back(tmp_path: Path) -> None:
    images = [_old(tmp_path / "a.qcow2"), _old(tmp_path / "second.qcow2")]
    guest = _guest(tmp_path, images)
    said: list[str] = []
    guest.hypervisor.progress = said.append
    outcome = _cycle(guest, *images).apply(guest)
    assert [_version(path) for path in images] == [3, 3]
    assert guest.domain.isActive()
    assert outcome["note"]
    assert [line for line in said if "amending" in line] == ["one: amending its images"]


def test_an_image_of_somebody_else_is_left_and_the_guest_is_back(tmp_path: Path) -> None:
    """A journal may name any file of the host."""
    path, other = _old(tmp_path / "a.qcow2"), _old(tmp_path / "others.qcow2")
    guest = _guest(tmp_path, [path])
    with pytest.raises(ChangeFailed) as caught:
        _cycle(guest, other, path).apply(guest)
    assert str(caught.value).startswith(f"{other} ")
    assert [_version(path), _version(other)] == [2, 2], "what is wrong in one place ends it"
    assert guest.domain.isActive()


def test_where_an_image_cannot_be_amended_the_guest_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _old(tmp_path / "a.qcow2")
    guest = _guest(tmp_path, [path])
    cycle = _cycle(guest, path)
    _tool(tmp_path, monkeypatch, "echo broken >&2; exit 1")
    with pytest.raises(ChangeFailed, match="broken"):
        cycle.apply(guest)
    assert _version(path) == 2
    assert guest.domain.isActive()


@pytest.mark.slow
def test_a_disk_without_an_image_is_passed_over(tmp_path: Path) -> None:
    path = _old(tmp_path / "a.qcow2")
    network = (
        "<disk type='network' device='disk'><source protocol='rbd' name='p/i'><host name='x'/></source>"
        "<target dev='vdz' bus='virtio'/></disk>"
    )
    guest = inhabited(tmp_path, Inside(), network, disk_xml(source=str(path)))
    guest.answers = {"guest-ping": dict, "guest-shutdown": guest.domain.destroy}
    change = amendment(Disk(guest, "vda"))
    assert isinstance(change, AmendCycle)
    assert change.paths == [str(path)]
    change.apply(guest)
    assert _version(path) == 3


def test_a_guest_that_runs_again_already_is_not_amended_under_its_qemu(tmp_path: Path) -> None:
    """As one that a died run left in its power cycle, and that somebody has started since."""
    path = _old(tmp_path / "a.qcow2")
    guest = _guest(tmp_path, [path])
    _cycle(guest, path).resume(guest)
    assert _version(path) == 2
