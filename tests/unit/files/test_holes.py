"""The blocks of files: data, holes, zeros, extents, and giving them back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.files import holes
from reclaim.files.holes import Identity
from tests.filesystems import MAKE, MIB, mounted, require
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = 8
SIZE = 64


@pytest.fixture(params=MAKE)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a filesystem of its own, one of each kind."""
    require(request.param)
    with mounted(request.param, tmp_path) as folder:
        yield folder


def write(path: Path, *parts: tuple[int, bytes], size: int = SIZE * MIB) -> Path:
    """A sparse file of *size* bytes with *parts* (offset, content) in it."""
    with path.open("wb") as stream:
        stream.truncate(size)
        for offset, content in parts:
            stream.seek(offset)
            stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return path


def dense(path: Path) -> Path:
    """As rsync without --sparse writes it: data, and zeros for what the guest has freed."""
    return write(path, (0, os.urandom(DATA * MIB)), (DATA * MIB, bytes((SIZE - DATA) * MIB)))


@pytest.mark.slow
def test_no_permission(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    path = dense(tmp_path / "web.img")
    path.chmod(0)
    script = f"""
import os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from reclaim.files import holes
from reclaim.base.errors import ProbeError
try:
    holes.scan({str(path)!r})
except ProbeError as exc:
    sys.exit(str(exc))
"""
    for one in (tmp_path, *tmp_path.parents[:2]):
        one.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == f"{path}: Permission denied"


def test_a_file_that_is_truncated_while_it_is_read(tmp_path: Path) -> None:
    path = dense(tmp_path / "web.img")
    with holes.opened(str(path)) as descriptor:
        spans = holes.zero_spans(descriptor, SIZE * MIB, lambda _count: os.truncate(path, 2 * MIB))
        with pytest.raises(ProbeError, match="truncated while it was read"):
            list(spans)


@pytest.mark.slow
def test_long_reads_tell_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "_PROGRESS_SECONDS", 0)
    said: list[str] = []
    path = write(tmp_path / "web.img", (0, os.urandom(MIB) * 200), size=200 * MIB)
    holes.scan(str(path), said.append)
    assert said == [f"{path}: read {done}.0 MiB of at most 200.0 MiB" for done in (64, 128, 192)]


def test_whether_holes_can_be_punched_is_asked_without_a_trace(place: Path) -> None:
    path = write(place / "web.img", (0, os.urandom(4096)))
    before = path.stat(), place.stat()
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    assert holes.can_punch(folder)
    os.close(folder)
    assert (path.stat(), place.stat()) == before


def test_identity_is_what_stat_says(tmp_path: Path) -> None:
    path = write(tmp_path / "file", size=5)
    status = path.stat()
    assert Identity.of(status) == Identity(status.st_dev, status.st_ino, 5, status.st_mtime_ns)
    with pytest.raises(NotAssessable):
        holes.scan(str(tmp_path))
