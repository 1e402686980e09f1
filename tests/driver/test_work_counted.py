"""The work of a run is counted, in calls and not in seconds: a busy machine counts the same.

`python -m bench` measures seconds. Here are figures that a fault would multiply, with a wide margin.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.definitions import node
from reclaim.files import holes
from tests import records
from tests.command import ROOT, audit

FEW, MANY = 8, 80
MIB = 1024 * 1024


class Counts(NamedTuple):
    """The counts of one run, by the names of functions or by paths."""

    calls: Counter[str]
    opened: Counter[str]
    statted: Counter[str]
    started: Counter[str]


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Counts]:
    """An audit of the definitions of FEW guests, and one of MANY."""
    made = {}
    for guests in (FEW, MANY):
        folder = tmp_path_factory.mktemp(f"of-{guests}")
        fleet, counted = folder / "fleet.xml", folder / "counts.json"
        fleet.write_bytes(node(guests))
        words = ("--definitions-only", "-p", "tests.driver.counting")
        done = audit(folder / "reports", *words, uri=f"test://{fleet}", env={"RECLAIM_COUNTED": str(counted)})
        assert done.status == 1, done.said
        made[guests] = Counts(**{name: Counter(each) for name, each in json.loads(counted.read_text()).items()})
    return made


def more(counts: dict[int, Counts], name: str) -> float:
    """Return the count that each further guest adds."""
    few, many = (getattr(counts[guests], name).total() for guests in (FEW, MANY))
    return float(many - few) / (MANY - FEW)


def test_a_guest_costs_libvirt_three_calls(counts: dict[int, Counts]) -> None:
    """Its name, its UUID, its definition: twice as many would show that something is asked again."""
    assert counts[MANY].calls["virDomainGetXMLDesc"] >= MANY, "they are counted"
    assert 1 <= more(counts, "calls") <= 6


def test_a_guest_costs_no_open_file_and_no_program(counts: dict[int, Counts]) -> None:
    assert counts[MANY].opened.total() > 100, "they are counted"
    assert more(counts, "opened") < 0.5
    assert more(counts, "started") == 0


def test_a_guest_costs_the_stats_of_pytest_alone(counts: dict[int, Counts]) -> None:
    """pytest asks for the file of a check with each row; templates are not asked for again."""
    assert more(counts, "statted") < 20
    templates = sum(count for path, count in counts[MANY].statted.items() if path.endswith(".jinja"))
    assert templates < MANY


def bytes_read(work: str, path: Path) -> tuple[int, int]:
    """Run *work*, a call in Python on the file, in a process of its own: the bytes and the calls that it reads with."""
    script = (
        "import sys, json\nfrom pathlib import Path\nfrom reclaim.files import holes\n"
        "def now():\n    lines = Path('/proc/self/io').read_text().splitlines()\n"
        "    return [int(line.split()[1]) for line in lines[:3:2]]\n"
        f"before = now()\n{work}\nafter = now()\n"
        "print(json.dumps([late - early for early, late in zip(before, after)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    read, calls = json.loads(done.stdout)
    return read, calls


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this kernel counts no reads of a process")
def test_a_scan_reads_data_once_in_large_pieces_and_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with path.open("wb") as stream:
        for _ in range(16):
            stream.write(os.urandom(MIB))
        stream.truncate(64 * MIB)
    with path.open("rb") as stream:
        data = sum(end - start for start, end in holes.data_spans(stream.fileno(), 64 * MIB))
    read, calls = bytes_read("holes.scan(sys.argv[1])", path)
    assert data <= read < 1.1 * data, "the file's own figures in /proc are read too"
    # fallocate --dig-holes reads a block a call: 256 for each MiB
    assert calls < data / MIB * 25


def test_a_row_of_the_report_takes_the_same_bytes_however_many_there_are(tmp_path: Path) -> None:
    size = {}
    for rows in (200, 2000):
        run = records.archive(tmp_path / str(rows), records.fleet(rows))
        page = tmp_path / f"{rows}.html"
        command = [sys.executable, "-m", "reclaim", "report", str(run), "--output", str(page)]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        size[rows] = page.stat().st_size
    assert size[2000] < 1.2 * 10 * size[200]
