"""Gives /dev/kvm the mode that udev gives it, where no udev runs, and puts it back.

Without that libvirt's user cannot use KVM. Worse, root's probe can: so libvirtd (9.0) distrusts what it knows of QEMU
each time it looks, which costs 4 s for every question and a minute for a definition.
"""

from __future__ import annotations

import grp
import json
import os
import stat
from pathlib import Path

from lab import paths

DEVICE = Path("/dev/kvm")
GROUP = "kvm"
MODE = 0o660


def open_to_group() -> None:
    """Let the group kvm read and write /dev/kvm, as udev's own rule does; nothing happens where it can, or is none."""
    try:
        now = DEVICE.stat()
        group = grp.getgrnam(GROUP).gr_gid
    except (FileNotFoundError, KeyError):
        return
    if (
        os.geteuid() != 0
        or now.st_mode & 0o006 == 0o006
        or (now.st_gid == group and now.st_mode & MODE == MODE)
    ):
        return
    paths.cache()
    kept = {
        "mode": stat.S_IMODE(now.st_mode),
        "uid": now.st_uid,
        "gid": now.st_gid,
        "set_gid": group,
    }
    _file().write_text(json.dumps(kept) + "\n", encoding="utf-8")
    os.chown(DEVICE, -1, group)
    DEVICE.chmod(MODE)


def restore() -> None:
    """Undo `open_to_group`, unless somebody else has changed the device since."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
        now = DEVICE.stat()
    except FileNotFoundError:
        return
    if stat.S_IMODE(now.st_mode) == MODE and now.st_gid == kept["set_gid"]:
        os.chown(DEVICE, kept["uid"], kept["gid"])
        DEVICE.chmod(kept["mode"])
    forget()


def forget() -> None:
    """Forget that the device was changed: it stays as it is."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return paths.root() / "kvm.json"
