"""What the lab's guests are made of. The scripts beside this file do the work; here is only what differs.

`article` is a guest as the article describes them: virtio disk, /dev/vda1 everywhere, nobody trims.
`stone` is an article guest that cannot boot from virtio-scsi and whose `update-initramfs` fails.
`ssh` is an article guest without an agent: its user `admin` comes in by ssh, and is root by sudo.
`both` is one with an agent and ssh, the Python that Ansible needs, and the tools of XFS and btrfs, for `bench/`.
`generic` has Debian's kernel for every machine, with drivers for SATA and LSI Logic too, and is kept well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lab.error import LabError

SUITE = "bookworm"
DISK_MIB = 3072
START_MIB = 1
"""Where the one partition begins; GRUB's core image lies before it."""
AGENT = "qemu-guest-agent"
PACKAGES = (
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    AGENT,
    "grub-pc",
    "initramfs-tools",
    "busybox",
    "zstd",
    "e2fsprogs",
    "util-linux",
    "mount",
    "udev",
    "kmod",
)
SSH_PACKAGES = ("openssh-server", "sudo", "iproute2")
GENERIC_PACKAGES = ("linux-image-amd64", "cryptsetup-bin", *PACKAGES[1:])
"""Not the cloud kernel, which is the first of PACKAGES."""
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
)
"""Files no test reads; without them the copies are smaller."""


ROOT_SCRIPT = "article-root.sh"


@dataclass(frozen=True)
class Recipe:
    """One kind of guest: what it derives from or is installed from, and what its first boot runs.

    One with `ssh` gets a pair of keys of its own, and the public one is left in /root/lab.pub for its scripts.
    One without an `agent` has no channel for it either.
    """

    name: str
    base: str | None
    boot_script: str
    packages: tuple[str, ...] = PACKAGES
    root_scripts: tuple[str, ...] = (ROOT_SCRIPT,)
    ssh: bool = False

    @property
    def agent(self) -> bool:
        """True if it is looked into by its agent."""
        return AGENT in self.packages

    @property
    def key(self) -> str:
        """Return what changes whenever the image would come out different."""
        parts = [
            self.name,
            SUITE,
            str(DISK_MIB),
            str(START_MIB),
            *self.packages,
            *EXCLUDED,
            script(self.boot_script),
        ]
        parts += (
            [recipe(self.base).key] if self.base else map(script, self.root_scripts)
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


RECIPES = (
    Recipe("article", None, "article-boot.sh"),
    Recipe("stone", "article", "stone-boot.sh"),
    Recipe(
        "generic",
        None,
        "generic-boot.sh",
        GENERIC_PACKAGES,
        ("generic-root.sh", ROOT_SCRIPT),
    ),
    Recipe(
        "ssh",
        None,
        "article-boot.sh",
        (*(name for name in PACKAGES if name != AGENT), *SSH_PACKAGES),
        (ROOT_SCRIPT, "ssh-root.sh"),
        ssh=True,
    ),
    Recipe(
        "both",
        None,
        "article-boot.sh",
        (*PACKAGES, *SSH_PACKAGES, "python3", "xfsprogs", "btrfs-progs"),
        (ROOT_SCRIPT, "ssh-root.sh"),
        ssh=True,
    ),
)


def recipe(name: str) -> Recipe:
    """Return the recipe of that name, or raise LabError."""
    for one in RECIPES:
        if one.name == name:
            return one
    raise LabError(
        f"no recipe {name!r}; there are: {', '.join(one.name for one in RECIPES)}"
    )


def script(name: str) -> str:
    """Return the text of a script that lies beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
