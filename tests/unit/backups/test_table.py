"""The table in docs/backups.md: what rsync's options cost on btrfs with snapshots, before and after a trim."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bench import backups
from tests.filesystems import MIB, require
from tests.support import ROOT

SIZE = 128 * MIB


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, backups.Row]:
    """Five cycles of four calls, small."""
    require("btrfs")
    folder = tmp_path_factory.mktemp("cycles")
    image = backups.sparse_file(folder / "guest.img", SIZE)
    days = []
    for cycle in range(1, backups.CYCLES + 1):
        backups.live(image, folder / "guest", cycle, SIZE)
        days.append(folder / f"day-{cycle}.img")
        backups.run("cp", "--sparse=always", str(image), str(days[-1]))
        os.utime(days[-1], (cycle * 86_400, cycle * 86_400))
    names = {
        "plain": backups.CALLS[0],
        "sparse": backups.CALLS[1],
        "dense": backups.CALLS[-2],
        "ours": backups.CALLS[-1],
    }
    measured = {name: backups.measure(call, days, folder, SIZE) for name, call in names.items()}
    shutil.rmtree(folder)  # pytest keeps half a gigabyte if any test of the session fails
    return measured


@pytest.mark.slow
def test_without_sparse_every_copy_is_as_large_as_the_disk(rows: dict[str, backups.Row]) -> None:
    assert rows["plain"].copy >= SIZE
    assert rows["plain"].held >= backups.CYCLES * SIZE * 0.99


@pytest.mark.slow
def test_sparse_copies_shrink_after_the_trim_and_snapshots_share_nothing(rows: dict[str, backups.Row]) -> None:
    assert rows["sparse"].copy < rows["sparse"].before_trim < SIZE
    assert rows["sparse"].exclusive > 3 * rows["sparse"].copy


@pytest.mark.slow
def test_ours_is_as_sparse_and_shares(rows: dict[str, backups.Row]) -> None:
    assert rows["ours"].copy <= rows["sparse"].copy + MIB
    assert rows["ours"].exclusive < rows["sparse"].exclusive / 3
    assert rows["ours"].held < rows["sparse"].held * 0.6


@pytest.mark.slow
def test_without_sparse_snapshots_share_more_and_the_copy_is_as_large_as_the_disk(
    rows: dict[str, backups.Row],
) -> None:
    assert rows["dense"].copy >= SIZE
    assert rows["dense"].exclusive < rows["ours"].exclusive


@pytest.mark.slow
def test_no_copy_has_another_content(rows: dict[str, backups.Row]) -> None:
    wrong = {name: row.wrong for name, row in rows.items() if not (name == "ours" and _can_go_wrong(row.rsync))}
    assert not any(wrong.values())


def _can_go_wrong(version: str) -> bool:
    """Does this rsync leave other data in a copy with --sparse and --inplace? The fixer never adds both for it."""
    return tuple(map(int, version.split(".")[:2])) < (3, 3)


def test_the_documentation_has_the_table_of_every_call() -> None:
    text = (ROOT / "docs/backups.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| `rsync --archive")]
    found = list(dict.fromkeys(line.split("`")[1] for line in table))
    assert found == [" ".join(("rsync", *call)) for call in backups.CALLS]
    assert "Measured by `python -m bench.backups`" in text


def test_the_table_is_put_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "backups.md"
    document.write_text("before\n<!-- table: bench/backups.py -->\nold\n<!-- end of table -->\nafter\n")
    backups.put(document, "| new |")
    assert document.read_text() == (
        "before\n<!-- table: bench/backups.py -->\n\n| new |\n\n<!-- end of table -->\nafter\n"
    )
