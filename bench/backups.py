"""What btrfs snapshots of a backup cost: five cycles of rsync, in the calls that people use and in ours.

    python -m bench.backups [--write docs/backups.md] [--size 512] [--rsync PROGRAM … | --suites]

Needs root, loop devices, mkfs.btrfs and rsync. A disk image with an ext4 full of this machine's files is written to,
trimmed and copied five times onto a btrfs of its own for each call; after each copy the target is snapshotted
read-only. The image is unused meanwhile. Counted: bytes that the copy and its snapshots take, by
`btrfs filesystem du`, and what the btrfs holds for data, by `btrfs filesystem usage`.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import rsyncs

MIB = 1024 * 1024
#: of the ext4 in the image, bytes
BLOCK = 4096
CYCLES = 5
#: the cycle before which the guest trims what it deleted two cycles before
TRIM = 4
CALLS = (
    ("--archive",),
    ("--archive", "--sparse"),
    ("--archive", "--inplace"),
    ("--archive", "--sparse", "--inplace"),
    ("--archive", "--inplace", "--no-whole-file"),
    ("--archive", "--sparse", "--inplace", "--no-whole-file"),
)
#: versions that changed --sparse with --inplace (rsync's NEWS), and those that Debian 12 and 13 were released with
CHANGED = ("3.1.3", "3.2.4", "3.2.7", "3.3.0", "3.4.1", "3.5.0")
#: folders of many small files, of which most machines have one: the last block of such a file ends in zeros
TREES = ("/usr/share/doc", "/usr/include", "/usr/lib/python3", "/usr/lib", "/usr/share")
#: each so many-th file that the guest keeps is written to on each day
_EDITED = 32
_BEGIN, _END = "<!-- table: bench/backups.py -->", "<!-- end of table -->"


@dataclass(frozen=True)
class Row:
    """What one call of one rsync led to. Bytes, but for the seconds that the five copies took."""

    rsync: str
    call: str
    before_trim: int
    copy: int
    exclusive: int
    shared: int
    held: int
    #: of the copies, how many did not have the content of the image
    wrong: int
    seconds: float


def run(*command: str) -> str:
    """Run *command*; its output. Raises CalledProcessError."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def mounted(image: Path, folder: Path, *options: str) -> Iterator[Path]:
    """The filesystem in *image*, mounted through a loop device."""
    folder.mkdir(exist_ok=True)
    run("mount", "-o", ",".join(("loop", *options)), str(image), str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


def sparse_file(path: Path, size: int) -> Path:
    """A file of *size* bytes that is one hole."""
    with path.open("wb") as stream:
        stream.truncate(size)
    return path


def files_of_this_machine() -> Iterator[Path]:
    """Regular files of this machine that are not large, the same each time."""
    for tree in TREES:
        for folder, below, names in os.walk(tree):
            below.sort()
            for path in (Path(folder, name) for name in sorted(names)):
                if (
                    not path.is_symlink()
                    and path.is_file()
                    and 0 < path.stat().st_size < MIB
                ):
                    yield path


def fill(folder: Path, size: int, files: Iterable[Path]) -> None:
    """Write copies of *files* into the new *folder*, until their blocks are *size* bytes."""
    folder.mkdir()
    free = size
    for number, path in enumerate(files):
        if free <= 0:
            return
        content = path.read_bytes()
        (folder / str(number)).write_bytes(content)
        free -= -(-len(content) // BLOCK) * BLOCK
    raise SystemExit(
        f"bench.backups: this machine has too few files below {', '.join(TREES)}: choose a smaller --size"
    )


def live(image: Path, folder: Path, cycle: int, size: int) -> None:
    """One day in the life of the guest: it writes, in the third cycle deletes, later trims."""
    if cycle == 1:
        options = (
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
            "-b",
            str(BLOCK),
            "-i",
            str(BLOCK),
        )
        run("mkfs.ext4", "-q", "-F", *options, str(image))
    with mounted(image, folder) as inside:
        files, chance = files_of_this_machine(), random.Random(cycle)  # noqa: S311 (the same each time)
        if cycle == 1:
            fill(inside / "kept", size // 4, files)
            fill(inside / "log", size // 4, files)
        fill(inside / f"day-{cycle}", size // 32, files)
        for number in range(cycle, len(list((inside / "kept").iterdir())), _EDITED):
            path = inside / "kept" / str(number)
            with path.open("r+b") as stream:
                stream.write(chance.randbytes(path.stat().st_size))
        if cycle == TRIM - 1:
            shutil.rmtree(inside / "log")
        if cycle == TRIM:
            run("fstrim", str(inside))


def same(one: Path, other: Path) -> bool:
    """Have both files the same content?"""
    return (
        subprocess.run(
            ["cmp", "--silent", str(one), str(other)], check=False
        ).returncode
        == 0
    )


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def version_of(rsync: str) -> str:
    return run(rsync, "--version").split()[2]


def of_suites(folder: Path) -> tuple[list[str], list[str]]:
    """Fetch the rsync of each of Debian's suites, one of each version. Return them, and lines about absent ones."""
    versions: dict[str, str] = {}
    absent = []
    for suite in rsyncs.SUITES:
        try:
            program = str(rsyncs.fetch(suite, folder / f"rsync-{suite}"))
        except rsyncs.NotHere as reason:
            absent.append(f"Not measured: the rsync of {suite}: {reason}.")
            continue
        versions.setdefault(version_of(program), program)
    if others := [version for version in CHANGED if version not in versions]:
        absent.append(
            f"Not measured: rsync {', '.join(others)}, which no suite of Debian has here."
        )
    return [versions[version] for version in sorted(versions)], absent


def measure(
    arguments: tuple[str, ...],
    days: list[Path],
    folder: Path,
    size: int,
    rsync: str = "rsync",
) -> Row:
    """Copy the image as it was on each of *days* onto a btrfs of its own, snapshot each copy, count."""
    disk = sparse_file(folder / "btrfs.img", (CYCLES + 2) * size + 1024 * MIB)
    run("mkfs.btrfs", "--quiet", str(disk))
    source = folder / "vm.img"
    seconds, before_trim, wrong = 0.0, 0, 0
    with mounted(disk, folder / "backup", "discard=async") as top:
        current = top / "current"
        run("btrfs", "subvolume", "create", str(current))
        for cycle, day in enumerate(days, start=1):
            run("cp", "--sparse=always", "--preserve=timestamps", str(day), str(source))
            started = time.monotonic()
            run(rsync, *arguments, str(source), f"{current}/")
            run("btrfs", "filesystem", "sync", str(top))
            seconds += time.monotonic() - started
            run(
                "btrfs",
                "subvolume",
                "snapshot",
                "-r",
                str(current),
                str(top / f"cycle-{cycle}"),
            )
            wrong += not same(source, current / source.name)
            if cycle == TRIM - 1:
                before_trim = allocated(current / source.name)
        run("btrfs", "filesystem", "sync", str(top))
        copies = [current, *(top / f"cycle-{cycle}" for cycle in range(1, CYCLES + 1))]
        listing = run(
            "btrfs", "filesystem", "du", "--summarize", "--raw", *map(str, copies)
        ).splitlines()[1:]
        usage = run("btrfs", "filesystem", "usage", "--raw", str(top))
        copy = allocated(current / source.name)
    disk.unlink()
    exclusive = sum(int(line.split()[1]) for line in listing)
    shared = max(int(line.split()[2]) for line in listing)
    found = re.search(r"^Data,.*Used:(\d+)", usage, re.MULTILINE)
    assert found is not None
    call = " ".join(("rsync", *arguments))
    return Row(
        version_of(rsync),
        call,
        before_trim,
        copy,
        exclusive,
        shared,
        int(found[1]),
        wrong,
        seconds,
    )


def table(rows: list[Row], days: list[Path], size: int) -> str:
    """The table and the conditions it was made under, in Markdown."""
    made = (
        f"Measured by `python -m bench.backups`: {run('btrfs', '--version').strip()}, "
        f"Linux {platform.release().partition('-')[0]}; an image of {size // MIB} MiB, full of small files, that "
        f"takes {allocated(days[TRIM - 2]) // MIB} MiB before the trim and {allocated(days[-1]) // MIB} MiB at the "
        f"end; {CYCLES} cycles, the trim before the {TRIM}th; MiB."
    )
    titles: tuple[str, ...] = (
        "call",
        "rsync",
        "copy before the trim",
        "copy at the end",
        "exclusive, all snapshots",
        "shared set",
    )
    titles += ("held by the btrfs", "wrong copies", "seconds")
    lines = [
        made,
        "",
        f"| {' | '.join(titles)} |",
        "|---" * 2 + "|---:" * (len(titles) - 2) + "|",
    ]
    for row in rows:
        counts = (row.before_trim, row.copy, row.exclusive, row.shared, row.held)
        wrong = f"**{row.wrong}**" if row.wrong else "0"
        cells = (
            f"`{row.call}`",
            row.rsync,
            *(str(count // MIB) for count in counts),
            wrong,
            f"{row.seconds:.1f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def put(path: Path, text: str) -> None:
    """Put *text* between the marks in the file at *path*."""
    head, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    path.write_text(f"{head}{_BEGIN}\n\n{text}\n\n{_END}{tail}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.backups", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="put the table between its marks in FILE",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=512,
        metavar="MIB",
        help="size of the disk image (default: 512)",
    )
    parser.add_argument(
        "--rsync",
        action="append",
        metavar="PROGRAM",
        help="the rsync to measure, may be repeated (default: rsync)",
    )
    parser.add_argument(
        "--suites",
        action="store_true",
        help="measure the rsync of each of Debian's suites that apt reaches",
    )
    arguments = parser.parse_args()
    size = arguments.size * MIB
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        folder = Path(name)
        image = sparse_file(folder / "guest.img", size)
        days = []
        for cycle in range(1, CYCLES + 1):
            live(image, folder / "guest", cycle, size)
            days.append(folder / f"day-{cycle}.img")
            run("cp", "--sparse=always", str(image), str(days[-1]))
            # rsync passes over a file of the same size and time: days are a day apart
            os.utime(days[-1], (cycle * 86_400, cycle * 86_400))
        programs = arguments.rsync or ["rsync"]
        absent: list[str] = []
        if arguments.suites:
            programs, absent = of_suites(folder)
        rows = [
            measure(call, days, folder, size, rsync)
            for call in CALLS
            for rsync in programs
        ]
        text = "\n\n".join([table(rows, days, size), *absent])
    sys.stdout.write(text + "\n")
    if arguments.write:
        put(arguments.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
