"""What the lab's guests are made of. The scripts beside this file do the work; here is only what differs.

`article` is a guest as the article describes them: virtio disk, /dev/vda1 everywhere, nobody trims.
`stone` is an article guest that cannot boot from virtio-scsi and whose `update-initramfs` fails.
`ssh` is an article guest without an agent: its user `admin` comes in by ssh, and is root by sudo.
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
PACKAGES = (
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "qemu-guest-agent",
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
EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
"""Files no test reads; without them the copies are smaller."""


@dataclass(frozen=True)
class Recipe:
    """One kind of guest: what it derives from and what its first boot runs.

    Where it derives from none: what it has beyond PACKAGES, and what its new root runs after ROOT_SCRIPT. One with
    ssh gets a pair of keys of its own, and the public one is left for that script.
    """

    name: str
    base: str | None
    boot_script: str
    packages: tuple[str, ...] = ()
    root_script: str | None = None
    ssh: bool = False

    @property
    def key(self) -> str:
        """Return what changes whenever the image would come out different."""
        parts = [self.name, SUITE, str(DISK_MIB), str(START_MIB), *PACKAGES, *EXCLUDED, script(self.boot_script)]
        parts.append(recipe(self.base).key if self.base else script(ROOT_SCRIPT))
        parts += [*self.packages, *([script(self.root_script)] if self.root_script else [])]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


ROOT_SCRIPT = "article-root.sh"
RECIPES = (
    Recipe("article", None, "article-boot.sh"),
    Recipe("stone", "article", "stone-boot.sh"),
    Recipe("ssh", None, "article-boot.sh", ("openssh-server", "sudo", "iproute2"), "ssh-root.sh", ssh=True),
)


def recipe(name: str) -> Recipe:
    """Return the recipe of that name, or raise LabError."""
    for one in RECIPES:
        if one.name == name:
            return one
    raise LabError(f"no recipe {name!r}; there are: {', '.join(one.name for one in RECIPES)}")


def script(name: str) -> str:
    """Return the text of a script that lies beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
