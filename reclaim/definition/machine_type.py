"""Machine types: their families, and their order within a family.

libvirt and QEMU treat names as opaque, so only known names are ordered here: upstream's numbered
types (`pc-i440fx-2.10`), and the types of RHEL, Ubuntu and Proxmox VE through the QEMU release they derive from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

#: discard through virtio-scsi is passed on from here (QEMU 2.1)
MINIMUM = (2, 1)
#: hw_compat_3_1 in QEMU's hw/core/machine.c switches virtio-blk's discard off for older types
VIRTIO_BLK_DISCARD = (4, 0)

Version = tuple[int, ...]

_FAMILIES = "pc-i440fx|pc-q35|virt|pseries|s390-ccw-virtio|microvm"
#: of pseries: with the mitigations against Spectre and Meltdown on (hw/ppc/spapr.c)
_VARIANT = r"(?P<variant>(-sxxm)?)"
_NUMBERED = re.compile(
    rf"(?P<family>{_FAMILIES})-(?P<version>[0-9]+(\.[0-9]+)+){_VARIANT}\Z"
)
_OLD_PC = re.compile(r"pc-(?P<version>[01]\.[0-9]+)\Z")
_RHEL = re.compile(
    rf"(?P<family>{_FAMILIES})-rhel(?P<version>[0-9]+\.[0-9]+\.[0-9]+){_VARIANT}\Z"
)
_RHEL_6 = re.compile(r"rhel6\.[0-6]\.0\Z|rhel5\.[0-9]\.[0-9]\Z")
#: `-v2` is a later revision of the same hardware; the other suffixes are other hardware
_UBUNTU = re.compile(
    rf"(?P<family>{_FAMILIES})-(?P<name>[a-z]+)(?P<variant>(-hpb|-maxcpus|-sxxm)*)(-v(?P<revision>[2-9]))?\Z"
)
_PROXMOX = re.compile(
    rf"(?P<family>{_FAMILIES})-(?P<version>[0-9]+(\.[0-9]+)+)\+pve(?P<revision>[0-9]{{1,3}})\Z"
)

#: of Ubuntu 12.04 and 13.10, and of qemu-kvm when it was a fork (`qemu-system-x86_64 -machine help` of Ubuntu 14.04)
_QEMU_KVM = re.compile(
    r"pc-(?P<version>1\.0)-(precise|qemu-kvm)\Z|pc-i440fx-(?P<later>1\.5)-(saucy|qemu-kvm)\Z"
)

#: QEMU release behind a RHEL type: each is made from the newest upstream type of the qemu-kvm that
#: first has it. Source: `qemu-kvm -machine help` and `--version` of RHEL 7 (1.5.3, 2.x as qemu-kvm-rhev),
#: 8 (virt module: 3.1, 4.1, 4.2, 5.1, 5.2, 6.0, 6.2), 9 (6.2, 7.2, 8.2, 9.1, 10.1) and 10 (9.1, 10.1). A later
#: release is made from a later QEMU, so its base is at least that of the last one here.
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
    "8.3.0": (5, 1),
    "8.4.0": (5, 2),
    "8.5.0": (6, 0),
    "8.6.0": (6, 2),
    "9.0.0": (6, 2),
    "9.2.0": (7, 2),
    "9.4.0": (8, 2),
    "9.6.0": (9, 1),
    "9.8.0": (10, 1),
    "10.0.0": (9, 1),
    "10.2.0": (10, 1),
}
#: major releases of RHEL that get no new types
_RHEL_CLOSED = (7, 8)
#: RHEL 6's qemu-kvm is 0.12.1, and its types are i440fx: `rhel6.5.0`, which RHEL 7 still offered, and `rhel5.5.0`
#: for guests of RHEL 5, which is older still
_RHEL_6_BASE: Version = (0, 12)

#: QEMU release behind an Ubuntu type. Source: Ubuntu's patch "Carry Ubuntu specific machine types"
#: (hw/i386/pc_piix.c, pc_q35.c), and the QEMU that the release shipped with. focal has the options of
#: 4.0, not of the 4.2 it shipped with. stonking's QEMU is at least that of resolute. In the order of the releases.
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
    "kinetic": (7, 0),
    "lunar": (7, 2),
    "mantic": (8, 0),
    "noble": (8, 2),
    "oracular": (9, 0),
    "plucky": (9, 2),
    "questing": (10, 1),
    "resolute": (10, 2),
    "stonking": (10, 2),
}

#: names that mean "the newest this QEMU has" of a family
_ALIASES = {
    "pc": "pc-i440fx",
    "ubuntu": "pc-i440fx",
    "q35": "pc-q35",
    "ubuntu-q35": "pc-q35",
    "virt": "virt",
    "pseries": "pseries",
    "s390-ccw-virtio": "s390-ccw-virtio",
}
#: names that never had a version
_UNVERSIONED = {"isapc": "isapc", "microvm": "microvm", "none": "none"}
_WITHOUT_VERSION = _ALIASES | _UNVERSIONED
VENDORS = {"rhel": "RHEL", "ubuntu": "Ubuntu", "pve": "Proxmox VE"}
#: boards of other architectures that QEMU copies, which have no versions (`qemu-system-ARCH -machine help`)
_BOARDS = frozenset(
    {
        "40p", "bamboo", "clipper", "cubieboard", "g3beige", "integratorcp",
        "leon3_generic", "mac99", "malta", "ppce500", "prep", "raspi0",
        "raspi1ap", "raspi2b", "raspi3ap", "raspi3b", "raspi4b", "sifive_u",
        "spike", "SS-5", "sun4u", "sun4v", "versatileab", "versatilepb",
        "vexpress-a15", "vexpress-a9", "virtex-ml507", "xenfv", "xenpv",
        "xenpvh",
    }
)  # fmt: skip


@dataclass(frozen=True)
class MachineType:
    """A machine type's name taken apart.

    `version` is the upstream QEMU release it behaves like, None if the name has none. `release` is
    the vendor's own number, which orders the types that derive from one QEMU; Ubuntu's has the revision behind it.
    `vendor` is "" for upstream types, else a key of `VENDORS`. `variant` is the suffix behind the release, of other
    hardware: Ubuntu's `-hpb` (host-phys-bits) and `-maxcpus`, and `-sxxm` of pseries.
    """

    name: str
    family: str
    version: Version | None
    vendor: str = ""
    variant: str = ""
    release: Version = ()

    @property
    def is_alias(self) -> bool:
        return self.name in _ALIASES


@lru_cache(maxsize=1024)
def parse(name: str) -> MachineType | None:
    """Take *name* apart. Returns None if it cannot be ordered."""
    if name in _WITHOUT_VERSION:
        return MachineType(name, _WITHOUT_VERSION[name], None)
    if match := _NUMBERED.match(name):
        return MachineType(
            name,
            match["family"],
            numbers(match["version"]),
            variant=match["variant"],
        )
    if match := _OLD_PC.match(name):
        # QEMU called the i440fx family plain "pc" up to 1.3 and pc-i440fx from 1.4
        return MachineType(name, "pc-i440fx", numbers(match["version"]))
    if match := _QEMU_KVM.match(name):
        return MachineType(
            name, "pc-i440fx", numbers(match["version"] or match["later"]), "ubuntu"
        )
    if (match := _RHEL.match(name)) and (base := _rhel_base(match["version"])):
        return MachineType(
            name,
            match["family"],
            base,
            "rhel",
            match["variant"],
            numbers(match["version"]),
        )
    if _RHEL_6.match(name):
        return MachineType(name, "pc-i440fx", _RHEL_6_BASE, "rhel")
    return _of_ubuntu(name) or _of_proxmox(name)


def _of_ubuntu(name: str) -> MachineType | None:
    match = _UBUNTU.match(name)
    if match is None or match["name"] not in _UBUNTU_BASE:
        return None
    release = list(_UBUNTU_BASE).index(match["name"]), int(match["revision"] or 1)
    base = _UBUNTU_BASE[match["name"]]
    return MachineType(name, match["family"], base, "ubuntu", match["variant"], release)


def _of_proxmox(name: str) -> MachineType | None:
    match = _PROXMOX.match(name)
    if match is None:
        return None
    version, release = numbers(match["version"]), (int(match["revision"]),)
    return MachineType(name, match["family"], version, "pve", release=release)


def has_no_version(name: str, offered: list[OfferedMachine]) -> bool:
    """True if *name* is of a board without versions: a well-known one, or one that this QEMU offers under that name."""
    return name in _BOARDS or any(
        offer.name == name and not re.search(r"\d\.\d", name) for offer in offered
    )


def _rhel_base(release: str) -> Version | None:
    asked = numbers(release)
    known = {numbers(each): base for each, base in _RHEL_BASE.items()}
    of_major = [each for each in known if each[0] == asked[0]]
    if asked in known or asked[0] in _RHEL_CLOSED:
        return known.get(asked)
    # a later one of its major release, or of a later major release
    last = max(of_major or known)
    return known[last] if asked > last else None


def numbers(text: str) -> Version:
    """Return `"2.10"` as (2, 10), so that it is newer than (2, 9)."""
    return tuple(int(part) for part in text.split("."))


#: stand between a type's name and the QEMU that drops it, or the reason for which a guest may not boot with it
DEPRECATED = "; deprecated: "
MAY_NOT_BOOT = "; may not boot: "


@dataclass(frozen=True)
class OfferedMachine:
    """A machine type in the host's capabilities, under its canonical name."""

    name: str
    deprecated: bool


def why_not_offered(
    name: str, offered: list[OfferedMachine], *, is_resolved: bool = False
) -> str | None:
    """Return why the QEMU that offers *offered* does not start a guest of type *name*, or None if it does.

    None also if *offered* is empty, or *name* is an alias: then nothing is known. *is_resolved*: the aliases of this
    QEMU are known, and *name* is none of them. libvirt checks the type when a definition is made and when the guest
    starts (virQEMUCapsIsMachineSupported), so it refuses both.
    """
    if not offered or (name in _ALIASES and not is_resolved):
        return None
    if any(offer.name == name for offer in offered):
        return None
    machine = parse(name)
    if machine is None or machine.version is None:
        return f"this QEMU has no machine type {name}"
    newest = _newest(machine, offered)
    if newest is None:
        return (
            f"this QEMU has no {name}, nor another type of the family {machine.family}"
        )
    if newest.vendor != machine.vendor:
        return _of_another_vendor(machine, newest)
    if is_newer_than(machine, offered):
        return f"{name} is of a newer QEMU than this one, whose newest type of the family is {newest.name}"
    return f"this QEMU has no {name} any more"


def _of_another_vendor(machine: MachineType, newest: MachineType) -> str:
    """Return the reason against *machine* if this QEMU has types of other vendors alone, such as *newest*."""
    if owner := VENDORS.get(machine.vendor):
        return f"{machine.name} is a type of {owner}'s QEMU, and this QEMU is not {owner}'s"
    owner = VENDORS[newest.vendor]
    return f"{machine.name} is a type of upstream's QEMU, and this QEMU is {owner}'s, which does not have it"


def is_newer_than(machine: MachineType, offered: list[OfferedMachine]) -> bool:
    """True if *machine* is of a newer QEMU than the newest type of its family in *offered*."""
    newest = _newest(machine, offered)
    return newest is not None and not _is_at_least(newest, machine)


def _is_at_least(one: MachineType, other: MachineType) -> bool:
    """True if *one* is not older than *other*. A vendor's types from one QEMU go by the vendor's own number."""
    if one.version is None or other.version is None:
        return True
    if one.vendor == other.vendor:
        return (one.version, one.release) >= (other.version, other.release)
    return one.version >= other.version


def _newest(machine: MachineType, offered: list[OfferedMachine]) -> MachineType | None:
    """Return the newest type in *offered* of *machine*'s family: of its own vendor if there is one, else upstream's.

    If there is neither, it is the newest of any vendor. None if there is no type of that family.
    """
    kin = [
        known
        for known in map(parse, (offer.name for offer in offered))
        if known and known.version is not None and known.family == machine.family
    ]
    for vendor in (machine.vendor, ""):
        if own := [known for known in kin if known.vendor == vendor]:
            return max(own, key=_rank)
    return max(kin, key=_rank, default=None)


def _rank(machine: MachineType) -> tuple[Version, Version, str]:
    return machine.version or (), machine.release, machine.name


#: family -> the oldest release whose type QEMU 10.0 still has (docs/about/removed-features.rst). From 10.1 types go by
#: their age, six major releases after their own (MACHINE_VER_DELETION_MAJOR in include/hw/core/boards.h)
_LEFT_BY_10_0 = {
    "pc-i440fx": (2, 4),
    "pc-q35": (2, 4),
    "virt": (3, 0),
    "pseries": (3, 0),
}
_FIRST_BY_AGE = (10, 1)
_MAJORS_KEPT = 6


def dropped_by(machine: MachineType) -> Version | None:
    """Return the QEMU release that drops *machine*; None if that is unknown, as for a vendor's type."""
    if machine.version is None or machine.vendor:
        return None
    if machine.family not in _LEFT_BY_10_0:
        return None
    if machine.version < _LEFT_BY_10_0[machine.family]:
        return 10, 0
    major, minor = machine.version[:2]
    return max((major + _MAJORS_KEPT, minor), _FIRST_BY_AGE)


def end_of(machine: MachineType) -> str:
    """Return in words which QEMU drops *machine*."""
    release = dropped_by(machine)
    if release is None:
        return "a later QEMU drops it"
    return f"QEMU {written(release)} drops it"


def successor(
    machine: MachineType, offered: list[OfferedMachine], *, lowest: bool = False
) -> str | None:
    """Return the newest type of *machine*'s family and vendor in *offered* that passes discards on, if not deprecated.

    If the vendor's own types are not offered (the guest came from another distribution), the
    family's upstream types count. With *lowest*, return the oldest such type. Never return one that is
    older than *machine*, or of another variant. Return None if no type fits, and for one that is newer than this QEMU.
    """
    if is_newer_than(machine, offered):
        return None
    for vendor in dict.fromkeys((machine.vendor, "")):
        fitting = [
            known for known in _usable(machine, offered) if known.vendor == vendor
        ]
        if fitting:
            return (min if lowest else max)(fitting, key=_rank).name
    return None


def of_another_vendor(
    machine: MachineType, offered: list[OfferedMachine]
) -> str | None:
    """Return the newest type in *offered* that could take *machine*'s place, of whatever vendor; None if none could."""
    newest = max(_usable(machine, offered), key=_rank, default=None)
    return newest.name if newest else None


def _usable(machine: MachineType, offered: list[OfferedMachine]) -> list[MachineType]:
    """Return the types of *machine*'s family and variant that pass discards on and are not older than it.

    A type that QEMU calls deprecated is not among them.
    """
    usable = []
    for offer in offered:
        known = parse(offer.name)
        if known is None or offer.deprecated or known.version is None:
            continue
        if (known.family, known.variant) != (machine.family, machine.variant):
            continue
        if known.version >= MINIMUM and _is_at_least(known, machine):
            usable.append(known)
    return usable


def written(version: Version) -> str:
    """Return (2, 10) as "2.10"."""
    return ".".join(map(str, version))
