"""The words for the bytes that a copy takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.backups.backup import Backup
from reclaim.backups.evidence import in_words
from reclaim.files.holes import Identity, Scan
from tests.copies import write
from tests.filesystems import MIB
from tests.unit.requirements.test_sparse_backup import hypervisor

#: a copy that takes 100 MiB and needs 40
NEEDED = 40 * MIB
TAKEN = 100 * MIB


def scan(path: Path, **counts: int) -> Scan:
    """The counts of a copy; those that are not given are 0."""
    status = path.stat()
    identity = Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return Scan(identity, **{"allocated": TAKEN, "needed": NEEDED, "zeros": 0, "unwritten": 0, "pinned": 0, **counts})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return write(tmp_path / "web.img", (0, b"x" * 4096), size=MIB)


def words_of(tmp_path: Path, path: Path, left: tuple[str, ...] = (), **counts: int) -> str:
    backup = Backup(hypervisor(tmp_path), str(path), left=left)
    return in_words(backup, scan(path, **counts)).removeprefix(f"{path}: ")


def test_a_copy_that_takes_little_more_than_it_needs_has_no_causes(tmp_path: Path, copy: Path) -> None:
    words = words_of(tmp_path, copy, allocated=NEEDED + 3 * MIB, zeros=3 * MIB)
    assert words == "takes 43.0 MiB, needs 40.0 MiB"


def test_each_cause_has_its_bytes(tmp_path: Path, copy: Path) -> None:
    words = words_of(tmp_path, copy, zeros=50 * MIB, unwritten=10 * MIB)
    assert words == (
        "takes 100.0 MiB, needs 40.0 MiB: 60.0 MiB can come back: "
        "50.0 MiB are zeros that were written, 10.0 MiB are extents never written"
    )


def test_a_cause_without_bytes_is_left_out(tmp_path: Path, copy: Path) -> None:
    assert "never written" not in words_of(tmp_path, copy, zeros=60 * MIB)
    assert "zeros" not in words_of(tmp_path, copy, unwritten=60 * MIB)


def test_pinned_zeros_do_not_come_back(tmp_path: Path, copy: Path) -> None:
    words = words_of(tmp_path, copy, zeros=60 * MIB, pinned=20 * MIB)
    assert "40.0 MiB can come back" in words
    assert "20.0 MiB of that are pinned by" in words


def test_compressed_zeros_are_no_cause(tmp_path: Path, copy: Path) -> None:
    words = words_of(tmp_path, copy, zeros=60 * MIB, packed=60 * MIB)
    assert words == "takes 100.0 MiB, needs 40.0 MiB (60.0 MiB are zeros that the filesystem has compressed)"


def test_the_files_of_a_rewrite_that_died_are_named(tmp_path: Path, copy: Path) -> None:
    words = words_of(tmp_path, copy, ("/b/one", "/b/two"), allocated=NEEDED)
    assert words.endswith("; a rewrite that died left /b/one, /b/two: undo of that run removes it")
