"""bench/topics/zeros.py: its image, and bytes that are counted as freed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.rounds import Failed, ran
from bench.topics import zeros
from reclaim.files import holes
from tests.filesystems import MIB, mounted, require


@pytest.fixture
def master(tmp_path: Path) -> Path:
    path = tmp_path / "mixed"
    zeros.mix(path, 16)
    return path


def parts(path: Path) -> tuple[int, int]:
    """Return the bytes of data, zeros included, and of zeros within them."""
    with path.open("rb") as stream:
        descriptor, size = stream.fileno(), path.stat().st_size
        data = sum(end - start for start, end in holes.data_spans(descriptor, size))
        return data, sum(end - start for start, end in holes.zero_spans(descriptor, size))


def test_the_image_has_data_zeros_and_holes_and_a_fresh_one_has_the_same(master: Path, tmp_path: Path) -> None:
    data, empty = parts(master)
    assert master.stat().st_size == 16 * MIB
    assert 0 < empty < data < 16 * MIB
    zeros.lay(master, tmp_path / "fresh")
    assert parts(tmp_path / "fresh") == (data, empty)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.slow
def test_what_is_freed_in_place_and_by_a_copy_is_counted_alike(kind: str, master: Path, tmp_path: Path) -> None:
    require(kind)
    _, empty = parts(master)
    with mounted(kind, tmp_path) as folder:
        place = zeros.Place(kind, folder, master, cold=True)
        for result, command in (
            (place.image, ("fallocate", "--dig-holes", str(place.image))),
            (place.copy, ("cp", "--sparse=always", "--reflink=never", str(place.image), str(place.copy))),
        ):
            place.fresh()
            freed = zeros._counted(place, lambda command=command: ran(*command), result).figures["freed MiB"]  # type: ignore[misc]
            assert abs(freed * MIB - empty) < MIB


@pytest.mark.slow
def test_another_content_is_a_failure(master: Path, tmp_path: Path) -> None:
    place = zeros.Place("any", tmp_path, master, cold=False)
    place.fresh(older_copy=True)
    with pytest.raises(Failed, match="the content is another one"):
        zeros._counted(
            place, lambda: ran("dd", "if=/dev/urandom", f"of={place.copy}", "count=1", "conv=notrunc"), place.copy
        )
