"""Copies of disks as files: sparse, or with zeros written out."""

from __future__ import annotations

import os
from pathlib import Path

from tests.filesystems import MIB

#: MiB of data at the beginning, and of the whole
DATA = 8
SIZE = 64


def noise(size: int) -> bytes:
    """Bytes that no filesystem can compress."""
    return os.urandom(size)


def write(path: Path, *parts: tuple[int, bytes], size: int = SIZE * MIB) -> Path:
    """A sparse file of *size* bytes with *parts* (offset, content) in it."""
    with path.open("wb") as stream:
        stream.truncate(size)
        for offset, content in parts:
            stream.seek(offset)
            stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return path


def dense(path: Path) -> Path:
    """As rsync without --sparse writes it: data, and zeros for what the guest has freed."""
    return write(path, (0, noise(DATA * MIB)), (DATA * MIB, bytes((SIZE - DATA) * MIB)))
