"""Where the host holds bytes for a disk: real images on real filesystems."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from reclaim.storage import allocation_map, host_image, local_image
from reclaim.storage.allocation_map import HostMap, host_map
from tests import filesystems
from tests.support import domain_xml, executable, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024**2
#: looks until a filesystem has to have let go of a file that was removed
_LOOKS = 200
pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img (Debian and Ubuntu: qemu-utils)")


def _map(folder: Path, image: Path, kind: str) -> HostMap | None:
    hypervisor = opened(folder, domain_xml())
    looked = host_image.look(hypervisor, str(image))
    head = host_image.header(hypervisor, looked) if kind == "qcow2" else None
    return host_map(hypervisor, looked, kind, head)


def _written(image: Path, kind: str, *spans: tuple[int, int], options: tuple[str, ...] = ()) -> Path:
    """An image of 256 MiB in which *spans* (MiB) are written, and synced."""
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(image), "256M"], check=True)
    for start, end in spans:
        command = ["qemu-io", "-f", kind, "-c", f"write -P 5 {start}M {end - start}M", str(image)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    filesystems.allocated(image)
    return image


@pytest.fixture(params=["ext4", "xfs", "btrfs", "tmpfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    filesystems.require(request.param)
    with filesystems.mounted(request.param, tmp_path) as folder:
        yield request.param, folder


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_every_filesystem_tells_what_was_written(tmp_path: Path, place: tuple[str, Path], kind: str) -> None:
    found = _map(tmp_path, _written(place[1] / f"disk.{kind}", kind, (16, 32), (100, 101)), kind)
    assert found is not None
    # of a raw image qemu-img create writes the first block, on XFS with extents of a MiB
    first = {0} if kind == "raw" and place[0] == "xfs" else set()
    seen = {number for start, end in found.spans for number in range(start // MIB, end // MIB)}
    assert seen == {*first, *range(16, 32), 100}
    assert found.held <= (len(seen) + 1) * MIB
    assert found.shared == 0


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_what_a_reflink_shares_is_told(tmp_path: Path, place: tuple[str, Path], kind: str) -> None:
    name, folder = place
    if name not in ("xfs", "btrfs"):
        pytest.skip(f"{name} has no reflinks")
    image = _written(folder / f"disk.{kind}", kind, (16, 32))
    subprocess.run(["cp", "--reflink=always", str(image), str(folder / "kept")], check=True)
    found = _map(tmp_path, image, kind)
    assert found is not None
    assert found.shared >= 16 * MIB
    (folder / "kept").unlink()
    for _ in range(_LOOKS):
        # btrfs lets go of it with its next commit, XFS in the background
        subprocess.run(["sync", "--file-system", str(folder)], check=True)
        again = _map(tmp_path, image, kind)
        assert again is not None
        if again.shared == 0:
            return
    pytest.fail("what the removed file had is still told as shared")


@pytest.mark.slow
def test_a_backing_file_that_the_header_names_is_not_opened(tmp_path: Path) -> None:
    base = _written(tmp_path / "base.qcow2", "qcow2", (0, 64))
    over = ("-b", str(base), "-F", "qcow2")
    overlay = _written(tmp_path / "disk.qcow2", "qcow2", (16, 32), options=over)
    base.unlink()
    base.mkdir()
    found = _map(tmp_path, overlay, "qcow2")
    assert found is not None
    assert found.spans == ((16 * MIB, 32 * MIB),)


def test_what_was_discarded_is_held_no_more(tmp_path: Path) -> None:
    image = _written(tmp_path / "disk.qcow2", "qcow2", (16, 32))
    command = ["qemu-io", "-d", "unmap", "-f", "qcow2", "-c", "discard 16M 8M", str(image)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = _map(tmp_path, image, "qcow2")
    assert found is not None
    assert found.spans == ((24 * MIB, 32 * MIB),)


def test_an_image_in_use_is_read(tmp_path: Path) -> None:
    image = _written(tmp_path / "disk.qcow2", "qcow2", (16, 32))
    holder = subprocess.Popen(["qemu-io", "-f", "qcow2", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        found = _map(tmp_path, image, "qcow2")
    finally:
        holder.communicate(b"quit\n")
    assert found is not None
    assert found.held == 16 * MIB


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        pytest.param("ext4", 16 * MIB, id="ext4"),
        # it does not list its extents, and such blocks are no data: a map without them would be too small
        pytest.param("tmpfs", None, id="tmpfs"),
    ],
)
def test_fallocated_blocks_of_a_raw_image_are_held(tmp_path: Path, kind: str, held: int | None) -> None:
    filesystems.require(kind)
    with filesystems.mounted(kind, tmp_path) as folder:
        image = folder / "disk.img"
        with image.open("wb") as stream:
            stream.truncate(64 * MIB)
            os.posix_fallocate(stream.fileno(), 8 * MIB, 16 * MIB)
        found = _map(tmp_path, image, "raw")
        assert (None if found is None else found.held) == held


def test_written_blocks_on_tmpfs_are_held(tmp_path: Path) -> None:
    filesystems.require("tmpfs")
    with filesystems.mounted("tmpfs", tmp_path) as folder:
        image = folder / "disk.img"
        with image.open("wb") as stream:
            stream.truncate(64 * MIB)
            stream.seek(8 * MIB)
            stream.write(b"x" * (16 * MIB))
        found = _map(tmp_path, image, "raw")
        assert found is not None
        assert found.spans == ((8 * MIB, 24 * MIB),)


@pytest.mark.slow
@pytest.mark.parametrize("said", ["exit 1", "echo '[{'", "echo '{}'", "echo '[{\"start\": 0}]'", "sleep 20"])
def test_a_map_that_cannot_be_had_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    image = _written(tmp_path / "disk.qcow2", "qcow2", (16, 32))
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "qemu-img").write_text(f"#!/bin/sh\n{said}\n")
    (folder / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(allocation_map, "_SECONDS", 1)
    assert _map(tmp_path, image, "qcow2") is None


def _answers(folder: Path, monkeypatch: pytest.MonkeyPatch, piece: str) -> str:
    """An image; qemu-img answers with a map of this one piece."""
    program = folder / "qemu-img"
    executable(program, f"#!/bin/sh\necho '[{piece}]'\n")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    image = folder / "disk"
    image.write_bytes(bytes(4096))
    return str(image)


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param('{"start": 0, "length": true, "data": true, "zero": false, "offset": 0}', id="true-for-a-length"),
        pytest.param('{"start": 0, "length": "5", "data": true, "zero": false, "offset": 0}', id="text"),
        pytest.param('{"start": 0, "length": -5, "data": true, "zero": false, "offset": 0}', id="negative"),
        pytest.param('{"start": 0, "length": 5}', id="without-data"),
        pytest.param("5", id="no-object"),
    ],
)
def test_a_map_of_anything_but_numbers_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: str) -> None:
    image = _answers(tmp_path, monkeypatch, piece)
    assert allocation_map._mapped(opened(tmp_path, domain_xml()), image, "raw") is None
    with local_image.opened_image(image) as (descriptor, _):
        _, output, _ = local_image.qemu_img(["map"], (descriptor,), image)
    with pytest.raises((ValueError, KeyError)):
        local_image._placed_bytes(json.loads(output))


def test_a_map_does_not_begin_at_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = '{"start": true, "length": 5, "data": true, "zero": false, "offset": 0}'
    image = _answers(tmp_path, monkeypatch, piece)
    assert allocation_map._mapped(opened(tmp_path, domain_xml()), image, "raw") is None
