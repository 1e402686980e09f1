"""The files of a hypervisor: Debian with libvirt, QEMU and sshd, made once by mmdebstrap, and written to by none."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lab import image, mounts, paths, tools
from lab.recipes import EXCLUDED, SUITE

ADMIN = "admin"
"""A user who is not root, and may become root by sudo without a password."""

PACKAGES = (
    "iproute2",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "libvirt-daemon-system",
    "openssh-server",
    "procps",
    "python3",
    "python3-libvirt",
    "qemu-system-x86",
    "qemu-utils",
    "sudo",
)

_SCRIPT = f"""\
useradd --create-home --shell /bin/bash --password '*' {ADMIN}
printf '%s\\n' '{ADMIN} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{ADMIN}
chmod 440 /etc/sudoers.d/{ADMIN}
# each host has keys and an identity of its own
rm -f /etc/ssh/ssh_host_* /etc/machine-id
apt-get clean
rm -rf /var/lib/apt/lists/*
"""
_SUITES = (SUITE, "trixie")
PREFIX = "netns-root-"
_MAKING = "making-netns-"


@contextmanager
def held() -> Iterator[Path]:
    """Give the folder of the root, which no other run removes meanwhile; made in about a minute if it is not there.

    Raises LabError if it cannot be made.
    """
    parts = (suite(), PACKAGES, EXCLUDED, _SCRIPT)
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    whole = paths.cache() / f"{PREFIX}{key}"
    with ExitStack() as stack:
        with (paths.cache() / "netns-root.lock").open("w", encoding="ascii") as making:
            fcntl.flock(making, fcntl.LOCK_EX)
            if not whole.is_dir():
                _make(whole)
            stack.enter_context(_locked(whole, fcntl.LOCK_SH))
        yield whole


def suite() -> str:
    """Return the release of Debian that hosts have: this machine's own, whose Python they share then, or the lab's."""
    release = platform.freedesktop_os_release()
    own = release.get("VERSION_CODENAME", "")
    return own if release["ID"] == "debian" and own in _SUITES else SUITE


def _make(whole: Path) -> None:
    for stale in paths.cache().glob(f"{PREFIX}*"):
        with suppress(BlockingIOError), _locked(stale, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _remove(stale)
    for unfinished in paths.cache().glob(f"{_MAKING}*"):
        _remove(unfinished)
    beside = Path(tempfile.mkdtemp(prefix=_MAKING, dir=paths.cache()))
    beside.chmod(0o755)
    try:
        script = beside / "script.sh"
        script.write_text(_SCRIPT, encoding="utf-8")
        image.install(
            beside / "root",
            PACKAGES,
            [image.in_chroot(script)],
            {"TMPDIR": str(beside)},
            suite(),
        )
        (beside / "root").rename(whole)
    finally:
        _remove(beside)


@contextmanager
def _locked(place: Path, kind: int) -> Iterator[None]:
    """Hold a lock on a folder. Raises BlockingIOError if it is not free, and `kind` does not wait."""
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


def _remove(place: Path) -> None:
    mounts.expect_none(place)
    if place.exists():
        tools.call(["rm", "-rf", "--one-file-system", "--", str(place)], seconds=600)
