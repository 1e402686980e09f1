"""The folders of programs that are run on this machine: as root, none that others can write in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: where every Linux has its own programs
_OF_THE_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


def guard() -> list[str]:
    """As root, leave out of PATH the folders that others can put a program into, and return those for the user.

    sudo(8) does so with `secure_path`; cron and a shell of root's have the PATH that they have.
    """
    if os.geteuid() != 0:
        return []
    given = os.environ.get("PATH", "").split(os.pathsep)
    kept = [folder for folder in given if _is_safe(folder)]
    os.environ["PATH"] = os.pathsep.join(kept) or _OF_THE_SYSTEM
    left_out = []
    for folder in given:
        if folder in kept:
            continue
        if not folder or _is_folder(folder):
            left_out.append(folder or ".")
    return left_out


def _is_folder(path: str) -> bool:
    """True if *path* is a folder. False also for a name that no folder can have, for which pathlib raises."""
    return os.path.isdir(path)  # noqa: PTH112


def _is_safe(folder: str) -> bool:
    """True if only root, or a group of the administrator's choice, can put a program into *folder*.

    In a folder with the sticky bit, as /tmp, others cannot rename what is root's, but make what is theirs.
    """
    if not folder.startswith("/"):
        return False  # it is another folder wherever we are
    try:
        real = Path(folder).resolve(strict=True)
        if not _is_roots(real) or _is_sticky(real):
            return False
        return all(_is_roots(above) for above in real.parents)
    except OSError:
        return False


def _is_roots(folder: Path) -> bool:
    status = folder.stat()
    if status.st_uid != 0:
        return False
    return not status.st_mode & stat.S_IWOTH or bool(status.st_mode & stat.S_ISVTX)


def _is_sticky(folder: Path) -> bool:
    mode = folder.stat().st_mode
    return bool(mode & stat.S_ISVTX) and bool(mode & stat.S_IWOTH)
