"""What is asked of the hypervisor's shell, whatever its locale and the names of files."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from reclaim.storage import btrfs
from tests.support import domain_xml, opened

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
    stat.write_text(f'#!/bin/sh\n[ "$LC_ALL" = C ] && exec {real} "$@"\n{real} "$@" | sed "{words}"\n')
    stat.chmod(0o755)
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
    # as on another machine, where nothing but its shell can be asked
    monkeypatch.setattr(hypervisor.shell.backend, "get_connection_type", lambda: "ssh")
    hypervisor.is_test_driver = False
    assert hypervisor.is_fully_allocated(str(image)) is (allocated >= 8192)


@pytest.mark.usefixtures("german")
def test_the_top_of_a_subvolume_is_found_in_every_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btrfs, "_TOP", str(tmp_path.stat().st_ino))
    assert btrfs.subvolume(opened(tmp_path, domain_xml()).shell, str(tmp_path / "below")) == str(tmp_path)
