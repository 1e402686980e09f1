"""Whether there is a file or folder: "no" only if there is none, never if that could not be looked at.

From Python 3.14 on the methods of pathlib answer False as well if a folder above is closed to us.
"""

from __future__ import annotations

import stat
from pathlib import Path


def exists(path: Path) -> bool:
    """True if there is something at *path*, links followed. Raises OSError if that cannot be looked at."""
    return _mode(path) is not None


def is_folder(path: Path) -> bool:
    """True if *path* is a folder, links followed. Raises OSError if that cannot be looked at."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
