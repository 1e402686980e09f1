"""Machine types: their families, and their order within a family.

libvirt and QEMU treat names as opaque, so only what is known is ordered here: upstream's numbered
types (`pc-i440fx-2.10`), and the types of RHEL and Ubuntu through the QEMU release they derive from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: discard through virtio-scsi is passed on from here (QEMU 2.1)
MINIMUM = (2, 1)
#: hw_compat_3_1 in QEMU's hw/core/machine.c switches virtio-blk's discard off for older types
VIRTIO_BLK_DISCARD = (4, 0)

Version = tuple[int, ...]

_NUMBERED = re.compile(r"(?P<family>pc-i440fx|pc-q35|virt|pseries|s390-ccw-virtio|microvm)-(?P<version>\d+(\.\d+)+)\Z")
_OLD_PC = re.compile(r"pc-(?P<version>[01]\.\d+)\Z")
_RHEL = re.compile(r"(?P<family>pc-i440fx|pc-q35|virt|pseries|s390-ccw-virtio)-rhel(?P<version>\d+\.\d+\.\d+)\Z")
_UBUNTU = re.compile(
    r"(?P<family>pc-i440fx|pc-q35|virt|pseries|s390-ccw-virtio)-(?P<name>[a-z]+)(-v2)?(-hpb|-maxcpus)*\Z"
)

#: QEMU release behind a RHEL type. Source: the compat tables of RHEL's QEMU (hw_compat_rhel_*) as
#: described on qemu-devel; only types whose base is stated there are listed.
_RHEL_BASE: dict[str, Version] = {
    "7.0.0": (1, 5),
    "7.1.0": (2, 1),
    "7.2.0": (2, 3),
    "7.3.0": (2, 6),
    "7.4.0": (2, 9),
    "7.5.0": (2, 10),
    "7.6.0": (2, 12),
    "8.0.0": (3, 1),
    "8.1.0": (4, 1),
    "8.2.0": (4, 2),
    "8.2.1": (5, 0),
    "8.3.0": (5, 1),
    "8.4.0": (5, 2),
    "8.5.0": (6, 0),
    "8.6.0": (6, 2),
    "9.0.0": (6, 2),
    "9.2.0": (7, 2),
    "9.4.0": (8, 2),
    "9.6.0": (9, 1),
}

#: QEMU release behind an Ubuntu type. Source: Ubuntu's hw/i386/pc_piix.c and pc_q35.c. focal has
#: the options of 4.0, not of the 4.2 it shipped with.
_UBUNTU_BASE: dict[str, Version] = {
    "trusty": (2, 0),
    "utopic": (2, 1),
    "vivid": (2, 2),
    "wily": (2, 4),
    "xenial": (2, 5),
    "yakkety": (2, 6),
    "zesty": (2, 8),
    "artful": (2, 10),
    "bionic": (2, 11),
    "cosmic": (2, 12),
    "disco": (3, 1),
    "eoan": (4, 0),
    "focal": (4, 0),
    "groovy": (5, 0),
    "hirsute": (5, 2),
    "impish": (6, 0),
    "jammy": (6, 2),
    "noble": (8, 2),
}

#: names that mean "the newest this QEMU has" (q35 and pc), or that never had a version
_ALIASES = {
    "pc": "pc-i440fx",
    "q35": "pc-q35",
    "virt": "virt",
    "pseries": "pseries",
    "s390-ccw-virtio": "s390-ccw-virtio",
}
_UNVERSIONED = {"isapc": "isapc", "microvm": "microvm", "none": "none"}


@dataclass(frozen=True)
class MachineType:
    """A machine type's name taken apart.

    `version` is the upstream QEMU release it behaves like, None where the name has none.
    `vendor` is "" for upstream types, else "rhel" or "ubuntu".
    """

    name: str
    family: str
    version: Version | None
    vendor: str = ""

    @property
    def is_alias(self) -> bool:
        return self.name in _ALIASES


def parse(name: str) -> MachineType | None:
    """Take *name* apart; None where it cannot be ordered."""
    if name in _ALIASES:
        return MachineType(name, _ALIASES[name], None)
    if name in _UNVERSIONED:
        return MachineType(name, _UNVERSIONED[name], None)
    if match := _NUMBERED.match(name):
        return MachineType(name, match["family"], numbers(match["version"]))
    if match := _OLD_PC.match(name):
        # QEMU called the i440fx family plain "pc" up to 1.3 and pc-i440fx from 1.4
        return MachineType(name, "pc-i440fx", numbers(match["version"]))
    if (match := _RHEL.match(name)) and match["version"] in _RHEL_BASE:
        return MachineType(name, match["family"], _RHEL_BASE[match["version"]], "rhel")
    if (match := _UBUNTU.match(name)) and match["name"] in _UBUNTU_BASE:
        return MachineType(name, match["family"], _UBUNTU_BASE[match["name"]], "ubuntu")
    return None


def numbers(text: str) -> Version:
    """`"2.10"` as (2, 10), so that it is newer than (2, 9)."""
    return tuple(int(part) for part in text.split("."))


@dataclass(frozen=True)
class OfferedMachine:
    """A machine type in the host's capabilities, under its canonical name."""

    name: str
    deprecated: bool


def successor(machine: MachineType, offered: list[OfferedMachine], *, lowest: bool = False) -> str | None:
    """The newest type of *machine*'s family and vendor in *offered* that passes discards on and is not deprecated.

    Where the vendor's own types are not offered (the guest came from another distribution), the
    family's upstream types count. With *lowest*, the oldest such type. None where nothing fits.
    """
    for vendor in dict.fromkeys((machine.vendor, "")):
        fitting: list[tuple[Version, str]] = []
        for one in offered:
            known = parse(one.name)
            if known is None or known.version is None or known.version < MINIMUM or one.deprecated:
                continue
            if known.family == machine.family and known.vendor == vendor:
                fitting.append((known.version, one.name))
        if fitting:
            return min(fitting)[1] if lowest else max(fitting)[1]
    return None


def written(version: Version) -> str:
    """(2, 10) as "2.10"."""
    return ".".join(map(str, version))
