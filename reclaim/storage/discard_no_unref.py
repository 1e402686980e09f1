"""`discard_no_unref`: discarded clusters of a qcow2 image keep their place, so that it does not fragment."""

from __future__ import annotations

from reclaim.definition.machine_type import numbers, written
from reclaim.handles.guest import Disk
from reclaim.handles.node import Node

#: libvirt's attribute, and QEMU's option behind it (QEMU issue 1621: without it an image with
#: discards can outgrow its virtual size)
_LIBVIRT = (9, 5, 0)
_QEMU = (8, 1, 0)


def wants_no_unref(disk: Disk) -> bool:
    """True if policy asks for it, and the image is one that can have it."""
    return disk.guest.policy.discard_no_unref and disk.driver.get("type") == "qcow2"


def why_not_no_unref(hypervisor: Node) -> str | None:
    """Return which program here is too old to know it, or None."""
    for name, version, since in (
        ("libvirt", hypervisor.libvirt_version, _LIBVIRT),
        ("QEMU", hypervisor.qemu_version, _QEMU),
    ):
        if version is None:
            return f"this driver has no {name}"
        if numbers(version) < since:
            return f"{name} {version} is older than {written(since)}"
    return None
