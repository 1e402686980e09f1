"""qcow2 0.10 made 1.1: a few bytes of the header, while nothing has the image open."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from reclaim.base.errors import (
    ChangeFailed,
    NotApplicable,
    NotAssessable,
    ProbeError,
    Withheld,
)
from reclaim.base.text import printable
from reclaim.changes.power import PowerCycle, booted_definition, is_active
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.health import observe
from reclaim.processes import limited
from reclaim.storage import block_node, host_image
from reclaim.storage.shrinkable import amend_command, inspect, obstacles, path_of

#: seconds for qemu-img, which writes one block
_SECONDS = 120


@dataclass(frozen=True)
class ImageAmend:
    """One image's header made version 3 (compat=1.1). Its content stays, and its backing file is not opened."""

    kind: ClassVar[str] = "image-amend"
    guest: str
    path: str

    @property
    def target(self) -> str:
        return printable(self.path)

    @property
    def diff(self) -> str:
        return amend_command(self.path)

    def apply(self, guest: Guest) -> dict[str, str]:
        if guest.domain.isActive():
            raise ChangeFailed(
                f"{guest.name}: it runs, and reclaim changes its image only while it is off"
            )
        amend(guest, self.path)
        return {"note": f"{self.path} is qcow2 1.1 now"}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return f"{self.path} stays qcow2 1.1, which every QEMU since 1.1 reads; its content is the same"


@dataclass(frozen=True)
class AmendCycle(PowerCycle):
    """A power cycle, and the images amended while the guest is off."""

    kind: ClassVar[str] = "amend-cycle"
    paths: list[str] = field(default_factory=list)

    @property
    def diff(self) -> str:
        commands = "; ".join(map(amend_command, self.paths))
        return f"shut down; {commands}; start, wait for it to answer; roll back if it does not"

    def resume(self, guest: Guest) -> dict[str, str]:
        """Amend, and bring the guest back whatever came of that. Raises ChangeFailed if an image was not amended."""
        trouble = ""
        if not is_active(guest):
            guest.hypervisor.progress(f"{guest.name}: amending its images")
            try:
                for path in self.paths:
                    _expect_image_of(guest, path)
                    amend(guest, path)
            except (ChangeFailed, ProbeError, NotAssessable) as exc:
                trouble = str(exc)
        outcome = super().resume(guest)
        if trouble:
            raise ChangeFailed(f"{trouble} ({outcome['note']})")
        return outcome


def amend(guest: Guest, path: str) -> None:
    """Make the qcow2 at *path* version 3. Raises ChangeFailed, and the image is as it was.

    QEMU's own lock keeps qemu-img from an image that something has open for writing.
    """
    hypervisor = guest.hypervisor
    name = block_node.filename(block_node.of_file(path, "qcow2"))
    command = "qemu-img amend -o compat=1.1 %s"
    result = limited.run(hypervisor.shell, _SECONDS, command, name)
    if result.rc != 0:
        # the name is long, and what follows it would be cut off
        errors = result.stderr.replace(name, path)
        why = limited.why_failed(result, _SECONDS, errors)
        raise ChangeFailed(f"{path}: qemu-img amend: {why}")
    if host_image.header(hypervisor, host_image.look(hypervisor, path)).version < 3:
        raise ChangeFailed(
            f"{path}: qemu-img amend reported no error and did not change the image"
        )


def _expect_image_of(guest: Guest, path: str) -> None:
    """Raise ChangeFailed if no disk of *guest* lies at *path*: a journal may name any file of the host."""
    for disk in guest.disks:
        with suppress(NotApplicable, NotAssessable):
            if path_of(disk) == path:
                return
    raise ChangeFailed(f"{path} is no image of {guest.name}; reclaim left it as it is")


def amendment(disk: Disk) -> ImageAmend | AmendCycle:
    """Return the change that amends the image of *disk*. A running guest is power-cycled once for all of its images.

    Raises Withheld if it runs and reclaim could not see whether it comes back.
    """
    guest = disk.guest
    path = inspect(disk).image.path
    if not guest.is_running:
        return ImageAmend(guest.name, path)
    by_hand = f"shut it down, {amend_command(path)}, and start it"
    try:
        answer = guest.inside()
    except NotAssessable as exc:
        raise Withheld(f"{exc}; {by_hand}") from exc
    if isinstance(answer, ProbeError):
        raise Withheld(
            f"reclaim cannot look inside (see guest-access), and so not see whether the guest comes back: {by_hand}"
        )
    paths = list(dict.fromkeys([path, *_to_amend(guest)]))
    why = "while it is off: " + ", ".join(map(amend_command, paths))
    return AmendCycle(
        guest.name,
        booted_definition(guest),
        observe(guest),
        why,
        guest.persistent.xml,
        paths,
    )


def _to_amend(guest: Guest) -> list[str]:
    """Return the paths of the images of *guest* that are to be amended."""
    paths = []
    for disk in guest.disks:
        try:
            inspected = inspect(disk)
        except (NotApplicable, NotAssessable, ProbeError):
            continue
        if any(obstacle.amend for obstacle in obstacles(inspected, guest.name)):
            paths.append(inspected.image.path)
    return paths
