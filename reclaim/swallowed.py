"""Which layer keeps the bytes that a guest has freed and trimmed, from the inside out."""

from __future__ import annotations

from collections.abc import Sequence

from reclaim.canary import Trimmed
from reclaim.errors import ProbeError
from reclaim.facts import BlockDevice
from reclaim.guest import Disk
from reclaim.machine import VIRTIO_BLK_DISCARD, parse
from reclaim.storage import Filesystem
from reclaim.tally import Store
from reclaim.text import size

UNKNOWN = "none of the known layers explains it"
#: a file of our own beside the image: it goes with the shell that made it
_PUNCH = """
LC_ALL=C; export LC_ALL
file=$(mktemp -- "$(dirname -- "$1")/.reclaim-punch-XXXXXX") || exit 2
trap 'rm -f -- "$file"' EXIT
trap 'exit 2' HUP INT TERM
dd if=/dev/urandom of="$file" bs=65536 count=16 conv=fsync 2>/dev/null || exit 2
fallocate --punch-hole --offset 0 --length 1048576 -- "$file" || exit 1
"""


def layer(one: Filesystem, disks: Sequence[tuple[Disk, Store]], trimmed: Trimmed, canary: int, returned: int) -> str:
    """The first layer that is known to keep what was freed in *one*, and the requirement that mends it."""
    return (
        _deaf(one, disks, trimmed)
        or _untold(trimmed, canary)
        or next(filter(None, (_definition(disk) for disk, _ in disks)), "")
        or next(filter(None, (_image(store) for _, store in disks)), "")
        or next(filter(None, (_host(store) for _, store in disks)), "")
        or next(filter(None, (_grain(one, store, returned) for _, store in disks)), "")
        or UNKNOWN
    )


def _deaf(one: Filesystem, disks: Sequence[tuple[Disk, Store]], trimmed: Trimmed) -> str:
    """A layer of the guest that takes no discards."""
    deaf = next((part for way in one.ways for part in way if part.disc_max == 0), None)
    said = f"; fstrim says: {trimmed.words}" if trimmed.status else ""
    if deaf is not None:
        return f"{_named(deaf, disks)} (see disc-max){said}"
    if trimmed.status:
        return f"fstrim failed with status {trimmed.status}: {trimmed.words or 'without a word'}"
    return ""


def _named(deaf: BlockDevice, disks: Sequence[tuple[Disk, Store]]) -> str:
    if deaf.type == "crypt":
        return f"dm-crypt: {deaf.path} passes no discards on"
    if deaf.type != "disk":
        return f"{deaf.path} ({deaf.type}) takes no discards"
    for disk, _ in disks:
        live = disk.guest.live
        view = disk.guest.live_disk(disk.view)
        known = parse(live.machine or "") if live else None
        old = known is not None and known.version is not None and known.version < VIRTIO_BLK_DISCARD
        if view is not None and view.bus == "virtio" and known is not None:
            if old:
                return f"virtio-blk on {known.name} offers no discard before machine type 4.0"
            return "the guest's virtio-blk driver takes no discards (Linux has that from 5.0)"
    return f"the virtual disk {deaf.path} offers no discard"


def _untold(trimmed: Trimmed, canary: int) -> str:
    """fstrim passed over what had just become free."""
    if trimmed.claimed is None or trimmed.claimed >= canary * 9 // 10:
        return ""
    return (
        f"the filesystem's memory of what it has trimmed: fstrim passed on {size(trimmed.claimed)} only; "
        "mount it anew, or start the guest anew, and look again"
    )


def _definition(disk: Disk) -> str:
    """QEMU was not told to pass discards on."""
    view = disk.guest.live_disk(disk.view)
    if view is None or view.driver.get("discard") == "unmap":
        return ""
    runs = f"discard {view.driver.get('discard', 'absent')}"
    if disk.driver.get("discard") == "unmap":
        return f"the running QEMU has {disk.target} on older settings, with {runs} (see live-definition)"
    return f"the definition of {disk.target} is without discard='unmap' ({runs}): QEMU drops them (see disk-discard)"


def _image(store: Store) -> str:
    """A qcow2 that cannot free clusters (block/qcow2.c: ENOTSUP for version 2 with a backing file)."""
    header = store.header
    if header is None:
        return ""
    if header.version < 3 and header.backing:
        return (
            f"the image format: {store.path} is qcow2 0.10 over a backing file, which frees nothing (see image-format)"
        )
    return snapshots(store)


def snapshots(store: Store) -> str:
    """The internal snapshots of the image: they keep what was written before them. "" where there is none."""
    header = store.header
    if header is None or not header.snapshots:
        return ""
    several = "s" if header.snapshots > 1 else ""
    return f"{header.snapshots} internal snapshot{several} in {store.path} (see image-format)"


def _host(store: Store) -> str:
    """The host's storage frees nothing inside a file, or its thin pool ignores discards."""
    if store.thin:
        result = store.hypervisor.shell.run("lvs --noheadings -o discards -- %s", store.path)
        ignores = result.rc == 0 and result.stdout.split() == ["ignore"]
        return f"the thin pool of {store.path} ignores discards" if ignores else ""
    try:
        refusal = punch_refusal(store)
    except ProbeError:
        return ""  # then this layer is not known to be the one
    return f"the host's storage of {store.path} punches no holes: {refusal} (see image-format)" if refusal else ""


def punch_refusal(store: Store) -> str:
    """Why no hole can be punched in a file beside the image; "" where it can. Raises ProbeError where none is made."""
    result = store.hypervisor.shell.run("/bin/sh -c %s reclaim %s", _PUNCH, store.path)
    words = " ".join(result.stderr.split())[-200:]
    if result.rc not in (0, 1):
        raise ProbeError(f"{store.path}: no file can be made beside it: {words}")
    return words if result.rc else ""


def _grain(one: Filesystem, store: Store, returned: int) -> str:
    """The host frees in larger pieces than the guest deletes."""
    told = min(way[-1].disc_gran for way in one.ways)
    if store.grain <= max(told, 4096) or (not returned and store.grain < 1024 * 1024):
        return ""
    return f"granularity: {store.name} frees {size(store.grain)} as one, the guest discards from {size(told)} on"
