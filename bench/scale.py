"""A fleet's runs in one SQLite file: how long merging a round takes, and answers, after many rounds.

    python -m bench.scale [--hypervisors 1000] [--guests 50] [--weeks 52] [--churn 0.004] [--work DIR] [--write FILE]

Each round is written by this program in the form of a run's results.json, merged by `reclaim merge` in a process of its
own, and removed. `--churn` is the share of rows that are drawn anew each week; besides, the evidence of the backlogs
and the bytes of half of the disks change every week. Every week is really loaded. Ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from reclaim.database import questions
from reclaim.record.results import rfc3339, written
from tests.records import GIB

ROOT = Path(__file__).resolve().parent.parent
EPOCH = datetime(2025, 1, 6, 2, tzinfo=timezone.utc)
#: seconds, MiB and GB of the targets
MERGE, MEMORY, YEAR, ANSWER, BROKEN = 60.0, 512, 2.5, 0.5, 2.0
#: the requirement, and whether it is judged for each disk
REQUIREMENTS = {
    "guest-access": False,
    "boot-names": False,
    "fstab-uuid": False,
    "initramfs-driver": False,
    "disk-discard": True,
    "machine-type": False,
    "scsi-controller": True,
    "disk-bus": True,
    "image-format": True,
    "live-definition": False,
    "disc-max": False,
    "fstrim-timer": False,
    "trim-backlog": True,
    "reclaim-proof": False,
    "backup-job": False,
    "sparse-backup": True,
}
#: these name bytes in their evidence, which differ in every run
COUNTED = ("trim-backlog", "sparse-backup")
_WORDS = (
    "compliant",
    "noncompliant",
    "not-assessable",
    "waived",
    "error",
    "not-applicable",
)
_WEIGHTS = (780, 120, 60, 10, 2, 28)


@dataclass(frozen=True)
class Round:
    """One week: the merge of its files in a fresh process, and the size of the database behind it."""

    week: int
    rows: int
    wall: float
    cpu: float
    mebibytes: float
    database: int
    load: float


class Names(NamedTuple):
    """The names of one row."""

    requirement: str
    guest: str
    disk: str | None


# The rounds -----------------------------------------------------------------------------------


class Site:
    """One hypervisor. Its rows stay from week to week, but for the share that is drawn anew."""

    def __init__(self, number: int, guests: int, seed: int) -> None:
        self.name = f"kvm{number:05}.dc{number % 8}.example.org"
        self._number = number
        self._draw = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
        self._names: list[Names] = []
        self._disks: list[dict[str, Any]] = []
        for guest in range(guests):
            self._add_guest(
                f"{self._draw.choice(('web', 'db', 'mail', 'ci'))}-{number:05}-{guest:03}"
            )
        # as they are written: a million dictionaries would take a gigabyte
        self._rows = [self._row(names) for names in self._names]

    def _add_guest(self, guest: str) -> None:
        disks = ["sda"] if self._draw.random() < 0.8 else ["sda", "sdb"]
        for slug, is_of_disks in REQUIREMENTS.items():
            for disk in disks if is_of_disks else [None]:
                self._names.append(Names(slug, guest, disk))
        for disk in disks:
            held = self._draw.randrange(8 * GIB, 200 * GIB)
            self._disks.append(_storage(guest, disk, held, self._draw.randrange(held)))

    def _row(self, names: Names, verdict: str = "") -> str:
        slug, guest, disk = names
        verdict = verdict or self._draw.choices(_WORDS, _WEIGHTS)[0]
        holds = verdict == "compliant"
        row: dict[str, Any] = {
            "requirement": slug,
            "title": slug.replace("-", " "),
            "guest": guest,
            "disk": disk,
            "backup": None,
            "verdict": verdict,
            "reason": None
            if holds
            else f"{slug} of {guest} is {verdict}: seen as {self._draw.random():.12f}",
            "evidence": f"{slug} of {guest}: {self._draw.randrange(GIB)} bytes"
            if holds
            else None,
            "changes": [],
            "seconds": 0.012,
        }
        return json.dumps(row)

    def age(self, churn: float) -> None:
        """Let a week pass."""
        for place, names in enumerate(self._names):
            if self._draw.random() < churn:
                self._rows[place] = self._row(names)
            elif names.requirement in COUNTED and '"compliant"' in self._rows[place]:
                self._rows[place] = self._row(names, "compliant")
        for disk in self._disks:
            if self._draw.random() < 0.5:
                disk["allocated_before"] += GIB // 8
                disk["allocated_after"] += GIB // 8

    def write(self, folder: Path, week: int) -> int:
        """Write the run of *week* below *folder*, and return its number of rows."""
        began = EPOCH + timedelta(weeks=week, seconds=7 * self._number)
        name = f"{began:%Y%m%dT%H%M%SZ}-audit"
        home = folder / self.name / name
        home.mkdir(parents=True)
        text = written(self._document(name, began))
        rows = ",\n".join(self._rows)
        (home / "results.json").write_text(
            text.replace('"results": []', f'"results": [\n{rows}\n]'), encoding="utf-8"
        )
        return len(self._rows)

    def _document(self, name: str, began: datetime) -> dict[str, Any]:
        return {
            "schema": 1,
            "run": {
                "id": name,
                "mode": "audit",
                "started": rfc3339(began),
                "ended": rfc3339(began + timedelta(seconds=90)),
                "version": "0.1.0",
                "arguments": ["checks/"],
            },
            "hypervisor": {
                "name": self.name,
                "uri": "qemu:///system",
                "libvirt": "9.0.0",
                "qemu": "7.2.22",
            },
            "results": [],
            "storage": self._disks,
            "reclaimed_bytes": 0,
        }


def _storage(guest: str, disk: str, held: int, used: int) -> dict[str, Any]:
    return {
        "guest": guest,
        "disk": disk,
        "path": f"/var/lib/libvirt/images/{guest}-{disk}.qcow2",
        "virtual": 256 * GIB,
        "allocated_before": held,
        "allocated_after": held,
        "used": used,
        "reclaimable_before": held - used,
        "reclaimable_after": held - used,
    }


# Measuring ------------------------------------------------------------------------------------


#: a fresh process that reports its own peak: the ru_maxrss of a child has that of the process which it was forked from
_CHILD = """
import sys
from reclaim.__main__ import main
status = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("VmHWM", peak.split()[1], file=sys.stderr)
sys.exit(status)
"""


def measured(*words: str) -> tuple[float, float, float]:
    """Run reclaim with *words* in a fresh process. Return its seconds of wall and of CPU, and its peak in MiB."""
    before, used = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wall, now = time.perf_counter() - before, os.times()
    cpu = (
        now.children_user
        + now.children_system
        - used.children_user
        - used.children_system
    )
    return wall, cpu, int(done.stderr.split()[-1]) / 1024


def rounds(options: argparse.Namespace, work: Path) -> Iterator[Round]:
    """Write, merge and remove one week after the other."""
    sites = [
        Site(number, options.guests, options.seed)
        for number in range(options.hypervisors)
    ]
    silent = random.Random(options.seed)  # noqa: S311 - no secret
    database = work / "fleet.sqlite"
    for week in range(options.weeks):
        folder = work / f"week-{week:02}"
        rows = 0
        for site in sites:
            if week:
                site.age(options.churn)
            if silent.random() >= options.silent:
                rows += site.write(folder, week)
        wall, cpu, peak = measured("merge", str(folder), "--into", str(database))
        shutil.rmtree(folder)
        yield Round(
            week + 1, rows, wall, cpu, peak, database.stat().st_size, os.getloadavg()[0]
        )


def answers(database: Path) -> dict[str, float]:
    """Return the seconds that each answer takes in this process: all rows are fetched, three times, the median."""
    taken = {}
    given = questions.Given(
        EPOCH + timedelta(weeks=53), ["kvm00000", "kvm-that-is-not"]
    )
    for question in questions.EVERY:
        times = []
        for _ in range(3):
            connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
            before = time.perf_counter()
            rows = sum(1 for _ in question.answer(connection, given))
            times.append(time.perf_counter() - before)
            connection.close()
        taken[f"{question.name} ({rows:,} rows)"] = sorted(times)[1]
    return taken


# The page -------------------------------------------------------------------------------------


def described(
    options: argparse.Namespace, every: list[Round], taken: dict[str, float]
) -> str:
    """Return the tables of docs/scale.md."""
    shown = [
        each for each in every if each.week in (1, 2, 4, 13, 26, 39, every[-1].week)
    ]
    counted = " and ".join(COUNTED)
    fleet = f"{options.hypervisors:,} hypervisors with {options.guests} guests each"
    loaded = (
        f"{len(every)} weeks of {fleet} were merged, one week a process, every week really loaded. "
        f"{options.churn:.1%} of the rows were drawn anew each week; the evidence of {counted} and the bytes of half "
        f"of the disks changed every week too; {options.silent:.1%} of the hypervisors were silent in a week."
    )
    machine = (
        f"Machine: {os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}. "
        "The load average is that at the end of a merge: above the number of cores, the wall time is a busy machine's."
    )
    lines = [
        loaded,
        "",
        machine,
        "",
        "| week | rows | wall | CPU | peak memory | the file | load average |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in shown:
        lines.append(
            f"| {each.week} | {each.rows:,} | {each.wall:.1f} s | {each.cpu:.1f} s | {each.mebibytes:.0f} MiB "
            f"| {each.database / 1e6:,.0f} MB | {each.load:.1f} |"
        )
    walls = sorted(each.wall for each in every)
    peak = max(each.mebibytes for each in every)
    middle = walls[len(walls) // 2]
    lines += [
        "",
        f"Of all weeks: wall {walls[0]:.1f} to {walls[-1]:.1f} s, median {middle:.1f} s; most memory {peak:.0f} MiB.",
        "",
        f"Answers after week {every[-1].week}, every row fetched, the median of three:",
        "",
        "| question | seconds |",
        "|---|---|",
        *(f"| {name} | {seconds:.3f} |" for name, seconds in taken.items()),
    ]
    return "\n".join(lines)


def missed(every: list[Round], taken: dict[str, float]) -> list[str]:
    """Return a line for each target that was missed."""
    lines = []
    for each in (every[0], every[-1]):
        if each.wall > MERGE:
            lines.append(
                f"week {each.week}: merged in {each.wall:.1f} s, and not in {MERGE:.0f} s"
            )
        if each.mebibytes > MEMORY:
            lines.append(
                f"week {each.week}: {each.mebibytes:.0f} MiB, and not {MEMORY} MiB"
            )
    first, last = every[0], every[-1]
    growth = (last.database - first.database) / max(last.week - first.week, 1)
    year = (last.database + growth * max(52 - last.week, 0)) / 1e9
    if year > YEAR:
        lines.append(f"{year:.2f} GB a year, and not {YEAR} GB")
    for name, seconds in taken.items():
        most = BROKEN if name.startswith("newly-broken") else ANSWER
        if seconds > most:
            lines.append(f"{name}: {seconds:.2f} s, and not {most} s")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m bench.scale", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--hypervisors", type=int, default=1000)
    parser.add_argument("--guests", type=int, default=50)
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--churn", type=float, default=0.004)
    parser.add_argument("--silent", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, help="keep the database here (default: a temporary folder)"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="write the tables between their marks in FILE",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        every = []
        for each in rounds(options, work):
            every.append(each)
            sys.stderr.write(json.dumps(asdict(each)) + "\n")
        taken = answers((work / "fleet.sqlite").absolute())
    text = described(options, every, taken)
    sys.stdout.write(text + "\n")
    if options.write:
        _write(options.write, text)
    lines = missed(every, taken)
    sys.stdout.writelines(f"missed: {line}\n" for line in lines)
    return 1 if lines else 0


_BEGIN, _END = "<!-- table: python -m bench.scale -->", "<!-- end of table -->"


def _write(path: Path, text: str) -> None:
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    path.write_text(
        f"{before}{_BEGIN}\n{text}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
