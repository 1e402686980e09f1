"""results.json: the one record of a run. Everything else that is shown is read from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt

import reclaim
from reclaim.backlog import known_backlog
from reclaim.errors import NotAssessable, ProbeError, ReclaimError
from reclaim.guest import Disk, Guest
from reclaim.hypervisor import Hypervisor
from reclaim.report import whole
from reclaim.secret import redacted, redacted_arguments
from reclaim.storage import device_of, need
from reclaim.text import printable

if TYPE_CHECKING:
    from reclaim.run import Options, Part

NAME = "results.json"
SCHEMA = 1


@dataclass
class Storage:
    """What one disk takes. Sizes in bytes; None where nobody could count."""

    guest: str
    disk: str
    path: str | None
    virtual: int | None
    allocated_before: int | None
    allocated_after: int | None
    used: int | None
    #: what a trim gives back at least
    reclaimable_before: int | None = None
    reclaimable_after: int | None = None


def measure(
    hypervisor: Hypervisor, guests: Iterable[Guest], storage: dict[tuple[str, str], Storage], *, after: bool
) -> None:
    """Count what the disks of *guests* take on the host, before anything is changed or *after*."""
    disks = [(disk, disk.view) for guest in guests for disk in _file_disks(guest)]
    blocks = hypervisor.allocated_each([str(view.path) for _, view in disks])
    for guest, several in groupby(disks, key=lambda one: one[0].guest):
        with guest.contained():
            for disk, view in several:
                _count(disk, storage, blocks.get(str(view.path)), after=after)
        guest.lighten()


def _count(disk: Disk, storage: dict[tuple[str, str], Storage], allocated: int | None, *, after: bool) -> None:
    key = (disk.guest.name, _name_before(disk))
    if key not in storage:
        storage[key] = Storage(*key, disk.path, _capacity(disk), allocated, allocated, None)
    storage[key].allocated_after = allocated
    if not _runs(disk.guest):
        return  # one that is off again keeps what was seen while it ran
    storage[key].used = _used(disk) if after or storage[key].used is None else storage[key].used
    spare = known_backlog(disk) if disk.guest.has_facts and allocated is not None else None
    storage[key].reclaimable_after = spare.reclaimable if spare else None
    if not after:
        storage[key].reclaimable_before = storage[key].reclaimable_after


def _file_disks(guest: Guest) -> list[Disk]:
    try:
        return [disk for disk in guest.disks if disk.path and disk.view.type == "file"]
    except (libvirt.libvirtError, ProbeError):
        return []  # the guest is gone, or its definition cannot be read; the checks say so


def _runs(guest: Guest) -> bool:
    try:
        return guest.is_running
    except libvirt.libvirtError:
        return False


def _name_before(disk: Disk) -> str:
    """The target under which the run began."""
    return next((old for old, new in disk.guest.renamed.items() if new == disk.name), disk.name)


def _capacity(disk: Disk) -> int | None:
    try:
        return int(disk.guest.domain.blockInfo(disk.path or "")[0])
    except libvirt.libvirtError:
        return None  # the image is gone, or the driver cannot tell


def _used(disk: Disk) -> int | None:
    if not disk.guest.has_facts:
        return None
    try:
        device = device_of(disk)
        return need(disk.guest.facts, device) if device else None
    except (NotAssessable, ProbeError):
        return None


def reclaimed(storage: Iterable[Storage]) -> int:
    """Bytes that came home: what the host holds less than before, over all disks; never below 0."""
    changes = (
        one.allocated_before - one.allocated_after
        for one in storage
        if one.allocated_before is not None and one.allocated_after is not None
    )
    return max(0, sum(changes))


def document(
    run_id: str, options: Options, started: datetime, ended: datetime, part: Part, *, cut_short: bool = False
) -> dict[str, Any]:
    """The record of one hypervisor's part of a run, as results.json has it (schema 1)."""
    hypervisor = part.hypervisor
    return {
        "schema": SCHEMA,
        "run": {
            "id": run_id,
            "mode": options.mode,
            "started": rfc3339(started),
            "ended": rfc3339(ended),
            "version": reclaim.__version__,
            "arguments": [printable(argument) for argument in redacted_arguments(options.arguments)],
            "cut_short": cut_short,
        },
        "hypervisor": {
            "name": hypervisor.name,
            "uri": redacted(hypervisor.uri),
            "libvirt": hypervisor.libvirt_version,
            "qemu": hypervisor.qemu_version,
        },
        "results": [result.to_json() for result in part.engine.results.values()],
        "storage": [asdict(one) for one in part.storage.values()],
        "reclaimed_bytes": reclaimed(part.storage.values()) + part.engine.freed,
    }


def mark_undone(folder: Path, undone: Iterable[tuple[str, str, str]]) -> None:
    """Let the record in *folder* say that changes were taken back: guest, requirement and target of each.

    The first that was applied and not undone is meant. A run that was killed has no record. Raises ReclaimError
    where it is no record, OSError where it cannot be written.
    """
    path = folder / NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for guest, requirement, target in undone:
            changes = [
                change
                for row in record["results"]
                if (row["requirement"], row["guest"]) == (requirement, guest or None)
                for change in row["changes"]
                if change["target"] == redacted(target) and change["applied"] and not change["undone"]
            ]
            for change in changes[:1]:
                change["undone"] = True
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ReclaimError(f"{path}: not a record of a run, so it does not say what was taken back: {exc}") from exc
    write(folder, written(record))


def write(folder: Path, text: str) -> None:
    """Write the record *text* into *folder*, whole or not at all."""
    whole.write(folder / NAME, [text], durable=True)


def written(record: dict[str, Any]) -> str:
    """*record* as JSON, one row a line: people can read it, diff compares it, and it is fast to write."""
    parts = []
    for key, value in record.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n]"
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def point_latest(folder: Path) -> None:
    """Let `latest`, beside *folder*, lead to it."""
    temporary = folder.parent / ".latest.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    temporary.replace(folder.parent / "latest")


def rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
