"""States in which a change would be lost or would break something: the change is then withheld, with its reason.

The engine asks before a change is planned or applied. Fixers know nothing of it. A verdict is about the present
state. A precondition is only about the change that must not be made now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import libvirt
from lxml import etree

from reclaim.base.text import size, some
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.file_change import FileChange
from reclaim.changes.live_update import LiveUpdate
from reclaim.changes.power import PowerCycle
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.definition import othersystem
from reclaim.definition.compare import pairs
from reclaim.definition.domain import Definition
from reclaim.handles import host_devices
from reclaim.handles.agent import AGENT_CHANNEL
from reclaim.handles.guest import Guest
from reclaim.inventory import table_of
from reclaim.storage import image_users

T = TypeVar("T")

#: namespaces in `<metadata>` of those that write a guest's XML anew, from their own records, at its next start:
#: vdsm's lib/vdsm/virt/xmlconstants.py, nova's virt/libvirt/config.py, KubeVirt's virt-launcher api/schema.go,
#: OpenNebula's LibVirtDriverKVM.cc
_MANAGERS = (
    ("http://ovirt.org/", "oVirt"),
    ("http://openstack.org/xmlns/libvirt/nova", "OpenStack"),
    ("http://kubevirt.io", "KubeVirt"),
    ("http://opennebula.org/xmlns/libvirt", "OpenNebula"),
)
#: Proxmox VE has no libvirt: what carries its name came through a converter, whose words differ
_PROXMOX = "proxmox"

#: why a guest is paused (libvirt's virDomainPausedReason), where that says more than "paused"
_PAUSED = {
    libvirt.VIR_DOMAIN_PAUSED_MIGRATION: "for a migration",
    libvirt.VIR_DOMAIN_PAUSED_SAVE: "while it is saved",
    libvirt.VIR_DOMAIN_PAUSED_DUMP: "while its memory is dumped",
    libvirt.VIR_DOMAIN_PAUSED_IOERROR: "after an I/O error (is there room for its images?)",
    libvirt.VIR_DOMAIN_PAUSED_WATCHDOG: "by its watchdog",
    libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT: "since a paused snapshot was restored",
    libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT: "while a snapshot is made",
    libvirt.VIR_DOMAIN_PAUSED_CRASHED: "since it crashed",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY: "for a migration (post-copy)",
    libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: "by a post-copy migration that failed",
}
_MIGRATES = {
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY),
    (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
    (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY),
}
#: states of a guest with a QEMU that cannot follow a request to shut down
_DEAF = {
    libvirt.VIR_DOMAIN_CRASHED: "it has crashed and cannot shut down: stop it by hand",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "it is suspended and cannot shut down: wake it (virsh dompmwakeup)",
    libvirt.VIR_DOMAIN_SHUTDOWN: "it is shutting down already",
}
_JOBS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "it is being saved",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "it is being restored",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "it is being migrated to this host",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "it is being migrated away",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "a snapshot is being made",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "it is being reverted to a snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "its memory is being dumped",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "a backup is running",
}
_BLOCK_JOBS = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: "a block pull",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: "a block copy",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: "a block commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: "an active block commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: "a backup",
}
#: names of snapshots or checkpoints that are told
_NAMES = 3


def why_not_applied(guest: Guest, change: Change) -> str | None:
    """Return why *change* must not be applied to *guest* as it is now, or None.

    Changes inside the guest need a guest that answers; whoever proposes them has seen to that.
    """
    if isinstance(change, DefinitionChange):
        return (
            _why_not_transient(guest)
            or _why_not_managed(guest)
            or _why_not_taken_by_libvirt(guest, change)
            or _why_not_with_a_job(guest)
            or _why_not_with_managed_save(guest)
            or _moment_that_holds(guest, _altered(change))
        )
    if isinstance(change, PowerCycle):
        return (
            _why_not_transient(guest)
            or _why_not_managed(guest)
            or _why_not_with_a_job(guest)
            or _why_not_heard(guest)
            or _why_no_way_back(guest)
            or _lost_by_power_cycle(guest)
            or _why_not_taken(guest)
            or _why_not_shared(
                guest, change.paths if isinstance(change, AmendCycle) else ()
            )
            or _why_not_mounted_by_hand(change)
        )
    if isinstance(change, LiveUpdate):
        return (
            _why_not_managed(guest)
            or _why_not_with_a_job(guest)
            or _why_not_taken(guest)
        )
    if isinstance(change, FileChange | CommandChange):
        return _why_not_confined(guest)
    if isinstance(change, ImageAmend):
        return (
            _why_not_managed(guest)
            or _why_not_running(guest)
            or _why_not_with_managed_save(guest)
            or _why_not_shared(guest, [change.path])
        )
    if isinstance(change, Sparsify):
        return (
            _why_not_managed(guest)
            or _why_not_running(guest)
            or _why_not_with_managed_save(guest)
            or _stands_on(guest)
            or _why_not_shared(guest, [change.path])
        )
    return None


def remark(guest: Guest, change: Change) -> str:
    """Return a warning about *change*, which is applied all the same; mostly ""."""
    if isinstance(change, DefinitionChange) and (names := _snapshots(guest)):
        return f"reverting to the snapshot {some(names, _NAMES)} brings the old definition back"
    return ""


def why_not_started(guest: Guest, *, lately: bool = False) -> str | None:
    """Return why *guest*, which is off, must not be started for a look inside, or None.

    *lately*: other users of its images may be as they were a moment ago.
    """
    if system := guest.persistent.other_system:
        return othersystem.words(system)
    if guest.domain.hasManagedSaveImage(0):
        return "a start would resume its managed-save image"
    if system := manager(guest.persistent):
        return f"{system} manages it (metadata): start it there"
    if absent := guest.hypervisor.why_unstartable(guest.persistent):
        return f"{absent} (see machine-type)"
    policy = guest.persistent.root.findtext("on_poweroff")
    if policy in ("restart", "preserve"):
        return f"its on_poweroff is {policy}: it would not go off again"
    channels = guest.persistent.root.iterfind("devices/channel/target")
    if guest.ssh is None and not any(
        target.get("name") == AGENT_CHANNEL for target in channels
    ):
        return (
            "reclaim could not look inside: it has no guest agent channel, and the inventory does not name ssh "
            "for it"
        )
    if devices := host_devices.taken_by(guest, guest.persistent):
        return f"a start would take from the host: {some(devices, _NAMES)}"
    mine = image_users.uses(guest.hypervisor, guest.persistent.root, guest.name)
    return image_users.why_not_alone(guest, mine, lately=lately) or _why_no_room(guest)


def _why_no_room(guest: Guest) -> str | None:
    """A host that has to swap for a look inside serves its other guests badly. Huge pages are counted elsewhere."""
    if guest.persistent.root.find("memoryBacking/hugepages") is not None:
        return None
    ask = guest.hypervisor.connection.getMemoryStats
    stats: dict[str, int] = _asked(
        partial(ask, libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0), {}
    )  # KiB
    available = sum(stats.get(name, 0) for name in ("free", "buffers", "cached")) * 1024
    wanted = guest.domain.maxMemory() * 1024
    if not stats or wanted <= available:
        return None
    return f"it takes {size(wanted)} of memory, and the host has {size(available)} left"


# Who else has a say ---------------------------------------------------------------------------


def _why_not_transient(guest: Guest) -> str | None:
    if guest.is_persistent:
        return None
    return (
        "it is transient: it has no definition, and is gone when it stops; change the XML or the program that "
        "starts it"
    )


def manager(definition: Definition) -> str | None:
    """Return the system that writes this definition from its own records, by the metadata that it left, or None."""
    metadata = definition.root.find("metadata")
    for element in metadata if metadata is not None else ():
        if not isinstance(element.tag, str):
            continue
        name = etree.QName(element)
        for prefix, system in _MANAGERS:
            if (name.namespace or "").startswith(prefix):
                return system
        if _PROXMOX in f"{name.namespace} {name.localname}".lower():
            return "Proxmox VE"
    return None


def _why_not_managed(guest: Guest) -> str | None:
    system = manager(guest.persistent)
    if system is None:
        return None
    return (
        f"{system} manages it (metadata) and writes its definition again: change it there; "
        f"if it no longer manages the guest, remove {system}'s element from <metadata>"
    )


def _why_not_taken_by_libvirt(guest: Guest, change: DefinitionChange) -> str | None:
    absent = guest.hypervisor.why_unstartable(Definition(change.after))
    if absent is None:
        return None
    return f"{absent}, and libvirt refuses definitions with it (see machine-type)"


def _why_no_way_back(guest: Guest) -> str | None:
    """Return a reason if the running guest could not be started again on the definition that booted."""
    live = guest.live
    absent = guest.hypervisor.why_unstartable(live) if live is not None else None
    if absent is None:
        return None
    return (
        f"there would be no way back, as it runs on a machine type that cannot start again ({absent}): "
        "restart it by hand"
    )


def _why_not_confined(guest: Guest) -> str | None:
    """Return a reason if SELinux confines the agent: its commands read much, write little and would fail half way."""
    if not guest.has_facts or guest.facts.confined is None:
        return None
    way = (
        f"ssh does not get in: {guest.ssh_problem}"
        if guest.ssh_problem
        else f"name ssh for it in the inventory ([{table_of(guest.name)}.ssh]), or make the change by hand"
    )
    return f"SELinux confines the commands of its agent ({guest.facts.confined}), which must not write there; {way}"


def _why_not_running(guest: Guest) -> str | None:
    return (
        "it runs, and reclaim changes its images only while it is off"
        if guest.is_running
        else None
    )


# What is under way ----------------------------------------------------------------------------


def _why_not_with_a_job(guest: Guest) -> str | None:
    """Return a reason if a job copies or rewrites the definition or the disks: a change meanwhile would be lost."""
    if not guest.is_running:
        return None
    if tuple(guest.domain.state()[:2]) in _MIGRATES:
        return "it is being migrated: wait until that is over"
    stats: dict[str, int] = _asked(guest.domain.jobStats, {})
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE:
        return f"{_JOBS.get(stats.get('operation', 0), 'a job is running')}: wait until that is over"
    live = guest.live
    for disk in live.all_disks if live else ():
        if not disk.source:
            continue
        job: dict[str, int] = _asked(
            partial(guest.domain.blockJobInfo, disk.target, 0), {}
        )
        if job or "mirror" in disk.parts:
            work = (
                _BLOCK_JOBS.get(job.get("type", 0), "a block job")
                if job
                else "a mirror"
            )
            return f"{work} of disk {disk.target} is running: wait until that is over"
    return None


def _why_not_with_managed_save(guest: Guest) -> str | None:
    """Return a reason if there is a managed-save image: it has its own definition, which the next start resumes."""
    if not guest.domain.hasManagedSaveImage(0):
        return None
    return (
        "its managed-save image holds the hardware it was saved with, and the next start resumes that: "
        "start it, or discard that image (virsh managedsave-remove)"
    )


def _why_not_heard(guest: Guest) -> str | None:
    state, reason = guest.domain.state()[:2]
    if state == libvirt.VIR_DOMAIN_PAUSED:
        why = _PAUSED.get(reason)
        return f"it is paused{f' {why}' if why else ''}, and a paused guest cannot shut down: resume it"
    return _DEAF.get(state)


# What holds the hardware as it is -------------------------------------------------------------


@dataclass(frozen=True)
class _Alteration:
    """The hardware that a change of the definition alters, in words, and the target names that it drops or brings."""

    hardware: tuple[str, ...]
    targets: tuple[str, ...]


def _altered(change: DefinitionChange) -> _Alteration:
    """Attributes of a disk's driver are no hardware: the guest sees the same disk."""
    before, after = Definition(change.before), Definition(change.after)
    hardware = []
    if before.machine != after.machine:
        hardware.append("the machine type")
    if _controllers(before) != _controllers(after):
        hardware.append("a controller")
    matched, _, _ = pairs(before, after)
    hardware += [
        f"the bus of {disk.target}" for disk, other in matched if disk.bus != other.bus
    ]
    hardware += [
        f"the address of {disk.target}"
        for disk, other in matched
        if disk.bus == other.bus and disk.address and disk.address != other.address
    ]
    names = {disk.target for disk in before.all_disks} ^ {
        disk.target for disk in after.all_disks
    }
    return _Alteration(tuple(hardware), tuple(sorted(names)))


def _controllers(
    definition: Definition,
) -> set[tuple[str | None, str | None, str | None]]:
    elements = definition.root.iterfind("devices/controller")
    return {
        (element.get("type"), element.get("index"), element.get("model"))
        for element in elements
    }


def _moment_that_holds(guest: Guest, alteration: _Alteration) -> str | None:
    """A snapshot embeds a whole definition; a checkpoint, and the bitmaps of it, go by the names of targets."""
    hardware = ", ".join(alteration.hardware)
    if hardware and (names := _snapshots(guest)):
        return (
            f"the snapshot {some(names, _NAMES)} holds the hardware as it is, and {hardware} would change: "
            f"a revert brings the old hardware to a guest that is set up for the new; delete the snapshots first"
        )
    if alteration.targets and (names := _checkpoints(guest)):
        return (
            f"the checkpoint {some(names, _NAMES)} knows the disk by its target, and {', '.join(alteration.targets)} "
            f"would change: incremental backups would lose it; delete the checkpoints first, or keep the target's name "
            f'(inventory: policy.target = "keep")'
        )
    return None


def _snapshots(guest: Guest) -> list[str]:
    snapshots: list[libvirt.virDomainSnapshot] = _asked(
        guest.domain.listAllSnapshots, []
    )
    return [snapshot.getName() for snapshot in snapshots]


def _checkpoints(guest: Guest) -> list[str]:
    checkpoints: list[libvirt.virDomainCheckpoint] = _asked(
        guest.domain.listAllCheckpoints, []
    )
    return [checkpoint.getName() for checkpoint in checkpoints]


def _asked(ask: Callable[[], T], nothing: T) -> T:
    """Return libvirt's answer, or *nothing* if its driver has no such thing. Raises libvirtError for the rest."""
    try:
        return ask()
    except libvirt.libvirtError as exc:
        if exc.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return nothing
        raise


def _stands_on(guest: Guest) -> str | None:
    names = _snapshots(guest)
    return (
        f"the snapshot {some(names, _NAMES)} may depend on its image: delete the snapshots first"
        if names
        else None
    )


# What a power cycle would take ----------------------------------------------------------------


def _lost_by_power_cycle(guest: Guest) -> str | None:
    """Return a reason if a power cycle would lose what only the running QEMU has, or change a disk's image."""
    live = guest.live
    if live is None:
        return None
    policy = live.root.findtext("on_poweroff")
    if policy in ("restart", "preserve"):
        return f"its on_poweroff is {policy}: it would not go off when it shuts down"
    matched, attached, _ = pairs(live, guest.persistent)
    if attached:
        names = ", ".join(disk.target for disk in attached)
        return f"disk {names} is attached but not defined, a power cycle would lose it: define it or detach it first"
    for disk, other in matched:
        if disk.device in ("disk", "lun") and disk.identity != other.identity:
            return f"disk {disk.target} runs on {disk.place}, a start would use {other.place}: fix that first"
    for disk in live.disks:
        if disk.transient:
            return f"disk {disk.target} is transient: the data written to it since the start would be lost"
    gone = _plugged(live) - _plugged(guest.persistent)
    if gone:
        return f"{', '.join(sorted(gone))} is attached but not defined, a power cycle would lose it"
    return None


def _why_not_taken(guest: Guest) -> str | None:
    """Return a reason if a start would take a disk or device that is not attached and may be in use by others now."""
    live = guest.live
    if live is None:
        return None
    for disk in pairs(live, guest.persistent)[2]:
        if disk.source and (
            reason := image_users.why_not_alone(
                guest, image_users.uses_of_disk(guest, disk)
            )
        ):
            return (
                f"disk {disk.target} is defined and not attached, and {reason}: "
                "remove it from one of the two definitions"
            )
    here = set(host_devices.taken_by(guest, live))
    if new := [
        device
        for device in host_devices.taken_by(guest, guest.persistent)
        if device not in here
    ]:
        return f"{new[0]} is defined and not attached: a start would take it from the host, or from another guest"
    return None


def _why_not_shared(guest: Guest, paths: Iterable[str]) -> str | None:
    """Return a reason if others use the images at *paths*, which are written from outside while the guest is off."""
    return image_users.why_not_alone(
        guest, [image_users.written_from_outside(guest, path) for path in paths]
    )


def _why_not_mounted_by_hand(cycle: PowerCycle) -> str | None:
    strays = cycle.before.strays if cycle.before else []
    if not strays:
        return None
    return (
        f"{', '.join(strays)} is mounted, and neither fstab nor a unit mounts it at boot, "
        "so it would not come back: give it a line in fstab, or unmount it"
    )


def _plugged(definition: Definition) -> set[str]:
    """Return network interfaces by their MAC address, and host devices by their address or kind."""
    root = definition.root
    plugged = {
        f"interface {mac.get('address')}"
        for mac in root.iterfind("devices/interface/mac")
    }
    for source in root.iterfind("devices/hostdev/source"):
        # libvirt adds the address at which a USB device of that kind was found
        by_kind = source.find("vendor") is not None
        parts = [
            f"{key}={value}"
            for part in source.iter()
            if not (by_kind and part.tag == "address")
            for key, value in sorted(part.items())
        ]
        plugged.add(f"hostdev {' '.join(parts)}")
    return plugged
