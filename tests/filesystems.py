"""Filesystems to put copies on: each in a file of its own, through a loop device. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1024 * 1024
#: what makes each, and its mount options
MAKE = {
    "ext4": ("mkfs.ext4 -q -F", "loop"),
    "xfs": ("mkfs.xfs -q -f", "loop"),
    "btrfs": ("mkfs.btrfs -q -f", "loop"),
    "btrfs-compressed": ("mkfs.btrfs -q -f", "loop,compress-force=zstd"),
    "tmpfs": ("", "size=400m"),
}


def require(kind: str) -> None:
    """Skip where this kind cannot be made; fail where CI is set, since there it must be."""
    if reason := missing(kind):
        if os.environ.get("CI"):
            pytest.fail(f"{kind} must be mounted where CI is set: {reason}", pytrace=False)
        pytest.skip(f"{kind}: {reason}")


def missing(kind: str) -> str:
    """Why this kind cannot be made here; empty where it can."""
    if os.geteuid() != 0:
        return "not root"
    program = MAKE[kind][0].partition(" ")[0]
    return f"no {program}" if program and shutil.which(program) is None else ""


@contextmanager
def mounted(kind: str, folder: Path, mib: int = 400) -> Iterator[Path]:
    """A fresh filesystem of *kind*, mounted in *folder*/mnt."""
    make, options = MAKE[kind]
    place = folder / "mnt"
    place.mkdir()
    source = "tmpfs"
    if make:
        source = str(folder / f"{kind}.img")
        with Path(source).open("xb") as image:
            image.truncate(mib * MIB)
        subprocess.run([*make.split(), source], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", *([] if make else ["-t", "tmpfs"]), "-o", options, source, str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
        if make:
            Path(source).unlink()  # pytest keeps the folder of a failed test, and all if one failed


@pytest.fixture
def btrfs(tmp_path: Path) -> Iterator[Path]:
    """A btrfs with one subvolume, `current`. For tests that name it in their conftest.py."""
    require("btrfs")
    with mounted("btrfs", tmp_path) as folder:
        run("btrfs", "subvolume", "create", str(folder / "current"))
        yield folder


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def allocated(path: Path) -> int:
    """Bytes that the filesystem holds once everything is written."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return path.stat().st_blocks * 512
