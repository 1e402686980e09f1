"""Whether a guest's firmware can read the disk that it boots from.

Types up to 2.6 give virtio devices their legacy interface alone (`disable-modern`, hw_compat_2_6 in QEMU's
hw/core/machine.c). Measured under TCG: with QEMU 10.0.13 SeaBIOS boots from no such disk, on virtio-blk or virtio-scsi,
i440fx or q35, types 2.4 and 2.6, SeaBIOS 1.16.2 or 1.16.3. It boots from ide, sata and lsilogic, from virtio with
`disable-modern=off` or a type from 2.7, and with QEMU 7.2 from all of them. With KVM it was not tried.
"""

from __future__ import annotations

from reclaim.definition.domain import Definition, DiskView
from reclaim.definition.machine_type import Version, parse, written

_LEGACY_VIRTIO_UP_TO = (2, 6)
_FAMILIES = ("pc-i440fx", "pc-q35")
#: the first release of QEMU with which it was seen
_SINCE = (10, 0)


def why_may_not_boot(
    definition: Definition, machine: str | None, qemu: Version | None
) -> str | None:
    """Return why a guest of the type *machine* may not boot on the release *qemu* of QEMU, or None if it does.

    None also if either is unknown, or another firmware or the host's own kernel boots the guest.
    """
    known = parse(machine or "")
    if known is None or known.version is None or known.family not in _FAMILIES:
        return None
    if known.version > _LEGACY_VIRTIO_UP_TO or qemu is None or qemu < _SINCE:
        return None
    if not _is_booted_by_seabios(definition):
        return None
    if not any(_is_virtio(definition, disk) for disk in _bootable(definition)):
        return None
    release = written(_LEGACY_VIRTIO_UP_TO)
    return f"QEMU {written(_SINCE)} was seen not to boot from virtio disks with a type up to {release}, without KVM"


def _is_booted_by_seabios(definition: Definition) -> bool:
    system = definition.root.find("os")
    if system is None or system.get("firmware") == "efi":
        return False
    return system.find("loader") is None and system.find("kernel") is None


def _bootable(definition: Definition) -> list[DiskView]:
    """Return the disks that have a boot order, or all if none has: each may be the one that the guest boots from."""
    ordered = [disk for disk in definition.disks if "boot" in disk.parts]
    return ordered or list(definition.disks)


def _is_virtio(definition: Definition, disk: DiskView) -> bool:
    if disk.bus != "scsi":
        return disk.bus == "virtio"
    index = disk.address.get("controller", "0")
    return any(
        controller.index == index and controller.is_virtio_scsi
        for controller in definition.scsi_controllers
    )
