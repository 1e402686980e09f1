"""Changes in a journal are refused unless this program makes such changes, to the guest that they are filed under."""

from __future__ import annotations

from reclaim.base.errors import ProbeError
from reclaim.changes.change import Change
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.domfstrim import TrimTimer
from reclaim.changes.file_change import FileChange
from reclaim.changes.live_update import LiveUpdate
from reclaim.changes.power import PowerCycle
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.changes.qcow2_amend import AmendCycle
from reclaim.definition.compare import flattened
from reclaim.definition.domain import Definition, parse_xml

#: the one command that follows the edit of a job: systemd has to see its unit (`job.daemon_reload`)
_AFTER_A_JOB = (None, "systemctl daemon-reload")


def expect(uuid: str, change: Change) -> None:
    """Raise ValueError if no fixer makes *change* for the guest with *uuid*; "" is the hypervisor."""
    if isinstance(change, HolePunch | SparseRewrite):
        _expect_of_the_hypervisor(uuid)
    elif not uuid:
        _expect_a_job(change)
    elif isinstance(change, DefinitionChange):
        _expect_guest(uuid, change.before, change.after)
    elif isinstance(change, PowerCycle):
        needed = isinstance(change, AmendCycle)
        _expect_guest(
            uuid, change.booted, *([change.defined] if change.defined or needed else [])
        )
    elif isinstance(change, LiveUpdate):
        _expect_driver_alone(change)
    elif isinstance(change, TrimTimer) and change.uuid != uuid:
        raise ValueError(
            f"the timer is of another guest: {change.uuid:.60}, not {uuid:.60}"
        )


def _expect_of_the_hypervisor(uuid: str) -> None:
    if uuid:
        raise ValueError(
            "the journal names a guest for a copy, which belongs to the hypervisor"
        )


def _expect_a_job(change: Change) -> None:
    """Raise ValueError unless *change* edits a declared job: on the hypervisor fixers change only jobs and copies."""
    if not isinstance(change, FileChange):
        wrong = f"no fixer makes a change of kind {change.kind} on the hypervisor"
        raise ValueError(wrong)  # noqa: TRY004 (a journal is wrong, no call)
    edits = (
        change.before is not None
        and change.after is not None
        and change.path.startswith("/")
    )
    if (
        not edits
        or change.verify is not None
        or change.devices
        or change.then not in _AFTER_A_JOB
    ):
        raise ValueError(
            f"no fixer changes {change.path!r:.200} on the hypervisor in this way"
        )


def _expect_guest(uuid: str, *definitions: str) -> None:
    """Raise ValueError unless all *definitions* carry *uuid*, and one name."""
    names = set()
    for xml in definitions:
        try:
            definition = Definition(xml)
            owner, name = definition.uuid.strip(), definition.name
        except (ProbeError, UnicodeError) as exc:
            raise ValueError(str(exc)) from exc
        if owner != uuid:
            raise ValueError(
                f"the definition is of another guest: its uuid is {owner or 'absent'!r:.60}, not {uuid:.60}"
            )
        names.add(name)
    if len(names) > 1 or "" in names:
        raise ValueError("the definitions have several names, or none")


def _expect_driver_alone(change: LiveUpdate) -> None:
    """Raise ValueError unless *change* keeps all but the driver's settings: never the source of a running disk."""
    try:
        disks = [
            parse_xml(xml, "disk")
            for xml in (change.before, change.after)
            if xml is not None
        ]
    except (ProbeError, UnicodeError) as exc:
        raise ValueError(str(exc)) from exc
    for disk in disks:
        target = disk.find("target")
        if disk.tag != "disk" or target is None or target.get("dev") != change.disk:
            raise ValueError(f"it is not the disk {change.disk!r:.60}")
        for driver in disk.findall("driver"):
            disk.remove(driver)
    if any(flattened(disk) != flattened(disks[0]) for disk in disks):
        raise ValueError(
            f"more than the driver of the disk {change.disk!r:.60} differs"
        )
