"""The guests of the lab matrix, and what reclaim has to say of each: the one table, which docs/matrix.md shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.matrix.installations import ROOT_UUID

PREFIX = "reclaim-lab-matrix-"
_PREFIXES = {"virtio": "vd", "scsi": "sd", "ide": "hd"}
#: the requirements for which the table below has expectations: one that is new gets them after its first `make matrix`
JUDGED = frozenset(
    {
        *(
            "guest-access",
            "boot-names",
            "fstab-uuid",
            "initramfs-driver",
            "disk-discard",
            "machine-type",
        ),
        *(
            "scsi-controller",
            "disk-bus",
            "image-format",
            "live-definition",
            "disc-max",
            "fstrim-timer",
        ),
        "trim-backlog",
    }
)


@dataclass(frozen=True)
class Disk:
    """A disk: the image that it is a copy of (lab/matrix/build.py), and its place in the definition.

    `controller` is the index of its SCSI controller, `lsilogic` that controller's model.
    """

    image: str
    bus: str = "virtio"
    discard: str | None = None
    controller: int = 0
    model: str = "virtio-scsi"

    def target(self, number: int) -> str:
        """The target of the disk where it is the one of that number in its definition, from 0."""
        return f"{_PREFIXES[self.bus]}{chr(ord('a') + number)}"


@dataclass(frozen=True)
class Expected:
    """Verdicts: each names its requirements, a disk's own as `disk-bus:vdb`; the rest of `JUDGED` are compliant.

    A requirement that is judged for each disk, named without one, is meant for every disk.
    """

    noncompliant: str = ""
    fixed: str = ""
    not_applicable: str = ""
    not_assessable: str = ""

    def verdict(self, requirement: str, disk: str | None) -> str | None:
        """Return the verdict that the row is to have; None for a requirement without expectations."""
        for verdict in ("noncompliant", "fixed", "not_applicable", "not_assessable"):
            named = getattr(self, verdict).split()
            if requirement in named or f"{requirement}:{disk}" in named:
                return verdict.replace("_", "-")
        return "compliant" if requirement in JUDGED else None


@dataclass(frozen=True)
class Case:
    """One guest of the matrix.

    What it is: `disks`, the root first, and `machine`; `later`, the disks of a definition that was changed after its
    start. What its root has that the image does not: `files` (a path and its text), `links` (a path and its target),
    `copies` (a path and a file beside the images), `replaced` (a path, an expression and what it becomes);
    `inside` runs in it before anybody looks. Without an `agent` it counts as up when it asks who logs in.

    What is expected: `audit`; for a guest that is mended, `mended` is what `--fix --restart` says, and `left` the
    words of the reason for what it must leave; one that is not `always_mended` is mended by `make matrix` only.
    One that is not `always` there is made by `make guests` and `make matrix` only. With `counted` the host's bytes are
    counted after that: new, with what was written and deleted in it, and once that is trimmed.
    """

    name: str
    about: str
    disks: tuple[Disk, ...]
    audit: Expected
    machine: str = "pc-i440fx-1.6"
    later: tuple[Disk, ...] = ()
    firmware: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    replaced: tuple[tuple[str, str, str], ...] = ()
    inside: str = ""
    agent: bool = True
    mended: Expected | None = None
    left: Mapping[str, str] = field(default_factory=dict)
    always_mended: bool = False
    always: bool = True
    counted: bool = False

    @property
    def domain(self) -> str:
        """The name of its domain."""
        return PREFIX + self.name

    @property
    def targets(self) -> list[str]:
        """The targets of its disks, as its definition has them when it is audited."""
        return [
            disk.target(number) for number, disk in enumerate(self.later or self.disks)
        ]


_FSTAB = "# <file system>\t<mount point>\t<type>\t<options>\t<dump>\t<pass>\n"
_OLD_ROOT = "/dev/vda1\t/\text4\terrors=remount-ro\t0\t1\n"
_OLD_SWAP = "/dev/vda2\tnone\tswap\tsw\t0\t0\n"
_NEW_ROOT = f"UUID={ROOT_UUID}\t/\text4\terrors=remount-ro\t0\t1\n"
_TIMER = {
    "/etc/systemd/system/timers.target.wants/fstrim.timer": "/lib/systemd/system/fstrim.timer",
}
_BY_UUID = (
    ("/boot/grub/grub.cfg", "root=/dev/vda1", f"root=UUID={ROOT_UUID}"),
    ("/etc/default/grub", "GRUB_DISABLE_LINUX_UUID", "#GRUB_DISABLE_LINUX_UUID"),
)
_STORVENDOR = """\
#!/bin/sh
case "$1" in
prereqs) exit 0 ;;
esac
echo "E: storvendor: cannot copy /opt/storvendor/lib/libsv.so.2: No such file or directory" >&2
exit 1
"""
_SMALL = {"/etc/initramfs-tools/conf.d/small": "MODULES=list\n"}
_LISTED = (("/etc/initramfs-tools/modules", r"\Z", "virtio_pci\nvirtio_blk\next4\n"),)

_HARDWARE = "machine-type disk-discard scsi-controller disk-bus"
_INSIDE = "fstab-uuid boot-names fstrim-timer"
_OLD = f"{_INSIDE} {_HARDWARE} disc-max"
#: once the guest runs on its new hardware disc-max is judged for the first time, and holds
_NOW_NEW = f"{_INSIDE} {_HARDWARE} live-definition"

CASES = (
    Case(
        "plain-old",
        "As the article describes them: everything by `/dev/vda1`, an old machine type, virtio, nobody trims.",
        (Disk("plain"),),
        Expected(_OLD),
        mended=Expected(fixed=_NOW_NEW),
        always=False,
    ),
    Case(
        "half-converted",
        "Somebody began: root by UUID, swap by `/dev/vda2`; the definition has scsi, one controller lsilogic, "
        "no discard, and was never started.",
        (Disk("plain"), Disk("ext4")),
        Expected(
            "fstab-uuid machine-type disk-discard scsi-controller live-definition disc-max fstrim-timer"
        ),
        later=(
            Disk("plain", "scsi"),
            Disk("ext4", "scsi", controller=1, model="lsilogic"),
        ),
        files={"/etc/fstab": _FSTAB + _NEW_ROOT + _OLD_SWAP},
        replaced=_BY_UUID,
        mended=Expected(
            fixed="boot-names fstab-uuid machine-type disk-discard scsi-controller live-definition fstrim-timer"
        ),
    ),
    Case(
        "compliant",
        "All is as it should be, on the machine type that Debian 12's QEMU calls `pc`.",
        (Disk("plain", "scsi", "unmap"),),
        Expected(),
        machine="pc-i440fx-7.2",
        files={"/etc/fstab": _FSTAB + _NEW_ROOT},
        links=_TIMER,
        replaced=(
            *_BY_UUID,
            ("/var/cache/debconf/config.dat", r"(?<=Value: )/dev/vda$", "/dev/sda"),
        ),
    ),
    Case(
        "data-and-swap",
        "A data disk by `/dev/vdb1`, swap and the resume device by `/dev/vda2`.",
        (Disk("plain"), Disk("ext4")),
        Expected(_OLD),
        files={
            "/etc/fstab": _FSTAB
            + _OLD_ROOT
            + _OLD_SWAP
            + "/dev/vdb1\t/srv\text4\tdefaults\t0\t2\n",
            "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/vda2\n",
        },
        mended=Expected(fixed=_NOW_NEW),
        always=False,
    ),
    Case(
        "lvm",
        "Root and swap on LVM, `/boot` by `/dev/vda1`, i440fx 2.0.",
        (Disk("lvm"),),
        Expected(f"fstab-uuid fstrim-timer {_HARDWARE} disc-max"),
        machine="pc-i440fx-2.0",
        mended=Expected(fixed=_NOW_NEW),
        always=False,
    ),
    Case(
        "luks",
        "A LUKS data disk that crypttab opens by `/dev/vdb1`; the policy has no `luks_discard`.",
        (Disk("plain"), Disk("luks")),
        Expected(_OLD),
        files={
            "/etc/fstab": _FSTAB
            + _OLD_ROOT
            + "/dev/mapper/data\t/srv\text4\tdefaults\t0\t2\n",
            "/etc/crypttab": "# <target name>\t<source device>\t<key file>\t<options>\n"
            "data\t/dev/vdb1\t/etc/data.key\tluks\n",
            "/etc/data.key": "reclaim-lab",
        },
        mended=Expected(fixed=_NOW_NEW, noncompliant="disc-max"),
        left={
            "disc-max": "`luks_discard = true` in the inventory's [policy] allows it"
        },
        always=False,
    ),
    Case(
        "raid1",
        "Root on md RAID 1 of two disks, which `mdadm.conf` names in its `DEVICE` line.",
        (Disk("raid-a"), Disk("raid-b")),
        Expected(f"boot-names fstrim-timer {_HARDWARE} disc-max"),
        mended=Expected(
            "boot-names", fixed=f"live-definition fstrim-timer {_HARDWARE}"
        ),
        left={
            "boot-names": "dpkg-reconfigure grub-pc in the guest: /boot is not on one disk"
        },
        always=False,
    ),
    Case(
        "btrfs",
        "Root and `/home` are subvolumes of one btrfs, by `/dev/vda1`.",
        (Disk("btrfs"),),
        Expected(_OLD),
        mended=Expected(fixed=_NOW_NEW),
    ),
    Case(
        "xfs",
        "An XFS data disk by `/dev/vdb1`; virtio-blk offers discard on this machine type, and the definition drops it.",
        (Disk("plain"), Disk("xfs")),
        Expected(
            "fstab-uuid boot-names fstrim-timer disk-discard scsi-controller disk-bus"
        ),
        machine="pc-i440fx-4.2",
        files={
            "/etc/fstab": _FSTAB + _OLD_ROOT + "/dev/vdb1\t/srv\txfs\tdefaults\t0\t0\n"
        },
        mended=Expected(
            fixed="live-definition fstab-uuid boot-names fstrim-timer disk-discard scsi-controller disk-bus"
        ),
    ),
    Case(
        "sysvinit",
        "No systemd: sysvinit and cron.",
        (Disk("sysvinit"),),
        Expected(_OLD),
        mended=Expected(fixed=_NOW_NEW),
    ),
    Case(
        "no-agent",
        "Its agent is not started, and no inventory names a way in by ssh.",
        (Disk("plain"),),
        Expected(
            "guest-access machine-type disk-discard scsi-controller disk-bus",
            not_assessable="fstab-uuid boot-names initramfs-driver disc-max fstrim-timer trim-backlog",
        ),
        links={"/etc/systemd/system/qemu-guest-agent.service": "/dev/null"},
        agent=False,
    ),
    Case(
        "exec-blocked",
        "Its agent runs, and may not run commands (`block-rpcs=guest-exec`).",
        (Disk("plain"),),
        Expected(
            "guest-access machine-type disk-discard scsi-controller disk-bus",
            not_assessable="fstab-uuid boot-names initramfs-driver disc-max fstrim-timer",
        ),
        files={"/etc/qemu/qemu-ga.conf": "[general]\nblock-rpcs=guest-exec\n"},
        always=False,
    ),
    Case(
        "modules-list",
        "Its initramfs lists its drivers (`MODULES=list`), and virtio-scsi is not among them.",
        (Disk("plain"),),
        Expected(f"initramfs-driver {_OLD}"),
        files=_SMALL,
        replaced=_LISTED,
        copies={"/boot/initrd.img-{release}": "initrd.small"},
        mended=Expected(fixed=f"initramfs-driver {_NOW_NEW}"),
        always=False,
    ),
    Case(
        "initramfs-broken",
        "The same, and `update-initramfs` fails: it must stay on its bus.",
        (Disk("plain", discard="unmap"),),
        Expected(f"initramfs-driver {_OLD.replace('disk-discard ', '')}"),
        files={**_SMALL, "/etc/initramfs-tools/hooks/storvendor": _STORVENDOR},
        replaced=_LISTED,
        copies={"/boot/initrd.img-{release}": "initrd.small"},
        mended=Expected(
            "initramfs-driver machine-type scsi-controller disk-bus disc-max",
            fixed="fstab-uuid boot-names fstrim-timer",
        ),
        left={
            "initramfs-driver": "storvendor",
            "machine-type": "withheld: depends on initramfs-driver",
            "scsi-controller": "withheld: depends on initramfs-driver",
            "disk-bus": "withheld: depends on initramfs-driver",
            "disc-max": "virtio-blk on pc-i440fx-1.6 offers no discard",
        },
        always=False,
    ),
    Case(
        "full",
        "Not a byte is free on its root.",
        (Disk("plain", "scsi", "unmap"),),
        Expected("fstab-uuid boot-names fstrim-timer"),
        machine="pc-i440fx-7.2",
        files={"/etc/fstab": _FSTAB + "/dev/sda1\t/\text4\terrors=remount-ro\t0\t1\n"},
        replaced=(("/boot/grub/grub.cfg", "root=/dev/vda1", "root=/dev/sda1"),),
        inside="cat /dev/zero >/full 2>/dev/null; sync; df / >&2; test $(df --output=avail / | tail -1) = 0",
        mended=Expected("fstab-uuid boot-names", fixed="fstrim-timer"),
        left={
            "fstab-uuid": "No space left on device",
            "boot-names": "No space left on device",
        },
        always_mended=True,
    ),
    Case(
        "read-only",
        "Its root is mounted read-only, as after an error of its disk.",
        (Disk("plain", "scsi", "unmap"),),
        Expected("fstab-uuid boot-names", not_applicable="fstrim-timer"),
        machine="pc-i440fx-7.2",
        files={"/etc/fstab": _FSTAB + "/dev/sda1\t/\text4\terrors=remount-ro\t0\t1\n"},
        replaced=(("/boot/grub/grub.cfg", "root=/dev/vda1", "root=/dev/sda1"),),
        inside="sync; mount -o remount,ro /",
        mended=Expected("fstab-uuid boot-names", not_applicable="fstrim-timer"),
        left={
            "fstab-uuid": "Read-only file system",
            "boot-names": "Read-only file system",
        },
        always_mended=True,
        always=False,
    ),
    Case(
        "uefi",
        "UEFI (OVMF) on q35 with GRUB, `/boot/efi` by `/dev/vda1`.",
        (Disk("uefi"),),
        Expected(
            "fstab-uuid boot-names fstrim-timer disk-discard scsi-controller disk-bus disc-max"
        ),
        machine="pc-q35-3.1",
        firmware=True,
        mended=Expected(
            fixed="live-definition fstab-uuid boot-names fstrim-timer disk-discard scsi-controller disk-bus"
        ),
    ),
    Case(
        "trixie",
        "Debian 13: initramfs-tools, GRUB, `/tmp` in memory by systemd's `tmp.mount`.",
        (Disk("trixie"),),
        Expected(_OLD),
        mended=Expected(fixed=_NOW_NEW),
        counted=True,
    ),
    Case(
        "dracut",
        "Debian 13 with dracut (`hostonly`), whose image lacks virtio-scsi.",
        (Disk("dracut"),),
        Expected(f"initramfs-driver {_OLD}"),
        mended=Expected(fixed=f"initramfs-driver {_NOW_NEW}"),
        always=False,
        counted=True,
    ),
    Case(
        "systemd-boot",
        "Debian 13, UEFI, systemd-boot: its entry and initramfs on the ESP are kernel-install's, which takes the next "
        "command line from `/proc/cmdline`; the initramfs lacks virtio-scsi.",
        (Disk("systemd-boot"),),
        Expected(
            f"initramfs-driver {_INSIDE} disk-discard scsi-controller disk-bus disc-max"
        ),
        machine="pc-q35-3.1",
        firmware=True,
        mended=Expected(
            fixed=f"initramfs-driver {_INSIDE} disk-discard scsi-controller disk-bus live-definition"
        ),
        always=False,
        counted=True,
    ),
    Case(
        "uki",
        "Debian 13, UEFI, a unified kernel image made by kernel-install and ukify.",
        (Disk("uki"),),
        Expected(
            f"{_INSIDE} disk-discard scsi-controller disk-bus disc-max",
            not_assessable="initramfs-driver",
        ),
        machine="pc-q35-3.1",
        firmware=True,
        mended=Expected(
            "boot-names scsi-controller disk-bus disc-max",
            fixed="fstab-uuid fstrim-timer disk-discard live-definition",
            not_assessable="initramfs-driver",
        ),
        left={
            "boot-names": "kernel-install add",
            "scsi-controller": "withheld: depends on",
            "disk-bus": "withheld: depends on",
            "disc-max": "pc-q35-3.1",
        },
        always=False,
    ),
    Case(
        "extlinux",
        "Debian 13 with extlinux: root by `/dev/vda1` in `extlinux.conf`.",
        (Disk("extlinux"),),
        Expected(_OLD),
        mended=Expected(fixed=_NOW_NEW),
        always=False,
        counted=True,
    ),
    Case(
        "thin",
        "Debian 13 with a data disk on which a thin volume of LVM is `/srv`.",
        (Disk("trixie"), Disk("thin")),
        Expected(_OLD),
        files={
            "/etc/fstab": _FSTAB
            + _OLD_ROOT
            + "/dev/mapper/data-srv\t/srv\text4\tdefaults\t0\t2\n"
        },
        mended=Expected(fixed=_NOW_NEW),
        always=False,
    ),
    Case(
        "bullseye",
        "Debian 11: Linux 5.10, systemd 247, GRUB 2.06.",
        (Disk("bullseye"),),
        Expected(_OLD),
        mended=Expected(fixed=_NOW_NEW),
        always=False,
        counted=True,
    ),
    Case(
        "sid",
        "Debian sid: the newest kernel, systemd and initramfs-tools.",
        (Disk("sid"),),
        Expected(_OLD),
        mended=Expected(fixed=_NOW_NEW),
        always=False,
        counted=True,
    ),
)


def case(name: str) -> Case:
    """Return the case of that name."""
    return next(one for one in CASES if one.name == name.removeprefix(PREFIX))


def replaced(text: str, pattern: str, new: str) -> str:
    """Return `text` with `pattern` replaced; ValueError where it does not occur."""
    done, count = re.subn(pattern, lambda _match: new, text, flags=re.MULTILINE)
    if not count:
        raise ValueError(f"{pattern} does not occur")
    return done
