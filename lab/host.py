"""What this machine offers: whether real guests can run here, and a libvirt that answers."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt

from lab import daemons, kvm, paths, tools
from lab.accelerator import accelerator
from lab.error import LabError
from lab.sources import KEYRING
from reclaim.processes import binding

__all__ = ["accelerator", "ensure_libvirt", "has_libvirt", "missing", "stop_libvirt"]

URI = "qemu:///system"
ANSWER_SECONDS = 30.0

_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "sfdisk": "fdisk",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "libvirtd": "libvirt-daemon-system",
    "ssh-keygen": "openssh-client",
    "virtlogd": "libvirt-daemon-system",
}
_VIRTLOGD = "/run/libvirt/virtlogd-sock"


def missing() -> list[str]:
    """Return the reasons why real guests cannot run here, one sentence each; none where they can."""
    reasons = []
    if platform.machine() != "x86_64":
        reasons.append(
            f"this machine is {platform.machine()}; the lab's guests are x86_64"
        )
    if os.geteuid() != 0:
        reasons.append(
            "not root: the lab makes file systems and uses the system's libvirt"
        )
    path = tools.environment()["PATH"]
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=path) is None:
            reasons.append(f"{tool} is missing: install {package}")
    if not any(Path("/usr/share/qemu/firmware").glob("*.json")):
        reasons.append("QEMU has no UEFI firmware: install ovmf")
    if not KEYRING.exists():
        reasons.append(
            "Debian's archive keys are missing: install debian-archive-keyring"
        )
    return reasons


def has_libvirt() -> bool:
    """Return whether libvirt's daemon is installed."""
    return shutil.which("libvirtd", path=tools.environment()["PATH"]) is not None


def ensure_libvirt() -> libvirt.virConnect:
    """Return a connection to this machine's libvirt, having started its daemons where no service manager would.

    Raises LabError where it does not answer.
    """
    _quiet()
    if not _service_manager():
        with _locked():
            kvm.open_to_group()
    try:
        found = libvirt.open(URI)
        if _service_manager() or _listens(_VIRTLOGD):
            return found
        found.close()
    except libvirt.libvirtError as error:
        if _service_manager():
            raise LabError(
                f"libvirt does not answer at {URI}: {error}; try: systemctl start libvirtd"
            ) from None
    with _locked():
        if not _listens(_VIRTLOGD):
            daemons.start("virtlogd")
        return _opened()


def stop_libvirt(connection: libvirt.virConnect | None) -> list[str]:
    """Stop the daemons that the lab started and return their names; `connection` is closed.

    They stay, and are forgotten, where a guest that is not the lab's runs: somebody else needs them now.
    """
    if connection is not None:
        others = [
            dom.name()
            for dom in connection.listAllDomains(
                libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
            )
        ]
        connection.close()
        if any(not name.startswith(paths.PREFIX) for name in others):
            daemons.forget()
            kvm.forget()
            return []
    kvm.restore()
    return daemons.stop()


def _opened() -> libvirt.virConnect:
    try:
        return libvirt.open(URI)
    except libvirt.libvirtError:
        daemons.start("libvirtd")
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return libvirt.open(URI)
        except libvirt.libvirtError as error:
            if time.monotonic() > end:
                raise LabError(
                    f"libvirtd was started and does not answer at {URI}: {error}"
                ) from None
        time.sleep(0.2)


def _quiet() -> None:
    # libvirt's C library prints every error to stderr as well; ours all travel as exceptions.
    binding.prepare()


def _service_manager() -> bool:
    return Path("/run/systemd/system").is_dir()


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True


@contextmanager
def _locked() -> Iterator[None]:
    with (paths.cache() / "libvirt.lock").open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
