"""How long one more run takes in an archive that has many.

    python -m bench.archive [--runs 5000] [--guests 20] [--rounds 3]

The archive is made in a temporary folder, several hypervisors, every run with its results.json; the index is built once
and then brought up to date for one new run a round, in a process of its own as `python -m reclaim index`. Ends with 1
where the median is above the target.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from tests import records

ROOT = Path(__file__).resolve().parent.parent
TARGET = 2.0
_HYPERVISORS = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m bench.archive", description="One more run in a large archive."
    )
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--guests", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        reports = Path(name)
        for number in range(options.runs):
            _archive(reports, number, options.guests)
        first = _index(reports)
        rounds = []
        for number in range(options.runs, options.runs + options.rounds):
            _archive(reports, number, options.guests)
            rounds.append(_index(reports))
        size = (reports / "index.html").stat().st_size
    median = statistics.median(rounds)
    lines = (
        f"{options.runs} archived runs of {options.guests} guests on {_HYPERVISORS} hypervisors:",
        f"  the index from nothing    {first:6.2f} s",
        f"  one more run              {median:6.2f} s  ({', '.join(f'{one:.2f}' for one in rounds)})",
        f"  index.html                {size / 1e6:6.2f} MB",
        f"  target: one more run in at most {TARGET:.1f} s",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if median <= TARGET else 1


def _archive(reports: Path, number: int, guests: int) -> None:
    rows, disks = [], []
    for guest in range(guests):
        rows += records.whole(
            f"guest-{guest:02}", broken=(number + guest) % 7 == 0, number=number
        )
        held = (5 + (number + guest) % 4) * records.GIB
        disks.append(
            records.storage(
                f"guest-{guest:02}", allocated_before=held, allocated_after=held
            )
        )
    when = records.EPOCH + timedelta(hours=number)
    records.archive(
        reports,
        records.document(
            rows, disks, hypervisor=f"kvm{number % _HYPERVISORS}", started=when
        ),
    )


def _index(reports: Path) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "reclaim", "index", reports],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
