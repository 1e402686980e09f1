"""Where the lab keeps its things: below one folder, so that one removal leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path

from lab.error import LabError

PREFIX = "reclaim-lab-"
"""Every domain of the lab has a name that begins so; no other domain is ever touched."""


def root() -> Path:
    """Return the lab's folder: $RECLAIM_LAB, else /var/lib/reclaim-lab."""
    return Path(os.environ.get("RECLAIM_LAB") or "/var/lib/reclaim-lab")


def cache() -> Path:
    """Return the folder of the base images, made if it is not there."""
    return _made(root() / "cache")


def guests() -> Path:
    """Return the folder of the guests' images and consoles, made if it is not there."""
    return _made(root() / "guests")


def image(name: str) -> Path:
    """Return where the disk image of the guest `name` lies."""
    return guests() / f"{checked(name)}.qcow2"


def console(name: str) -> Path:
    """Return where the serial console of the guest `name` is written."""
    return guests() / f"{checked(name)}.console"


def checked(name: str) -> str:
    """Return `name`, or raise LabError where it is not one that the lab may use for a guest."""
    rest = name.removeprefix(PREFIX)
    if (
        rest == name
        or not rest
        or not all(c.isascii() and (c.isalnum() or c in "-_") for c in rest)
    ):
        raise LabError(
            f"{name!r} is no name for a lab guest: {PREFIX!r}, then letters, digits, '-' and '_'"
        )
    return name


def _made(folder: Path) -> Path:
    root().mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.mkdir(mode=0o755, exist_ok=True)
    # QEMU runs as another user, which must get through to the images whatever our umask is.
    for one in (root(), folder):
        if one.stat().st_mode & 0o555 != 0o555:
            one.chmod(0o755)
    return folder
