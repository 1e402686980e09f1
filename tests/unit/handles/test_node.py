"""What is asked of the hypervisor's shell, whatever its locale and the names of files."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from testinfra.backend.base import CommandResult

from reclaim.base.errors import ProbeError, TimedOut
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inside import facts
from reclaim.inventory import Inventory, Policy
from reclaim.storage import btrfs
from tests.support import Inside, domain_xml, executable, inhabited, opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def german(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stat(1) that speaks as in de_DE.UTF-8, which not every machine has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    stat = folder / "stat"
    words = "s/regular file/reguläre Datei/; s/regular empty file/reguläre leere Datei/; s/directory/Verzeichnis/"
    real = shutil.which("stat")
    executable(stat, f'#!/bin/sh\n[ "$LC_ALL" = C ] && exec {real} "$@"\n{real} "$@" | sed "{words}"\n')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize("name", ["vda.qcow2", "a\nb", "a\tb", "ünï", "-n"])
def test_blocks_are_counted_in_every_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    image = tmp_path / name
    image.write_bytes(b"x" * 8192)
    os.sync()
    hypervisor = opened(tmp_path, domain_xml())
    allocated = image.stat().st_blocks * 512
    assert hypervisor.allocated(str(image)) == allocated
    assert hypervisor.allocated_each([str(image), str(tmp_path), "/no/such\nimage"]) == {str(image): allocated}
    with pytest.raises(ProbeError, match="a directory, not a file"):
        hypervisor.allocated(str(tmp_path))
    # as on another machine, where nothing but its shell can be asked
    monkeypatch.setattr(hypervisor.shell.backend, "get_connection_type", lambda: "ssh")
    hypervisor.is_test_driver = False
    assert hypervisor.is_fully_allocated(str(image)) is (allocated >= 8192)
    assert not hypervisor.is_fully_allocated(str(tmp_path))


@pytest.mark.usefixtures("german")
def test_the_top_of_a_subvolume_is_found_in_every_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btrfs, "_TOP", str(tmp_path.stat().st_ino))
    assert btrfs.subvolume(opened(tmp_path, domain_xml()).shell, str(tmp_path / "below")) == str(tmp_path)


@pytest.mark.parametrize(
    ("load", "processors", "strain"),
    [
        ("0.10 0.20 0.30 1/200 4711", "4", 1),
        ("6.00 0.20 0.30 9/200 4711", "4", 1.5),
        ("99.0 90.0 80.0 9/200 4711", "2", 4),
        ("", "2", 1),
        ("1.0 1.0 1.0 1/2 3", "0", 1),
        ("nan 1.0 1.0 1/2 3", "2", 1),
        ("1.0 1.0 1.0 1/2 3", "many", 1),
    ],
)
def test_the_strain_is_the_load_of_a_processor_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: str, processors: str, strain: float
) -> None:
    """As another machine's shell prints it."""
    hypervisor = opened(tmp_path, domain_xml())
    assert hypervisor.strain() == 1, "samples are not slower on a busy machine"
    hypervisor.is_test_driver = False
    answer = CommandResult(hypervisor.shell.backend, 0, "", f"{load}\n{processors}\n".encode(), b"")
    monkeypatch.setattr(hypervisor.shell.backend, "run", lambda *_words, **_more: answer)
    assert hypervisor.strain() == strain


def test_the_load_is_read_once_for_many_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hypervisor = opened(tmp_path, domain_xml())
    hypervisor.is_test_driver = False
    asked: list[str] = []

    def run(command: str, *_words: str, **_more: object) -> CommandResult:
        asked.append(command)
        return CommandResult(hypervisor.shell.backend, 0, "", b"6.0 6.0 6.0 1/2 3\n2\n", b"")

    monkeypatch.setattr(hypervisor.shell.backend, "run", run)
    assert [hypervisor.strain() for _ in range(200)] == [3.0] * 200
    assert len(asked) == 1
    hypervisor._strain_until = 0
    hypervisor.strain()
    assert len(asked) == 2


def test_the_strain_of_this_machine_can_be_read(tmp_path: Path) -> None:
    hypervisor = opened(tmp_path, domain_xml())
    hypervisor.is_test_driver = False
    assert 1 <= hypervisor.strain() <= 4
    assert hypervisor.shell.run("cat /proc/loadavg && nproc").rc == 0


def test_a_look_inside_has_more_time_on_a_busy_hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = inhabited(tmp_path, Inside(), inventory=Inventory(policy=Policy(look_seconds=100)))
    given: list[int] = []

    def gathered(_shell: object, name: str, _earlier: object, *, seconds: int) -> None:
        given.append(seconds)
        raise TimedOut(f"{name}: too slow")

    monkeypatch.setattr(facts, "gather", gathered)
    monkeypatch.setattr(Hypervisor, "strain", lambda _self: 2.5)
    guest._gathered_by_agent()
    assert given == [250]
