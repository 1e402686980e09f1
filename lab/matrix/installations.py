"""The installations of the matrix: each is one Debian, copied into its layouts and finished by one boot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.recipes import SUITE

ROOT_MIB = 1200
ROOT_UUID = "2013a7e1-0000-4000-8000-000000000001"
ARRAY = "2013a7e1:00004000:80000000:00000002"
"""The UUID of the array: the initramfs that assembles it is made before it."""


@dataclass(frozen=True)
class Layout:
    """One disk: its size, what sfdisk is told, where (in MiB) which root's blocks go, and which GRUB boots it.

    Without a `root` it is a data disk: `mkfs` makes its filesystem, or the builder does.
    """

    mebibytes: int
    table: str
    at: int | None = None
    root: str | None = None
    core: str | None = None
    mkfs: str | None = None


@dataclass(frozen=True)
class Installation:
    """One installation of Debian's `suite`, with packages beyond those of an article guest.

    `scripts` run in its first root. `roots` are what apt-get makes each from the one before; a script of that name
    runs in it after that. `builder` runs in one boot with all disks of `layouts`, in their order.
    """

    suite: str
    builder: str
    roots: Mapping[str, str]
    layouts: Mapping[str, Layout]
    packages: tuple[str, ...] = ()
    scripts: tuple[str, ...] = field(default=("root.sh",))

    @property
    def first(self) -> str:
        """The root that apt-get makes the others from."""
        return next(iter(self.roots))


_WHOLE = "label: dos\nstart=1MiB, type=83, bootable\n"
_PLAIN_TABLE = (
    f"label: dos\nstart=1MiB, size={ROOT_MIB}MiB, type=83, bootable\ntype=82\n"
)
_ESP_MIB = 160
"""Room for two kernels with their initramfs: reclaim builds the new one beside the old one."""
_ESP_TABLE = f"label: gpt\nstart=1MiB, size={_ESP_MIB - 1}MiB, type=U\nstart={_ESP_MIB}MiB, type=L\n"


def _plain(root: str) -> Layout:
    """A root on the first partition, swap on the second."""
    return Layout(ROOT_MIB + 80, _PLAIN_TABLE, 1, root, "plain")


def _with_esp(root: str) -> Layout:
    return Layout(ROOT_MIB + _ESP_MIB + 2, _ESP_TABLE, _ESP_MIB, root)


def _data(mebibytes: int, mkfs: str | None = None) -> Layout:
    return Layout(mebibytes, _WHOLE, mkfs=mkfs)


INSTALLATIONS = {
    "bookworm": Installation(
        SUITE,
        "builder.sh",
        roots={
            "plain": "",
            "uefi": "--purge install grub-efi-amd64 grub-pc-",
            "sysvinit": "--purge install grub-pc grub-efi-amd64- sysvinit-core sysv-rc orphan-sysvinit-scripts cron "
            "systemd- systemd-sysv- libpam-systemd-",
        },
        layouts={
            "plain": _plain("plain"),
            "lvm": Layout(
                ROOT_MIB + 210,
                "label: dos\nstart=1MiB, size=128MiB, type=83, bootable\nstart=130MiB, type=8e\n",
                131,
                "plain",
                "apart",
            ),
            "raid-a": Layout(
                ROOT_MIB + 8,
                "label: dos\nstart=1MiB, type=fd, bootable\n",
                2,
                "plain",
                "raid",
            ),
            "raid-b": Layout(
                ROOT_MIB + 8,
                "label: dos\nstart=1MiB, type=fd, bootable\n",
                2,
                "plain",
                "raid",
            ),
            "btrfs": Layout(ROOT_MIB + 1, _WHOLE, 1, "btrfs", "btrfs"),
            "uefi": Layout(
                ROOT_MIB + 66,
                "label: gpt\nstart=1MiB, size=63MiB, type=U\nstart=64MiB, type=L\n",
                64,
                "uefi",
            ),
            "sysvinit": Layout(ROOT_MIB + 1, _WHOLE, 1, "sysvinit", "plain"),
            "luks": _data(129),
            "ext4": _data(129, "mkfs.ext4"),
            "xfs": _data(329, "mkfs.xfs"),
        },
        packages=(
            "lvm2",
            "mdadm",
            "cryptsetup",
            "btrfs-progs",
            "xfsprogs",
            "dosfstools",
        ),
        scripts=("root.sh", "array.sh"),
    ),
    "trixie": Installation(
        "trixie",
        "builder-trixie.sh",
        roots={
            "trixie": "",
            "dracut": "--purge install dracut initramfs-tools- initramfs-tools-core-",
            "extlinux": "--purge install initramfs-tools extlinux syslinux-common dracut- dracut-core- "
            "grub-pc- grub-pc-bin- grub2-common- grub-common-",
            "systemd-boot": "--purge install systemd-boot dosfstools extlinux- syslinux-common-",
            "uki": "install systemd-ukify systemd-boot-efi",
        },
        layouts={
            "trixie": _plain("trixie"),
            "dracut": _plain("dracut"),
            "extlinux": Layout(ROOT_MIB + 80, _PLAIN_TABLE, 1, "extlinux"),
            "systemd-boot": _with_esp("systemd-boot"),
            "uki": _with_esp("uki"),
            "thin": _data(329),
        },
        packages=("lvm2", "thin-provisioning-tools"),
        scripts=("root.sh", "trixie-root.sh"),
    ),
    "bullseye": Installation(
        "bullseye",
        "builder-menu.sh",
        roots={"bullseye": ""},
        layouts={"bullseye": _plain("bullseye")},
    ),
    "sid": Installation(
        "sid",
        "builder-menu.sh",
        roots={"sid": ""},
        layouts={"sid": _plain("sid")},
        scripts=("root.sh", "trixie-root.sh"),
    ),
}


def installation_of(disk: str) -> str:
    """Return the name of the installation that has that disk; KeyError if there is none."""
    for name, installation in INSTALLATIONS.items():
        if disk in installation.layouts:
            return name
    raise KeyError(disk)


def layout(disk: str) -> Layout:
    """Return the layout of that disk; KeyError if there is none."""
    return INSTALLATIONS[installation_of(disk)].layouts[disk]
