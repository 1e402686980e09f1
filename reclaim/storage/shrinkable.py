"""The obstacles that keep an image from shrinking. Plain functions on values; `inspect` gathers the values.

The effect of a discard on each layer was measured with QEMU 7.2: 16 MiB written, discarded with discard=unmap,
the file's blocks counted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import libvirt

from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.base.text import counted, libvirt_words, size
from reclaim.definition.domain import DiskView, backing_stores
from reclaim.handles.guest import Disk
from reclaim.handles.node import Node
from reclaim.storage import host_image, volumes
from reclaim.storage.host_image import HostImage, Punch
from reclaim.storage.qcow2 import Qcow2

#: formats that accept discards and keep every block (their drivers in QEMU's block/ have no pdiscard, or one that
#: frees nothing in the file); libvirt's names
_KEEPS_ALL = frozenset(
    (
        "bochs",
        "cloop",
        "cow",
        "dmg",
        "ploop",
        "qcow",
        "qed",
        "vdi",
        "vhd",
        "vmdk",
        "vpc",
    )
)
_DEEPEST = 30
#: an image may hold this much beyond what its disk and its tables can take: bitmaps, rounding
_SLACK = 64 * 1024 * 1024
#: the cluster of qemu-img create
_USUAL_CLUSTER = 64 * 1024


@dataclass(frozen=True)
class Obstacle:
    """The reason that an image does not shrink, and its remedy.

    `amend`: qemu-img amend mends it while the guest is off.
    """

    what: str
    remedy: str
    amend: bool = False


@dataclass(frozen=True)
class Inspected:
    """One disk's image: its format as it is defined, the answers of the host, and the layers below."""

    format: str
    encrypted: bool
    image: HostImage
    qcow2: Qcow2 | None = None
    snapshots: tuple[str, ...] = ()
    #: None for devices, and if `unprobed` has the reason why it could not be tried
    punch: Punch | None = None
    unprobed: str = ""
    #: the backing files as libvirt names them, and the bytes that they hold
    bases: tuple[str, ...] = ()
    base_bytes: int = 0


# Gathering ------------------------------------------------------------------------------------


def path_of(disk: Disk) -> str:
    """Return the path of the image on the hypervisor.

    Raises NotApplicable and NotAssessable for a disk without one there.
    """
    view = disk.view
    if view.type == "volume":
        return _volume(disk, view)
    if view.type == "nvme":
        raise NotApplicable("an NVMe namespace passed through: there is no image")
    if view.type == "network":
        protocol = view.source.get("protocol", "unknown protocol")
        raise NotAssessable(
            f"a network disk ({protocol}): its storage cannot be looked at from here"
        )
    if view.path is None:
        raise NotAssessable(f"a disk of type {view.type} without a path")
    if disk.guest.hypervisor.is_test_driver:
        raise NotAssessable(
            "libvirt's test driver: there are no images behind its disks"
        )
    return view.path


def _volume(disk: Disk, view: DiskView) -> str:
    pool, volume = view.source.get("pool", ""), view.source.get("volume", "")
    try:
        path = volumes.path(disk.guest.hypervisor.connection, pool, volume)
    except libvirt.libvirtError as exc:
        raise NotAssessable(
            f"the volume {volume} of pool {pool}: {libvirt_words(exc)}"
        ) from exc
    if not path.startswith("/"):
        raise NotAssessable(
            f"a network disk (volume {volume} of pool {pool}): its storage cannot be looked at here"
        )
    return path


def inspect(disk: Disk) -> Inspected:
    """Look at the image of *disk*. Raises NotApplicable, NotAssessable, ProbeError."""
    hypervisor, view = disk.guest.hypervisor, disk.view
    image = host_image.look(hypervisor, path_of(disk))
    if image.mapper == "LVM" and not image.targets:
        raise NotAssessable(
            f"{image.path}: a logical volume, and dmsetup does not report its kind (is reclaim run as root?)"
        )
    kind = view.driver.get("type", "raw")
    # the definition decides the format: into a raw disk the guest may write any header
    head = host_image.header(hypervisor, image) if kind == "qcow2" else None
    punch, unprobed = _punch(hypervisor, image)
    bases = tuple(_bases(disk))
    held = hypervisor.allocated_each(list(bases))
    return Inspected(
        kind,
        _is_encrypted(view),
        image,
        head,
        tuple(host_image.snapshots(hypervisor, image, head)) if head else (),
        punch,
        unprobed,
        bases,
        sum(held.values()),
    )


def _punch(hypervisor: Node, image: HostImage) -> tuple[Punch | None, str]:
    """Return how the filesystem of *image* takes holes, or None and why it could not be tried; both empty for a device.

    Raises ProbeError.
    """
    if image.is_device:
        return None, ""
    try:
        return host_image.punched(hypervisor, image), ""
    except NotAssessable as exc:
        return None, str(exc)


def _is_encrypted(view: DiskView) -> bool:
    """True if QEMU encrypts the disk; libvirt takes `<encryption>` in the source and beside it."""
    element = view.element
    in_source = element.find("source/encryption")
    return in_source is not None or element.find("encryption") is not None


def _bases(disk: Disk) -> Iterator[str]:
    """Yield the backing files that libvirt names; names in headers are not followed."""
    view = disk.guest.live_disk(disk.view) or disk.view
    for layer in islice(backing_stores(view.element), _DEEPEST):
        source = layer.find("source")
        if source is None:
            return
        path = source.get("file")
        if path:
            yield str(path)


# Judging --------------------------------------------------------------------------------------


def obstacles(inspected: Inspected, guest: str) -> list[Obstacle]:
    """Return the obstacles that keep the image from giving discarded space back; none if it can shrink."""
    return [
        *_of_format(inspected),
        *_of_snapshots(inspected, guest),
        *_of_storage(inspected),
    ]


def _of_format(inspected: Inspected) -> Iterator[Obstacle]:
    path = shlex.quote(inspected.image.path)
    if inspected.format in _KEEPS_ALL:
        yield Obstacle(
            f"the format {inspected.format} keeps every block that was ever written",
            f"while the guest is off: qemu-img convert -p -f {inspected.format} -O qcow2 {path} {path}.qcow2, "
            "and let the definition name the new image",
        )
    if inspected.encrypted and inspected.format != "qcow2":
        # block/crypto.c has no pdiscard: QEMU answers yes and drops it
        yield Obstacle(
            f"a {inspected.format} image that QEMU encrypts (LUKS) takes discards and keeps every block",
            "move it into a qcow2 that is encrypted: there discards free clusters",
        )
    if inspected.qcow2 is not None:
        yield from _of_qcow2(inspected.image, inspected.qcow2)


def _of_qcow2(image: HostImage, head: Qcow2) -> Iterator[Obstacle]:
    if head.version < 3 and head.backing:
        # block/qcow2.c: qcow2_co_pwrite_zeroes and the discard give up below version 3 with a backing file
        yield Obstacle(
            f"qcow2 0.10 over the backing file {head.backing}: discards free nothing",
            f"while the guest is off: {amend_command(image.path)}",
            amend=True,
        )
    if image.is_device or head.snapshots or head.external_data:
        return  # then more than the disk lies there, or less
    most = head.virtual + head.tables
    most += most // 20 + _SLACK
    held = image.inside
    if held is not None and held > most:
        path = shlex.quote(image.path)
        over = f"-B {shlex.quote(head.backing)} -F FORMAT " if head.backing else ""
        yield Obstacle(
            f"the file holds {size(held)} for a disk of {size(head.virtual)}: clusters that are no longer in use",
            # a cluster freed while discards were off is no leak: it is free, and held all the same
            f"while the guest is off: qemu-img check -r leaks -f qcow2 {path}; if that finds none, a copy is "
            f"without them: qemu-img convert -f qcow2 -O qcow2 {over}{path} {path}.new",
        )


def _of_snapshots(inspected: Inspected, guest: str) -> Iterator[Obstacle]:
    head = inspected.qcow2
    if head is None or not head.snapshots:
        return
    names = ", ".join(inspected.snapshots) or "without readable names"
    unnamed = head.snapshots - len(inspected.snapshots)
    if unnamed > 0:
        names += f" and {unnamed} more"
    name = shlex.quote(inspected.snapshots[0]) if inspected.snapshots else "NAME"
    yield Obstacle(
        f"{counted(head.snapshots, 'internal snapshot')} ({names}): a trim in the guest does not free their blocks",
        f"if it is no longer needed: virsh snapshot-delete {shlex.quote(guest)} {name} (one that libvirt does not "
        f"know, while the guest is off: qemu-img snapshot -d {name} {shlex.quote(inspected.image.path)})",
    )


def _of_storage(inspected: Inspected) -> Iterator[Obstacle]:
    image = inspected.image
    if inspected.punch is not None:
        yield from _of_holes(image, inspected.punch)
    if image.is_device and not is_thick(inspected) and image.discard_max == 0:
        yield Obstacle(
            f"{image.path} takes no discards (discard_max_bytes is 0)",
            _device_remedy(image),
        )


def _of_holes(image: HostImage, punch: Punch) -> Iterator[Obstacle]:
    filesystem = f"the filesystem of {image.folder} ({image.filesystem})"
    if punch.refused:
        remedy = "move the image to one that does (ext4, xfs, btrfs, zfs, tmpfs)"
        if image.filesystem == "nfs":
            remedy += "; NFS has holes from version 4.2 on (mount option vers=4.2)"
        yield Obstacle(f"{filesystem} punches no holes: {punch.refused}", remedy)
    elif not punch.frees:
        yield Obstacle(
            f"{filesystem} takes holes and keeps the blocks",
            "move the image to one that frees them, or find the cause that keeps them (a snapshot of it?)",
        )


def _device_remedy(image: HostImage) -> str:
    if "thin" in image.targets:
        return "let its thin pool pass them on: lvchange --discards passdown POOL (or nopassdown)"
    return "look below it: each layer has /sys/block/NAME/queue/discard_max_bytes"


def is_thick(inspected: Inspected) -> bool:
    """True if it is a logical volume that keeps its size whatever is discarded.

    One of VDO is mapped linearly onto its pool (LVM's lib/vdo/vdo.c), which frees discarded blocks.
    """
    image = inspected.image
    return image.mapper == "LVM" and not {"thin", "vdo"} & {
        *image.targets,
        *image.below,
    }


def thick_words(image: HostImage) -> str:
    """Return why nothing is asked of a thick logical volume."""
    below = (
        f"go on to the disks below it (discard_max_bytes {image.discard_max})"
        if image.discard_max
        else "end there"
    )
    return f"a thick logical volume keeps its size, even after discards: they {below}"


def notes(inspected: Inspected, granularity: int | None = None) -> list[str]:
    """Return notes on an image that can shrink. *granularity*: the smallest hole that the guest trims, in bytes."""
    lines = [_what(inspected)]
    head, image, punch = inspected.qcow2, inspected.image, inspected.punch
    if head is not None:
        lines += _notes_of_qcow2(image, head, granularity)
    if inspected.bases:
        count = len(inspected.bases)
        plural = "s" if count > 1 else ""
        named = ", ".join(inspected.bases[:3]) + (" …" if count > 3 else "")
        lines.append(
            f"an overlay gives its own space back, never that of its base{plural} "
            f"({size(inspected.base_bytes)} in {named})"
        )
    elif head is not None and head.backing:
        lines.append(
            f"an overlay gives its own space back, never that of its base ({head.backing})"
        )
    if punch is not None and punch.frees and not punch.frees_pieces:
        lines.append("its filesystem frees no holes of 64 KiB, only larger ones")
    if image.is_device and image.discard_granularity:
        lines.append(f"the device frees pieces of {size(image.discard_granularity)}")
    return lines


def _notes_of_qcow2(
    image: HostImage, head: Qcow2, granularity: int | None
) -> Iterator[str]:
    if head.cluster > _USUAL_CLUSTER:
        text = f"only whole clusters of {size(head.cluster)} come back"
        if granularity:
            text += f", and the guest trims from {size(granularity)} on"
        yield text
    if head.extended_l2:
        yield "extended_l2: its subclusters are zeroed, and freed only with their cluster"
    if head.external_data:
        yield "its data lies in an external data file, and comes back there"
    if image.is_device:
        return
    if image.inside is not None and image.inside >= head.virtual:
        yield "the host holds all of it: preallocated, which discards undo, or never trimmed"
    longest = (head.virtual + head.tables) * 11 // 10
    if not head.snapshots and image.length > longest:
        yield (
            f"the file is {size(image.length)} long for a disk of {size(head.virtual)}: fragmented (QEMU issue "
            "1621); discard_no_unref='on' on its driver stops that (libvirt 9.5, QEMU 8.1), qemu-img convert removes it"
        )


def _what(inspected: Inspected) -> str:
    head, image = inspected.qcow2, inspected.image
    kind = inspected.format
    if head is not None:
        kind = "qcow2 1.1" if head.version >= 3 else "qcow2 0.10"
    storage = image.filesystem
    if image.is_device:
        storage = " over ".join(image.targets) or "a device"
    text = f"{kind} on {storage}"
    if inspected.punch is not None and inspected.punch.frees:
        text += "; holes punched there free blocks"
    return text


def amend_command(path: str) -> str:
    """Return the command that makes a qcow2 0.10 a 1.1, as you would type it."""
    return f"qemu-img amend -f qcow2 -o compat=1.1 {shlex.quote(path)}"
