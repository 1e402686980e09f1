"""The check of a copy of a disk image: its content against the image, and whether a restore would be sparse."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from reclaim.backups import backup
from reclaim.base import typed
from reclaim.base.errors import NotAssessable, ProbeError, ReclaimError
from reclaim.base.text import printable, size
from reclaim.files import holes
from reclaim.files.beneath import File
from reclaim.handles.guest import Disk
from reclaim.handles.hypervisor import Hypervisor
from reclaim.storage import block_node, image_users, local_image
from reclaim.storage.local_image import Format, Image

Say = Callable[[str], None]

#: seconds for reading two images of any size; who waits can press Ctrl-C
_SECONDS = 24 * 3600
_DEEPEST = 32


@dataclass(frozen=True)
class _Opened:
    """A file that is open, how it is called, and its format."""

    descriptor: int
    path: str
    image: Image


def verify(
    copy: str, hypervisor: Hypervisor | None, given: str | None, say: Say
) -> bool:
    """Compare *copy* with the image *given*, or with that of the disk it is matched to. True if they are alike.

    Without a hypervisor no guests are known: then QEMU's own lock on a given image shows whether one runs.
    Raises ReclaimError if they cannot be compared: a guest runs on the image, a file cannot be read.
    """
    try:
        with ExitStack() as stack:
            descriptor = _open_copy(copy, stack)
            watch = stack.enter_context(holes.unwritten(descriptor, copy))
            disk = _disk_of(copy, hypervisor)
            source, description = _source(copy, hypervisor, given, disk, stack)
            declared = backup.format_of_copy(copy, disk)
            if (
                disk is None
                and source.image.format == "raw"
                and not local_image.is_called_qcow2(copy)
            ):
                declared = "raw"
            ours = _Opened(
                descriptor,
                copy,
                local_image.identify(descriptor, copy, declared=declared),
            )
            alike = _compare(ours, source, stack, watch)
            verdict = "the same content as" if alike else "NOT the content of"
            say(f"{printable(copy)}: {verdict} {printable(description)}")
            say(f"{printable(copy)}: {_restore(ours)}")
    except NotAssessable as exc:
        raise ReclaimError(str(exc)) from exc
    return alike


def _open_copy(copy: str, stack: ExitStack) -> int:
    """The copy open, as every look at a copy opens it (`reclaim.files.beneath`)."""
    try:
        descriptor = File.at(copy).open(label=copy)
    except OSError as exc:
        raise ProbeError(f"{copy}: {exc.strerror}") from exc
    stack.callback(os.close, descriptor)
    return descriptor


def _disk_of(copy: str, hypervisor: Hypervisor | None) -> Disk | None:
    """The disk that the copy is called after, or None."""
    if hypervisor is None:
        return None
    disks = backup.candidates(
        disk for guest in hypervisor.guests for disk in guest.disks
    )
    return backup.match(os.path.abspath(copy), disks)  # noqa: PTH100


def _source(
    copy: str,
    hypervisor: Hypervisor | None,
    given: str | None,
    disk: Disk | None,
    stack: ExitStack,
) -> tuple[_Opened, str]:
    """The image that the copy is compared with, and its name to the user. Its definition says its format."""
    if given is None and hypervisor is None:
        raise ReclaimError(
            f"{copy}: reclaim needs libvirt to find its image: give --image"
        )
    path = given if given is not None else disk.path if disk is not None else None
    if path is None:
        raise ReclaimError(
            f"{copy}: its name matches no disk of a guest, or several: give --image"
        )
    descriptor = holes.open_file(path)
    stack.callback(os.close, descriptor)
    if hypervisor is not None:
        _expect_still(descriptor, path, hypervisor)
    declared = (
        _declared_format(disk, path, given=given is not None)
        if disk is not None
        else None
    )
    image = local_image.identify(descriptor, path, declared=declared)
    if image.qcow2 and disk is None and not local_image.is_called_qcow2(path):
        # a guest that has it as its raw disk may have written that, and all its content would count for nothing
        raise ReclaimError(
            f"{path}: neither a definition nor its name marks it as qcow2: not compared"
        )
    description = (
        path
        if given is not None or disk is None
        else f"{path} ({disk.guest.name}, {disk.name})"
    )
    return _Opened(descriptor, path, image), description


def _declared_format(disk: Disk, path: str, *, given: bool) -> Format | None:
    """Return the disk's format by its definition.

    None for an image that was *given*, and may be in another format than the disk.
    """
    declared = disk.driver.get("type", "raw")
    if declared == "raw":
        return (
            None
            if given and path != disk.path and local_image.is_called_qcow2(path)
            else "raw"
        )
    if declared == "qcow2":
        return None if given else "qcow2"
    if given:
        return None
    raise ReclaimError(
        f"{path}: its format is {declared}: only raw and qcow2 are compared"
    )


def _expect_still(descriptor: int, path: str, hypervisor: Hypervisor) -> None:
    """Raise ReclaimError if a running guest writes to the image, or that cannot be told."""
    for use in image_users.users_of(hypervisor, os.fstat(descriptor)):
        if use.runs and not hypervisor.is_test_driver:
            raise ReclaimError(
                f"{path}: the guest {use.guest} is running on it: shut it off, or give --image a snapshot"
            )


def _compare(
    ours: _Opened, source: _Opened, stack: ExitStack, watch: Callable[[], None]
) -> bool:
    """Return True if both have the same content. Raises ReclaimError if qemu-img cannot compare them."""
    chain = _backing(source, stack, _DEEPEST)
    if ours.image.qcow2 and ours.image.qcow2.backing and chain is None:
        raise ReclaimError(
            f"{ours.path}: it depends on a backing file, and the image has none: they cannot be compared"
        )
    for file in (ours, source):
        if file.image.qcow2 and (
            file.image.qcow2.external_data or file.image.qcow2.encrypted
        ):
            raise ReclaimError(
                f"{file.path}: an external data file or encryption: not compared"
            )
    # the copy's own header says whose backing file it wants: the image's is what it gets
    over = chain if ours.image.qcow2 and ours.image.qcow2.backing else None
    nodes = [
        local_image.node(ours.descriptor, ours.image, over),
        local_image.node(source.descriptor, source.image, chain),
    ]
    asked = ["compare", *map(block_node.filename, nodes)]
    status, _, errors = local_image.qemu_img(
        asked, tuple(_descriptors(nodes)), ours.path, seconds=_SECONDS, watch=watch
    )
    if status not in (0, 1):
        raise ReclaimError(
            f"{ours.path}: qemu-img cannot compare: {errors.removeprefix('qemu-img: ')}"
        )
    return status == 0


def _backing(
    image_file: _Opened, stack: ExitStack, deepest: int
) -> dict[str, Any] | None:
    """The chain below an image that is ours: its guest runs on it, or the user named it."""
    name = image_file.image.qcow2.backing if image_file.image.qcow2 else None
    if name is None:
        return None
    if deepest == 0 or ":" in name.partition("/")[0]:
        raise ReclaimError(
            f"{image_file.path}: its backing file {printable(name)} is no file that reclaim could open"
        )
    kind = local_image.named_files(
        image_file.descriptor, image_file.image, image_file.path
    ).backing_format
    if kind not in ("raw", "qcow2"):
        # QEMU would guess, by bytes that a guest may have written
        raise ReclaimError(
            f"{image_file.path}: it does not declare its backing file as raw or qcow2 (qemu-img rebase -u -F)"
        )
    path = str(PurePosixPath(image_file.path).parent / name)
    descriptor = holes.open_file(path)
    stack.callback(os.close, descriptor)
    below = _Opened(
        descriptor, path, local_image.identify(descriptor, path, declared=kind)
    )
    return local_image.node(
        descriptor, below.image, _backing(below, stack, deepest - 1)
    )


def _descriptors(nodes: list[dict[str, Any]]) -> list[int]:
    numbers = []
    for node in nodes:
        numbers.append(int(node["file"]["filename"].rpartition("/")[2]))
        if node.get("backing"):
            numbers += _descriptors([node["backing"]])
    return list(dict.fromkeys(numbers))


def _restore(copy: _Opened) -> str:
    """Return words for the bytes that a restore of the copy would take."""
    try:
        scan = holes.scan_open(copy.descriptor, copy.path)
    except OSError as exc:
        raise ProbeError(f"{copy.path}: {exc.strerror}") from exc
    total = size(scan.identity.size)
    if scan.excess > backup.tolerated(scan.needed):
        folder = str(PurePosixPath(copy.path).parent)
        mend = typed.command("fix", "--backups", folder, stand=typed.here())
        return (
            f"a restore would NOT be sparse unless it looks for zeros: it would take {size(scan.allocated)} "
            f"of {total}, and {size(scan.needed)} are needed; to mend the copies in its folder: {mend}"
        )
    return f"a restore that keeps holes (cp, rsync --sparse, qemu-img convert) takes {size(scan.needed)} of {total}"
