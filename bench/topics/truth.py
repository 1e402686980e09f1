"""The bytes that trim-backlog counts to come back, and those that do: fragmented filesystems on four kinds of image."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import libvirt

from bench import guests
from bench.page import Aim, Asked, Results, Topic
from bench.rounds import Contender, Failed, Taken, progress, race
from lab import host, paths, tools
from lab.error import LabError
from lab.guest import LabGuest
from reclaim.handles.guest import Disk
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from reclaim.space.backlog import Backlog, backlog

MIB = 1024 * 1024
NAME = "reclaim-lab-bench-truth"
MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
#: gives a copy of a filesystem a UUID of its own: the guest mounts them side by side
RENAME = {
    "ext4": "e2fsck -fp {0}; tune2fs -U random {0}",
    "xfs": "xfs_admin -U generate {0}",
    "btrfs": "btrfstune -f -u {0}",
}
#: by its title each kind of image: its format, and the options of `qemu-img convert`
IMAGES = {
    "raw": ("raw", ()),
    "qcow2": ("qcow2", ()),
    "qcow2, clusters of 2 MiB": ("qcow2", ("-o", "cluster_size=2M")),
    "qcow2, subclusters": ("qcow2", ("-o", "extended_l2=on,cluster_size=128k")),
}
#: the share of a filesystem that small files fill, and the share of these that are deleted
FULL, DELETED = 0.7, 0.6
#: small files have up to so many blocks of 4 KiB
_BLOCKS = (1, 2, 4, 8, 16, 32, 64)
#: a guest and a filesystem write a little between two counts
_NOISE = 2 * MIB
WIDTH = 0.25

ABOUT = f"""\
In each of three filesystems, on each of four kinds of image, small files (4 to 256 KiB) fill {FULL:.0%}, and \
{DELETED:.0%} of them are deleted at random: the free space lies in thousands of pieces. An image gives back whole \
clusters only. reclaim counts the least and the most that can come back (`trim-backlog`), `reclaim fix` trims, and the \
host counts its blocks. *Width* is the width of the interval, as a share of the bytes that came back. A count is \
outside if the truth is not between both ends; {_NOISE // MIB} MiB are left for writes of the guest meanwhile. The \
seconds are those of the count of one disk, with the map of its free space from the guest."""


@dataclass(frozen=True)
class TruthCell:
    """One disk: a filesystem, and the kind of its image."""

    filesystem: str
    image: str

    @property
    def title(self) -> str:
        return f"{self.filesystem} on {self.image}"

    @property
    def serial(self) -> str:
        return f"{self.filesystem}-{list(IMAGES).index(self.image)}"


CELLS = tuple(TruthCell(*pair) for pair in product(MAKE, IMAGES))


@dataclass(frozen=True)
class Counted:
    """A cell's count before the trim, the seconds of counting, the bytes that came back, and the verdict afterwards."""

    cell: TruthCell
    count: Backlog
    seconds: float
    came: int
    verdict: str

    @property
    def is_inside(self) -> bool:
        return self.count.reclaimable - _NOISE <= self.came <= self.count.most + _NOISE

    @property
    def width(self) -> float:
        return (self.count.most - self.count.reclaimable) / max(self.came, 1)

    def taken(self) -> Taken:
        figures = {
            "held, MiB": self.count.held / MIB,
            "at least, MiB": self.count.reclaimable / MIB,
            "at most, MiB": self.count.most / MIB,
            "came back, MiB": self.came / MIB,
            "width, %": 100 * self.width,
        }
        return Taken(wall=self.seconds, figures=figures)


def measure(asked: Asked) -> Results:
    mib = 384 if asked.quick else 1024
    with tempfile.TemporaryDirectory(prefix="rb-", dir=paths.guests()) as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            images = {
                cell: path for kind in MAKE for cell, path in _made(kind, folder, mib)
            }
            with _guest(images) as made:
                counts = _counted(made, images, folder)
        except (
            LabError,
            OSError,
            subprocess.CalledProcessError,
            libvirt.libvirtError,
        ) as problem:
            raise Failed(str(problem)) from problem
    contenders = [Contender(each.cell.title, each.taken) for each in counts]
    cells = race(f"{mib} MiB a filesystem", contenders, 1, baseline=contenders[0].name)
    return Results((cells,), _aims(counts), _notes(counts))


# Fragmented filesystems -----------------------------------------------------------------------


def _made(kind: str, folder: Path, mib: int) -> Iterator[tuple[TruthCell, Path]]:
    """Make one filesystem, and write it into an image of each kind."""
    progress(f"truth: filling and fragmenting {kind}")
    raw = folder / f"{kind}.raw"
    with raw.open("xb") as stream:
        stream.truncate(mib * MIB)
    tools.call([*MAKE[kind], str(raw)], seconds=300)
    _fragment(raw, folder / "mount", mib)
    for image, (form, options) in IMAGES.items():
        cell = TruthCell(kind, image)
        tools.call(["sh", "-c", RENAME[kind].format(raw)], seconds=300)
        path = folder / f"{cell.serial}.{form}"
        if form == "raw":
            tools.call(["cp", "--sparse=always", str(raw), str(path)], seconds=600)
        else:
            command = ["qemu-img", "convert", "-f", "raw", "-O", form, *options]
            tools.call([*command, str(raw), str(path)], seconds=600)
        yield cell, path
    raw.unlink()


def _fragment(raw: Path, mount: Path, mib: int) -> None:
    """Fill the filesystem in *raw* with small files, and delete a part of them."""
    chosen = random.Random(mib)  # noqa: S311 - the same files each time
    mount.mkdir(exist_ok=True)
    # btrfs would discard by itself
    tools.call(["mount", "-o", "loop,nodiscard", str(raw), str(mount)], seconds=60)
    try:
        files: list[Path] = []
        written = 0
        while written < FULL * mib * MIB:
            folder = mount / str(len(files) // 500)
            folder.mkdir(exist_ok=True)
            data = os.urandom(chosen.choice(_BLOCKS) * 4096)
            files.append(folder / str(len(files)))
            files[-1].write_bytes(data)
            written += len(data)
        os.sync()
        for path in files:
            if chosen.random() < DELETED:
                path.unlink()
        os.sync()
    finally:
        tools.call(["umount", str(mount)], seconds=120)


# The guest ------------------------------------------------------------------------------------


@contextmanager
def _guest(images: dict[TruthCell, Path]) -> Iterator[LabGuest]:
    """Run a guest with these disks, all mounted. Raises Failed, LabError, libvirtError."""
    devices = []
    for number, (cell, path) in enumerate(images.items()):
        driver = f"<driver name='qemu' type='{IMAGES[cell.image][0]}' discard='unmap'/>"
        target = f"<target dev='{_target(number)}' bus='virtio'/>"
        serial = f"<serial>{cell.serial}</serial>"
        devices.append(
            f"<disk type='file' device='disk'>{driver}<source file='{path}'/>{target}{serial}</disk>"
        )
    with guests.guest(NAME, devices=devices) as made:
        names = " ".join(cell.serial for cell in images)
        mount = 'mkdir -p "/truth/$s" && mount "/dev/disk/by-id/virtio-$s" "/truth/$s"'
        guests.run(made, f"for s in {names}; do {mount} || exit 1; done; sync")
        yield made


def _target(number: int) -> str:
    return f"vd{'bcdefghijklmnopqrstuvwxyz'[number]}"


def _counted(
    made: LabGuest, images: dict[TruthCell, Path], folder: Path
) -> list[Counted]:
    """Count each disk, trim, and count again. Raises Failed."""
    hypervisor = connect(host.URI, None, Inventory())
    try:
        guest = next(each for each in hypervisor.guests if each.name == made.name)
        guest.look_inside()
        before: list[tuple[TruthCell, Backlog, float]] = []
        for number, cell in enumerate(images):
            started = time.perf_counter()
            count = backlog(Disk(guest, _target(number)))
            before.append((cell, count, time.perf_counter() - started))
            progress(f"truth: {cell.title}: {count.come}: {count.words}")
    finally:
        hypervisor.connection.close()
    options = ("-k", "trim-backlog")
    guests.reclaim(made, folder / "fix", "--fix", "--force", *options)
    held = {cell: path.stat().st_blocks * 512 for cell, path in images.items()}
    guests.reclaim(made, folder / "audit", *options)
    verdicts = _verdicts(folder / "audit")
    return [
        Counted(
            cell,
            count,
            seconds,
            count.held - held[cell],
            verdicts.get(_target(number), "missing"),
        )
        for number, (cell, count, seconds) in enumerate(before)
    ]


def _verdicts(reports: Path) -> dict[str, str]:
    (latest,) = reports.glob("*/latest/results.json")
    rows = json.loads(latest.read_text(encoding="utf-8"))["results"]
    return {
        row["disk"]: row["verdict"]
        for row in rows
        if row["requirement"] == "trim-backlog"
    }


# The page -------------------------------------------------------------------------------------


def _aims(counts: Sequence[Counted]) -> tuple[Aim, ...]:
    outside = [each.cell.title for each in counts if not each.is_inside]
    wrong = [each.cell.title for each in counts if each.verdict != "compliant"]
    widths = statistics.median(each.width for each in counts)
    return (
        Aim(
            "counts outside of their interval",
            len(outside),
            0,
            why=f"{', '.join(outside)}.",
        ),
        Aim(
            "the interval's width, over the bytes that came back, at the median",
            widths,
            WIDTH,
        ),
        Aim(
            "disks that are not compliant after a whole trim",
            len(wrong),
            0,
            why=f"{', '.join(wrong)}.",
        ),
    )


def _notes(counts: Sequence[Counted]) -> tuple[str, ...]:
    least = min(counts, key=lambda each: each.came)
    words = f"After the trim, {least.cell.title} still holds {(least.count.held - least.came) // MIB} MiB"
    return (
        f"{words}, of which its filesystem uses {least.count.used // MIB} MiB: the rest is free in small pieces.",
    )


TOPIC = Topic("truth", "The bytes that are counted to come back", ABOUT, measure)
