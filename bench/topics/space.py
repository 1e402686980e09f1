"""Deleted files given back to the host: a trim by reclaim beside virt-sparsify, zeros with fallocate, and virsh."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from bench import guests
from bench.page import Aim, Asked, Results, Topic
from bench.rounds import Contender, Race, Taken, progress, race, ran
from lab import guest as lab
from lab import host, paths, tools
from lab.guest import LabGuest

MIB = 1024 * 1024
NAME = "reclaim-lab-bench-space"
OURS = "reclaim fix"
VIRSH = "virsh domfstrim"
SPARSIFY = "virt-sparsify --in-place"
ZEROS = "dd of zeros, fallocate --dig-holes"
BYTES, DOWN = "came back, MiB", "downtime, s"

ABOUT = """\
A guest has written and deleted files, and its image still holds them. `reclaim fix` (of which only trim-backlog runs \
here) and `virsh domfstrim` work while the guest runs. `virt-sparsify --in-place` needs it off, and so does the \
article's way: zeros fill the free space in the guest and are deleted, and `fallocate --dig-holes` seeks them in the \
image. Shutdown and start count for these two; the guest is back when its agent answers. Each begins with the same \
image, and with a guest that runs."""


def measure(asked: Asked) -> Results:
    mib = 200 if asked.quick else 800
    rounds = asked.rounds_or(1 if asked.quick else 3)
    with (
        tempfile.TemporaryDirectory(prefix="rb-", dir=paths.guests()) as name,
        guests.guest(NAME) as made,
    ):
        folder = Path(name)
        progress(f"space: the guest writes and deletes {mib} MiB")
        lab.churn(made, mib)
        lab.shutdown(made, guests.BOOT_SECONDS)
        full = folder / "full.qcow2"
        _copy(made.image, full)
        given = race(
            f"{mib} MiB of deleted files",
            _contenders(made, full, folder),
            rounds,
            baseline=SPARSIFY,
        )
    return Results((given,), _aims(given), versions=_versions())


def _copy(source: Path, target: Path) -> None:
    tools.call(
        ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)],
        seconds=600,
    )


def _contenders(made: LabGuest, full: Path, folder: Path) -> list[Contender]:
    numbers = count()

    def fresh() -> None:
        if lab.lookup(made.name).isActive():
            lab.shutdown(made, guests.BOOT_SECONDS)
        _copy(full, made.image)
        guests.up(made)

    def counted(work: Callable[[], float]) -> Taken:
        """Run *work*, which returns the seconds of downtime."""
        before = lab.allocated(made)
        down = work()
        return Taken(figures={BYTES: (before - lab.allocated(made)) / MIB, DOWN: down})

    def trim() -> float:
        guests.reclaim(
            made,
            folder / f"run-{next(numbers)}",
            "--fix",
            "--force",
            "-k",
            "trim-backlog",
        )
        return 0.0

    def domfstrim() -> float:
        ran("virsh", "--connect", host.URI, "domfstrim", made.name)
        return 0.0

    def sparsify() -> float:
        settings = {"LIBGUESTFS_BACKEND": "direct"}
        if host.accelerator() == "qemu":
            settings["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"
        return _off(
            made,
            lambda: ran(
                "virt-sparsify", "--in-place", "--quiet", made.image, env=settings
            ),
        )

    def zeros() -> float:
        guests.run(
            made,
            "dd if=/dev/zero of=/var/tmp/zeros bs=1M status=none; sync; rm /var/tmp/zeros; sync",
            3600,
        )
        return _off(made, lambda: ran("fallocate", "--dig-holes", made.image))

    return [
        Contender(OURS, lambda: counted(trim), fresh),
        Contender(VIRSH, lambda: counted(domfstrim), fresh, _why_absent("virsh")),
        Contender(
            SPARSIFY, lambda: counted(sparsify), fresh, _why_absent("virt-sparsify")
        ),
        Contender(ZEROS, lambda: counted(zeros), fresh, rounds=1),
    ]


def _off(made: LabGuest, work: Callable[[], object]) -> float:
    """Do *work* while the guest is off; return the seconds until it answers again."""
    started = time.monotonic()
    lab.shutdown(made, guests.BOOT_SECONDS)
    work()
    guests.up(made)
    return time.monotonic() - started


def _why_absent(program: str) -> str:
    return "" if shutil.which(program) else f"{program} is not installed"


def _aims(given: Race) -> tuple[Aim, ...]:
    ours, theirs = given.median(OURS, BYTES), given.median(SPARSIFY, BYTES)
    less = 1 - ours / theirs if ours is not None and theirs else None
    return (
        Aim(f"seconds of {OURS}, over {SPARSIFY}", given.ratio(OURS), 0.3),
        Aim(f"seconds of downtime of {OURS}", given.median(OURS, DOWN), 0),
        Aim(
            f"share of the bytes of {SPARSIFY} that {OURS} does not give back",
            less,
            0.02,
            why="The running guest writes meanwhile, and what it has open stays; virt-sparsify also empties swap and "
            "free extents of volume groups.",
        ),
    )


def _versions() -> dict[str, str]:
    if _why_absent("virt-sparsify"):
        return {}
    said = subprocess.check_output(["virt-sparsify", "--version"], text=True)
    return {"virt-sparsify": said.split()[-1]}


TOPIC = Topic("space", "Space given back", ABOUT, measure)
