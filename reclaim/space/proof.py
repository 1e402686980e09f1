"""The proof that a guest's freed space comes back: a canary written, deleted and trimmed, counted on the host."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from reclaim.base.cached import once
from reclaim.base.errors import NotApplicable, NotAssessable, ProbeError
from reclaim.base.text import size
from reclaim.handles.device import device_of
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.scsi import why_not_judged
from reclaim.inside.facts import Facts
from reclaim.inside.filesystems import TRIMMABLE, Filesystem, filesystems
from reclaim.space import counting, diagnosis
from reclaim.space.canary import MIB, Canary, NotPlanted
from reclaim.space.counting import Store

#: the share of a canary that has to come back: a filesystem may keep its ends in clusters that hold other data too
SHARE = 0.95
#: never more of the free space than this
_FREE_SHARE = 10
#: grains that a canary fills at least: then its two ends are less than the share that need not come back
_GRAINS = 64
#: a smaller canary drowns in the blocks that the filesystem writes to delete it
_SMALLEST = 4 * MIB
#: tries in a guest that writes so much that a proof is inconclusive
_TRIES = 3
#: the key in `Guest.learned` of a guest's proofs
_LEARNED = "proofs"
#: disks that are not known, as far as they are named
_SHOWN = 5


@dataclass(frozen=True)
class Proof:
    """The fate of the canary in one filesystem. Sizes in bytes.

    `arrived`: how much more the host held with it; `returned`: how much less without it, at most `canary`;
    `claimed`: the bytes that fstrim reports; `problem`: why there is no result; `excluded`: the requirement does not
    apply; `layer`: the layer that keeps the bytes; `note`: the obstacles that remain.
    """

    mount: str
    disks: tuple[str, ...]
    canary: int = 0
    arrived: int = 0
    returned: int = 0
    claimed: int | None = None
    problem: str = ""
    excluded: bool = False
    layer: str = ""
    note: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.problem and self.returned >= SHARE * self.canary

    @property
    def told(self) -> str:
        """The proof in words."""
        place = f"{self.mount} ({', '.join(self.disks)})" if self.disks else self.mount
        if self.problem:
            return f"{place}: {self.problem}"
        share = 100 * self.returned / self.canary
        text = f"{place}: of {size(self.canary)} written, {size(self.returned)} came back ({share:.0f} %)"
        if self.arrived < SHARE * self.canary:
            text += f", though the host had only {size(self.arrived)} more to hold"
        if not self.holds:
            if self.claimed is not None:
                text += f"; fstrim reports a trim of {size(self.claimed)}"
            return f"{text}: {self.layer}"
        if self.note:
            text += f"; {self.note}"
        return text


def prove(guest: Guest) -> tuple[Proof, ...]:
    """Prove each filesystem of *guest* that lies on an image, once: the proofs are kept until a change inside.

    Raises NotAssessable if there is no way to look inside, ProbeError if the guest does not answer as it should.
    """
    if _LEARNED not in guest.learned:
        try:
            guest.learned[_LEARNED] = tuple(_proofs(guest))
        finally:
            guest.hypervisor.progress("")
    proofs: tuple[Proof, ...] = guest.learned[_LEARNED]
    return proofs


def _proofs(guest: Guest) -> Iterator[Proof]:
    facts = guest.facts
    disks: dict[str, Disk] = {}
    for disk in guest.disks:
        device = device_of(disk)
        if device is not None:
            disks[device.path] = disk
    for filesystem in filesystems(facts):
        guest.hypervisor.progress(
            f"{guest.name}: a canary in {filesystem.mount.target}"
        )
        started = time.monotonic()
        proof = _proof(filesystem, _devices(facts, filesystem), disks)
        yield replace(proof, seconds=time.monotonic() - started)


def _proof(
    filesystem: Filesystem, below: Sequence[str], disks: Mapping[str, Disk]
) -> Proof:
    """Prove *filesystem*, which lies on the devices *below*, or return a proof with the problem. Raises ProbeError."""
    mount = filesystem.mount.target
    unknown = list(islice((path for path in below if path not in disks), _SHOWN))
    on = [disks[path] for path in below[: len(disks)] if path in disks]
    names = tuple(disk.target for disk in on)
    try:
        if unknown:
            raise NotAssessable(
                f"reclaim cannot find the disk of the definition that {', '.join(unknown)} is"
            )
        return _prove(filesystem, _stores(filesystem, on))
    except NotApplicable as exc:
        return Proof(mount, names, problem=str(exc), excluded=True)
    except NotAssessable as exc:
        return Proof(mount, names, problem=str(exc))
    except NotPlanted as exc:
        return Proof(mount, names, problem=f"no canary could be kept in it: {exc}")


def _devices(facts: Facts, filesystem: Filesystem) -> Sequence[str]:
    """Return the whole disks under a filesystem, in order: of a btrfs on several devices, those of each."""
    disks = {way[0].path for way in filesystem.ways}
    if filesystem.mount.fstype != "btrfs":
        return sorted(disks)
    together = _btrfs_disks(facts).get(filesystem.device.uuid or "")
    if together is None:
        return sorted(disks)
    if disks <= together.disks:
        return together.ordered
    return sorted(disks | together.disks)


class _Together(NamedTuple):
    """The whole disks under all devices with the UUID of one btrfs."""

    disks: frozenset[str]
    ordered: tuple[str, ...]


@once
def _btrfs_disks(facts: Facts) -> Mapping[str, _Together]:
    by_uuid: dict[str, set[str]] = {}
    for part in facts.devices:
        if part.fstype == "btrfs" and part.uuid:
            disks = by_uuid.setdefault(part.uuid, set())
            disks.update(way[0].path for way in facts.stack(part))
    return {
        uuid: _Together(frozenset(disks), tuple(sorted(disks)))
        for uuid, disks in by_uuid.items()
    }


def _stores(filesystem: Filesystem, disks: Sequence[Disk]) -> list[Store]:
    """Return the stores of *disks*.

    Raises NotAssessable if one cannot be counted, NotApplicable if one is not judged.
    """
    for disk in disks:
        reason = why_not_judged(disk)
        if reason:
            raise NotApplicable(f"{disk.target}: {reason}")
    mount = filesystem.mount
    if "ro" in mount.options:
        raise NotAssessable("it is mounted read-only")
    if mount.fstype not in TRIMMABLE:
        raise NotAssessable(f"{mount.fstype or 'it'} is nothing that fstrim trims")
    return [counting.store(disk) for disk in disks]


def _prove(filesystem: Filesystem, stores: Sequence[Store]) -> Proof:
    """Prove one filesystem, again if the guest writes too much meanwhile.

    Raises NotAssessable, NotPlanted, ProbeError.
    """
    guest = stores[0].disk.guest
    for _ in range(_TRIES):
        proof, noise = _once(guest, filesystem, stores)
        if proof.holds or proof.returned + noise < SHARE * proof.canary:
            return proof
    raise NotAssessable(
        f"inconclusive: of {size(proof.canary)} written, at least {size(proof.returned)} came back, "
        f"and writes of the guest meanwhile take up to {size(noise)}: prove it while the guest is idle"
    )


def _once(
    guest: Guest, filesystem: Filesystem, stores: Sequence[Store]
) -> tuple[Proof, int]:
    """Return the fate of one canary, and the most bytes that other writes can have taken meanwhile."""
    mount = filesystem.mount.target
    canary = Canary(guest.shell, guest.name, mount)
    _, free = canary.prepare()
    wanted = _canary_bytes(guest, free, max(store.grain for store in stores))
    before = counting.steady(stores)
    try:
        canary.plant(wanted // MIB)
        full = counting.settled(stores, lambda count: count - before >= SHARE * wanted)
        written = counting.written(stores)
        trimmed = canary.dig()
        brought = _brought(stores, wanted, full - before)
        left = counting.settled(stores, lambda count: full - count >= SHARE * brought)
        noise = counting.written(stores) - written
    finally:
        _leave_nothing(canary)
    returned = max(0, min(brought, full - left))
    kept_by = ""
    if returned < SHARE * brought:
        kept_by = diagnosis.layer(filesystem, stores, trimmed, wanted, returned)
    proof = Proof(
        mount,
        tuple(store.disk.target for store in stores),
        brought,
        max(0, full - before),
        returned,
        trimmed.claimed,
        layer=kept_by,
        note="; ".join(filter(None, map(diagnosis.older, stores))),
    )
    return proof, noise


def _brought(stores: Sequence[Store], wanted: int, arrived: int) -> int:
    """Return the bytes that have to come back."""
    if len(stores) == 1:
        return wanted
    # a mirror in the guest writes it twice, and has to give both back
    return max(wanted, arrived)


def _leave_nothing(canary: Canary) -> None:
    """End the remains of it in the guest; if the guest does not answer, they end by themselves."""
    try:
        canary.sweep()
    except (ProbeError, NotPlanted):
        return


def _canary_bytes(guest: Guest, free: int, grain: int) -> int:
    """Return the size of the canary: whole MiB and whole grains. Raises NotAssessable if it drowns in noise."""
    unit = max(MIB, grain)
    wanted = max(guest.policy.canary_mib * MIB, _GRAINS * grain)
    length = min(wanted, free // _FREE_SHARE) // unit * unit
    if length < max(_SMALLEST, _GRAINS // 4 * grain):
        raise NotAssessable(
            f"{size(free)} are free: a tenth of that is too small a canary to stand out from noise"
        )
    return length
