"""The bytecode that Python keeps beside modules (`__pycache__`): it is run, so others must not write it."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def guard() -> None:
    """If the umask lets all users write, keep no bytecode, and close the folders that have some.

    Python makes the folders as the umask has it, and pytest the files too.
    """
    mask = os.umask(0o077)
    os.umask(mask)
    if mask & stat.S_IWOTH:
        return
    sys.dont_write_bytecode = True
    names = (
        getattr(module, "__cached__", None) for module in list(sys.modules.values())
    )
    for folder in {Path(name).parent for name in names if isinstance(name, str)}:
        with suppress(OSError):  # there is none, or it is not ours to close
            _close(folder)


def _close(folder: Path) -> None:
    """Take from others the right to write in *folder*, and remove what they could have written there."""
    mode = folder.lstat().st_mode
    if not stat.S_ISDIR(mode):
        return
    if mode & _OTHERS:
        folder.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    for path in folder.glob("*.pyc"):
        if path.lstat().st_mode & _OTHERS:
            path.unlink()
