"""Zeros in copies of disks: looked for and given back, beside the programs that do so, on three filesystems."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from bench.definitions import ROOT
from bench.page import Aim, Asked, Results, Topic
from bench.rounds import Contender, Failed, Race, Taken, race, ran
from reclaim.files import holes

MIB = 1024 * 1024
BLOCK = 4096
SCAN, PUNCH, REWRITE = "reclaim, scan", "reclaim, punch", "reclaim, rewrite"
DIG = "fallocate --dig-holes"
COPY = "cp --sparse=always"
NO_CLONE = "cp --sparse=always --reflink=never"
RSYNC = "rsync --inplace --sparse"
CONVERT = "qemu-img convert"
MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
#: scanning is so many times as fast as fallocate, which looks with the same calls
FASTER = 2.0
#: scan and punch read a file twice, fallocate reads it once
PUNCHED = 1.1
#: bytes freed by ours over those of the best other
_AS_MUCH = 0.98

ABOUT = """\
An image of a disk as a copy that is not sparse has it: runs of 4 KiB to 8 MiB, half of it data, a quarter zeros, a \
quarter holes. It lies on a filesystem of its own (a loop device with direct I/O). *Looking* is a scan by reclaim's \
sparse-backup check, and `fallocate --dig-holes` on a file that has no zeros, so that it only looks. *Giving back* is \
done by reclaim's fixer, which reads the file once to judge it and once to punch it (on btrfs it may write a new file \
instead), by `fallocate`, and by three programs that write a sparse copy: `cp --sparse=always`, \
`rsync --inplace --sparse --ignore-times` onto an older copy of the same size, `qemu-img convert -f raw -O raw`. Every \
time ends when the result is on the disk (fsync). Freed bytes are counted by the filesystem, after a sparse copy took \
the place of the image. Cold: nothing of the image is in the page cache. The seconds of reclaim are those of the work, \
without the start of Python and of the run (*Definitions* has it); its peak memory is that of the whole process."""


@dataclass(frozen=True)
class Place:
    """A filesystem that is mounted, with the image that every sample begins with."""

    kind: str
    folder: Path
    master: Path
    cold: bool

    @property
    def image(self) -> Path:
        return self.folder / "image"

    @property
    def copy(self) -> Path:
        return self.folder / "copy"

    def fresh(self, *, older_copy: bool = False) -> None:
        """Lay the image anew, and an older copy of it if asked for."""
        self.copy.unlink(missing_ok=True)
        for path in (self.image, self.copy) if older_copy else (self.image,):
            lay(self.master, path)
        _sync(self.folder)
        self.settle(self.image)
        if older_copy:
            self.settle(self.copy)

    def settle(self, path: Path) -> None:
        """Have *path* in the page cache, or nothing of it."""
        with path.open("rb", buffering=0) as stream:
            if self.cold:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while stream.read(MIB):
                    pass

    def free(self) -> int:
        """Return the free bytes of the filesystem, with all written, and all freed that was deleted."""
        _sync(self.folder)
        if self.kind == "xfs":
            # it frees the blocks of deleted files later, and those behind the ends of files (XFS_IOC_FREE_EOFBLOCKS)
            command = ["xfs_spaceman", "-c", "prealloc -s", str(self.folder)]
            subprocess.run(command, check=True)
        status = os.statvfs(self.folder)
        return status.f_bfree * status.f_frsize


def measure(asked: Asked) -> Results:
    mib = 128 if asked.quick else 8192
    rounds = asked.rounds_or(3)
    races, aims = [], []
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        folder = Path(name)
        mixed, dense = folder / "mixed", folder / "dense"
        mix(mixed, mib)
        fill(dense, max(256, mib // 2))
        for kind in MAKE:
            with mounted(kind, folder, 3 * mib + 1536) as top:
                for cold in (True, False):
                    looking = _look(Place(kind, top, dense, cold), rounds)
                    giving = _give(Place(kind, top, mixed, cold), rounds)
                    races += [looking, giving]
                    aims += _aims(kind, looking, giving, cold=cold)
    return Results(tuple(races), tuple(aims), versions=_versions())


# Races ----------------------------------------------------------------------------------------


def _look(place: Place, rounds: int) -> Race:
    mib = place.master.stat().st_size / MIB
    place.fresh()

    def measured(taken: Taken) -> Taken:
        assert taken.wall is not None
        return replace(taken, figures={"MiB/s": mib / taken.wall})

    contenders = [
        Contender(
            SCAN,
            lambda: measured(_own("scan", place.image)),
            prepare=lambda: place.settle(place.image),
        ),
        Contender(
            DIG,
            lambda: measured(ran("fallocate", "--dig-holes", place.image)),
            prepare=lambda: place.settle(place.image),
            absent=_why_not("fallocate"),
        ),
    ]
    title = f"Looking, {_words(place)}"
    return race(title, contenders, rounds, baseline=DIG, by="cpu")


def _give(place: Place, rounds: int) -> Race:
    def in_place(work: Callable[[], Taken]) -> Callable[[], Taken]:
        return lambda: _counted(place, work, place.image)

    def by_copy(*command: str) -> Callable[[], Taken]:
        words: tuple[str | Path, ...] = (*command, place.image, place.copy)
        return lambda: _counted(place, lambda: ran(*words), place.copy)

    def own(kind: str) -> Callable[[], Taken]:
        return lambda: _own(kind, place.image)

    contenders = [
        Contender(PUNCH, in_place(own("punch")), place.fresh),
        Contender(
            DIG,
            in_place(lambda: ran("fallocate", "--dig-holes", place.image)),
            place.fresh,
            absent=_why_not("fallocate"),
        ),
        Contender(COPY, by_copy("cp", "--sparse=always"), place.fresh),
        Contender(
            RSYNC,
            by_copy("rsync", "--inplace", "--sparse", "--ignore-times"),
            lambda: place.fresh(older_copy=True),
            absent=_why_not("rsync"),
        ),
        Contender(
            CONVERT,
            by_copy("qemu-img", "convert", "-f", "raw", "-O", "raw"),
            place.fresh,
            absent=_why_not("qemu-img"),
        ),
    ]
    if place.kind != "ext4":
        # cp clones the file there, zeros and all
        clone_free = by_copy("cp", "--sparse=always", "--reflink=never")
        contenders.append(Contender(NO_CLONE, clone_free, place.fresh))
    if place.kind == "btrfs":
        contenders.insert(0, Contender(REWRITE, in_place(own("rewrite")), place.fresh))
    return race(f"Giving back, {_words(place)}", contenders, rounds, baseline=DIG)


def _words(place: Place) -> str:
    gib = place.master.stat().st_size / MIB / 1024
    heat = "cold" if place.cold else "warm"
    return f"{place.kind}, {gib:g} GiB, {heat}"


def _counted(place: Place, work: Callable[[], Taken], result: Path) -> Taken:
    """Do *work*, wait until *result* is on the disk, and count the bytes that the filesystem has more then."""
    had_copy = place.copy.exists()
    before, size = place.free(), place.image.stat().st_size
    taken = work()
    started = perf_counter()
    _sync(result)
    waited = perf_counter() - started
    # the new copy takes the place of the image; an older copy was there before, and stays
    spare = 0
    if result == place.copy and not had_copy:
        spare = place.copy.stat().st_blocks * 512
        place.copy.replace(place.image)
        result = place.image
    freed = place.free() - before
    _expect_same(place.master, result, size)
    assert taken.wall is not None
    figures = {"freed MiB": freed / MIB, "room for it MiB": spare / MIB}
    return replace(taken, wall=taken.wall + waited, figures=figures)


def _own(kind: str, path: Path) -> Taken:
    taken = ran(sys.executable, "-m", "bench.own_zeros", kind, path, cwd=ROOT)
    took = json.loads(taken.output.splitlines()[-1])
    return replace(taken, wall=took["wall"], cpu=took["cpu"])


def _expect_same(master: Path, result: Path, size: int) -> None:
    """Raise Failed if *result* has another content than *master*."""
    done = subprocess.run(["cmp", "--silent", master, result], check=False)
    if done.returncode or result.stat().st_size != size:
        raise Failed("the content is another one")


# Files ----------------------------------------------------------------------------------------


def mix(path: Path, mib: int) -> None:
    """Write an image of runs of 4 KiB to 8 MiB: half of them data, a quarter zeros, a quarter holes."""
    chance = random.Random(17)  # noqa: S311 (the same each time)
    noise = os.urandom(16 * MIB)
    end = mib * MIB
    with path.open("wb") as stream:
        position = 0
        while position < end:
            count = min(BLOCK << chance.randrange(12), end - position)
            kind = chance.choice(("data", "data", "zeros", "hole"))
            if kind == "hole":
                stream.seek(count, os.SEEK_CUR)
            elif kind == "zeros":
                stream.write(bytes(count))
            else:
                first = chance.randrange(len(noise) - count)
                stream.write(noise[first : first + count])
            position += count
        stream.truncate(end)


def fill(path: Path, mib: int) -> None:
    """Write a file in which no block is zeros."""
    with path.open("wb") as stream:
        for _ in range(mib):
            stream.write(os.urandom(MIB))


def lay(master: Path, path: Path) -> None:
    """Write *path* anew with the data, the zeros and the holes of *master*."""
    path.unlink(missing_ok=True)
    # not cp, which leaves holes for zeros if the source has holes at all
    with (
        master.open("rb", buffering=0) as source,
        path.open("xb", buffering=0) as target,
    ):
        size = os.fstat(source.fileno()).st_size
        target.truncate(size)  # first: xfs sets blocks aside behind the end
        for start, end in holes.data_spans(source.fileno(), size):
            for position in range(start, end, MIB):
                data = os.pread(source.fileno(), min(MIB, end - position), position)
                os.pwrite(target.fileno(), data, position)


def _sync(path: Path) -> None:
    subprocess.run(["sync", "--file-system", path], check=True)


@contextmanager
def mounted(kind: str, folder: Path, mib: int) -> Iterator[Path]:
    """Mount a new filesystem of *kind* on a loop device with direct I/O. Raises Failed if that cannot be done."""
    disk, top = folder / f"{kind}.img", folder / kind
    with disk.open("wb") as stream:
        stream.truncate(mib * MIB)
    top.mkdir()
    try:
        _run(*MAKE[kind], disk)
        loop = _run("losetup", "--find", "--show", "--direct-io=on", disk).strip()
    except (OSError, subprocess.CalledProcessError) as problem:
        raise Failed(f"no {kind}: {_last_words(problem)}") from problem
    try:
        _run("mount", loop, top)
        try:
            yield top
        finally:
            _run("umount", top)
    finally:
        _run("losetup", "--detach", loop)
        disk.unlink()


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _last_words(problem: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(problem, OSError):
        return str(problem)
    return " ".join(str(problem.stderr).split())[-200:]


# Targets --------------------------------------------------------------------------------------


def _aims(kind: str, looking: Race, giving: Race, *, cold: bool) -> list[Aim]:
    heat = "cold" if cold else "warm"
    scan = looking.ratio(DIG, SCAN, "cpu")
    # the fixer rewrites on btrfs, where a hole in the middle of an extent frees nothing
    ours = REWRITE if kind == "btrfs" else PUNCH
    most = max(
        (giving.median(name, "freed MiB") or 0.0 for name in giving.contenders),
        default=0.0,
    )
    freed = giving.median(ours, "freed MiB")
    return [
        Aim(
            f"{kind}, {heat}: CPU of fallocate over that of a scan",
            scan,
            FASTER,
            "at least",
            why="Most of it is the kernel's work to read the file from the disk, which both need."
            if cold
            else "",
        ),
        Aim(
            f"{kind}, {heat}: freed bytes of `{ours}` over the most that any freed",
            freed / most if freed is not None and most else None,
            _AS_MUCH,
            "at least",
        ),
    ]


def _why_not(program: str) -> str:
    return "" if shutil.which(program) else f"{program} is not installed"


def _versions() -> dict[str, str]:
    asked = {
        "util-linux": ("fallocate", "--version"),
        "coreutils": ("cp", "--version"),
        "rsync": ("rsync", "--version"),
        "qemu-img": ("qemu-img", "--version"),
    }
    versions = {}
    for name, command in asked.items():
        if shutil.which(command[0]):
            first = _run(*command).partition("\n")[0]
            numbers = [word for word in first.split() if word[0].isdigit()]
            versions[name] = numbers[0] if numbers else first
    return versions


TOPIC = Topic("zeros", "Zeros in copies of disks", ABOUT, measure)
