"""Is a copy of a disk image good? Its content against the image, and whether a restore would be sparse."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from reclaim import backup, holes, image
from reclaim.errors import NotAssessable, ProbeError, ReclaimError
from reclaim.guest import Disk
from reclaim.hypervisor import Hypervisor
from reclaim.image import Format, Image
from reclaim.text import printable, size

Say = Callable[[str], None]

#: seconds for reading two images of any size; who waits can press Ctrl-C
_SECONDS = 24 * 3600
_DEEPEST = 32


@dataclass(frozen=True)
class Source:
    """The image that a copy is compared with, and its format where the guest's definition says it."""

    path: str
    format: Format | None
    words: str


def verify(copy: str, hypervisor: Hypervisor | None, given: str | None, say: Say) -> bool:
    """Compare *copy* with the image *given*, or with that of the disk it is matched to. True where they are alike.

    Without a hypervisor nobody knows of guests: QEMU's own lock on a given image is what tells then.
    Raises ReclaimError where they cannot be compared: a guest runs on the image, a file cannot be read.
    """
    try:
        source = _source(copy, hypervisor, given)
        alike = _compare(copy, source)
        say(f"{printable(copy)}: {'the same content as' if alike else 'NOT the content of'} {printable(source.words)}")
        say(f"{printable(copy)}: {_restore(copy)}")
    except NotAssessable as exc:
        raise ReclaimError(str(exc)) from exc
    return alike


def _source(copy: str, hypervisor: Hypervisor | None, given: str | None) -> Source:
    if given is not None:
        if hypervisor is not None:
            _expect_still(given, hypervisor)
        return Source(given, None, given)
    if hypervisor is None:
        raise ReclaimError(f"{copy}: there is no libvirt that could tell its image: give --image")
    disks = backup.candidates(disk for guest in hypervisor.guests for disk in guest.disks)
    disk = backup.match(os.path.abspath(copy), disks)  # noqa: PTH100
    if disk is None or disk.path is None:
        raise ReclaimError(f"{copy}: its name fits no disk of a guest, or several: give --image")
    _expect_still(disk.path, hypervisor)
    return Source(disk.path, _declared_format(disk), f"{disk.path} ({disk.guest.name}, {disk.name})")


def _declared_format(disk: Disk) -> Format:
    declared = disk.driver.get("type", "raw")
    if declared == "raw":
        return "raw"
    if declared == "qcow2":
        return "qcow2"
    raise ReclaimError(f"{disk.path}: its format is {declared}: only raw and qcow2 are compared")


def _expect_still(path: str, hypervisor: Hypervisor) -> None:
    """Raises ReclaimError where a running guest writes to the image, or one that cannot be told."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as exc:
        raise ProbeError(f"{path}: {exc.strerror}") from exc
    name = backup.users(hypervisor).get((status.st_dev, status.st_ino))
    guest = next((one for one in hypervisor.guests if one.name == name), None)
    if guest is not None and guest.is_running and not hypervisor.is_test_driver:
        raise ReclaimError(f"{path}: the guest {guest.name} is running on it: shut it off, or give --image a snapshot")


def _compare(copy: str, source: Source) -> bool:
    """Raises ReclaimError where qemu-img cannot tell."""
    with ExitStack() as stack:
        ours, theirs = _open(copy, stack), _open(source.path, stack)
        if source.format == "raw":
            theirs = (theirs[0], Image("raw"))  # a guest can write any header into its raw disk
        chain = _backing(theirs[1], source.path, stack, _DEEPEST)
        if ours[1].qcow2 and ours[1].qcow2.backing and chain is None:
            raise ReclaimError(f"{copy}: it depends on a backing file, and the image has none: they cannot be compared")
        for path, (_, one) in ((copy, ours), (source.path, theirs)):
            if one.qcow2 and (one.qcow2.external_data or one.qcow2.encrypted):
                raise ReclaimError(f"{path}: an external data file or encryption: not compared")
        # the copy's own header says whose backing file it wants: the image's is what it gets
        over = chain if ours[1].qcow2 and ours[1].qcow2.backing else None
        nodes = [image.node(*ours, over), image.node(*theirs, chain)]
        inherited = tuple(_descriptors(nodes))
        status, _, errors = image.qemu_img(["compare", *map(image.filename, nodes)], inherited, copy, seconds=_SECONDS)
    if status not in (0, 1):
        raise ReclaimError(f"{copy}: qemu-img cannot compare: {errors.removeprefix('qemu-img: ')}")
    return status == 0


def _open(path: str, stack: ExitStack) -> tuple[int, Image]:
    descriptor, found = image.open_image(path)
    stack.callback(os.close, descriptor)
    return descriptor, found


def _backing(one: Image, path: str, stack: ExitStack, deepest: int) -> dict[str, Any] | None:
    """The chain below an image that is ours: its guest runs on it, or the user named it."""
    name = one.qcow2.backing if one.qcow2 else None
    if name is None:
        return None
    if deepest == 0 or ":" in name.partition("/")[0]:
        raise ReclaimError(f"{path}: its backing file {printable(name)} is no file that could be followed")
    below = str(PurePosixPath(path).parent / name)
    descriptor, found = _open(below, stack)
    return image.node(descriptor, found, _backing(found, below, stack, deepest - 1))


def _descriptors(nodes: list[dict[str, Any]]) -> list[int]:
    found = []
    for one in nodes:
        found.append(int(one["file"]["filename"].rpartition("/")[2]))
        if one.get("backing"):
            found += _descriptors([one["backing"]])
    return list(dict.fromkeys(found))


def _restore(copy: str) -> str:
    """What a restore of the copy would take."""
    found = holes.scan(copy)
    total = size(found.identity.size)
    if found.excess > backup.tolerated(found.needed):
        return (
            f"a restore would NOT be sparse unless it looks for zeros: it would take {size(found.allocated)} "
            f"of {total}, and {size(found.needed)} are needed (pytest checks/ --backups DIR --fix)"
        )
    return f"a restore that keeps holes (cp, rsync --sparse, qemu-img convert) takes {size(found.needed)} of {total}"
