"""How fast zeros are found and punched, beside `fallocate --dig-holes`, on the same files, read from the disk.

    python -m bench.zeros [--size 1024] [--rounds 3] [--folder DIR]

Two files: one of data, in which zeros are only looked for, and one of which half is zeros, that are punched. Both are
dropped from the page cache before each run; the two programs take turns, the median of the rounds counts. Ends with 1
where the throughput is below 0.8 of fallocate's, or punching takes longer than there. The memory of a scan is told too.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from reclaim.files import holes

MIB = 1024 * 1024
LEAST = 0.8
#: what a clock and a busy machine may add to the punching of one round
MOST = 1.1


def data(path: Path, mib: int) -> None:
    """A file in which no block is zeros."""
    with path.open("wb") as stream:
        for _ in range(mib):
            stream.write(os.urandom(MIB))


def half_zeros(path: Path, mib: int) -> None:
    """64 KiB of data, 64 KiB of zeros, and so on."""
    with path.open("wb") as stream:
        for _ in range(mib * 8):
            stream.write(os.urandom(64 * 1024) + bytes(64 * 1024))


def cold(path: Path) -> None:
    """Leave nothing of *path* in the page cache."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def punch(path: Path) -> None:
    """As `HolePunch` does it."""
    with (
        holes.opened(str(path), os.O_RDWR) as descriptor,
        holes.alone_with(descriptor, str(path)) as still_ours,
    ):
        holes.punch_out(descriptor, still_ours, lambda _count: None)


def dig(path: Path) -> None:
    subprocess.run(["fallocate", "--dig-holes", str(path)], check=True)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())  # ours ends with it too


def compare(
    title: str, rounds: int, fresh: Callable[[], Path], ours: Callable[[Path], object]
) -> float:
    """Time *ours* and fallocate in turn; fallocate's time over ours."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for work, times in ((dig, theirs), (ours, mine)):
            path = fresh()
            cold(path)
            times.append(seconds(lambda work=work, path=path: work(path)))  # type: ignore[misc]
    mib = path.stat().st_size / MIB
    speed = f"{mib / statistics.median(mine):.0f} MiB/s, fallocate {mib / statistics.median(theirs):.0f} MiB/s"
    ratio = statistics.median(theirs) / statistics.median(mine)
    sys.stdout.write(f"{title}: {speed}, ratio {ratio:.2f}\n")
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.zeros", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--size",
        type=int,
        default=1024,
        metavar="MIB",
        help="size of each file (default: 1024)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the files go (default: the folder for temporary files)",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="reclaim-bench-", dir=arguments.folder
    ) as name:
        folder = Path(name)
        dense, mixed, copy = folder / "dense", folder / "mixed", folder / "copy"
        data(dense, arguments.size)
        half_zeros(mixed, arguments.size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def fresh() -> Path:
            shutil.copyfile(mixed, copy)
            return copy

        scanning = compare(
            "looking for zeros",
            arguments.rounds,
            lambda: dense,
            lambda path: holes.scan(str(path)),
        )
        punching = compare("looking and punching", arguments.rounds, fresh, punch)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    sys.stdout.write(
        f"memory: {grown / 1024:.1f} MiB more at the peak, for files of {arguments.size} MiB\n"
    )
    good = scanning >= LEAST and punching >= 1 / MOST
    sys.stdout.write(
        f"targets: at least {LEAST} and, within {MOST - 1:.0%}, 1.0: {'met' if good else 'MISSED'}\n"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
