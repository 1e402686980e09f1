"""What the host holds for a guest's disk, counted again and again while a canary comes and goes."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import libvirt

from reclaim import image
from reclaim.errors import NotAssessable, ProbeError
from reclaim.guest import Disk
from reclaim.hypervisor import Hypervisor
from reclaim.image import Qcow2

#: bytes of an image that are read: its header and the name of its backing file lie in the first cluster
_HEAD_BYTES = 65536
_SECTOR = 512
#: seconds between two looks
PAUSE = 0.2
#: filesystems whose st_blocks is right at once, as stat -f names them
_PROMPT = ("ext2/ext3", "xfs", "btrfs", "tmpfs", "f2fs", "overlayfs", "ramfs", "bcachefs")
#: seconds until a count is what it will be. ZFS counts with its transaction groups, 5 s apart; NFS
#: keeps attributes for up to 60 s (acregmax)
_PROMPT_SECONDS = 2.0
_SLOW_SECONDS = 75.0


@dataclass(frozen=True)
class Store:
    """Where the bytes of one running disk lie on the host, and how they can be counted."""

    hypervisor: Hypervisor
    domain: libvirt.virDomain
    #: the disk's name in the run, and its target in the running QEMU
    name: str
    target: str
    path: str
    #: an LVM thin volume, or a file
    thin: bool
    #: bytes that the host frees as one: the image's cluster, the thin pool's chunk
    grain: int
    header: Qcow2 | None
    #: how long the host's count may lag behind
    seconds: float

    def allocated(self) -> int:
        """Bytes that the host holds. Raises ProbeError."""
        if self.thin:
            return _mapped(self.hypervisor, self.path)
        return self.hypervisor.allocated(self.path)

    def written(self) -> tuple[int, int]:
        """Write requests and bytes that QEMU has had from the guest (virDomainBlockStats)."""
        _, _, requests, count, _ = self.domain.blockStats(self.target)
        return int(requests), int(count)


def store(disk: Disk) -> Store:
    """How the bytes of *disk* can be counted. Raises NotAssessable where they cannot, and why."""
    guest, hypervisor = disk.guest, disk.guest.hypervisor
    view = guest.live_disk(disk.view)
    if view is None:
        raise NotAssessable("the running guest does not have this disk")
    path, kind = view.path, view.type
    if kind == "volume":
        path, kind = _volume(hypervisor, view.source.get("pool", ""), view.source.get("volume", ""))
    if path is None or kind not in ("file", "block"):
        raise NotAssessable(f"a disk of type {view.type}: nobody here can count its bytes")
    header = _header(hypervisor, path) if view.driver.get("type") == "qcow2" else None
    if header is not None and header.external_data:
        raise NotAssessable(f"{path}: its data lies in another file")
    if kind == "block":
        chunk = _thin_chunk(hypervisor, path)
        grain = max(chunk, header.cluster if header else 0)
        return Store(hypervisor, guest.domain, disk.name, view.target, path, True, grain, header, _PROMPT_SECONDS)
    grain, seconds = _filesystem(hypervisor, path)
    grain = max(grain, header.cluster if header else 0)
    return Store(hypervisor, guest.domain, disk.name, view.target, path, False, grain, header, seconds)


def _volume(hypervisor: Hypervisor, pool: str, volume: str) -> tuple[str, str]:
    """The path of a volume of a pool, and libvirt's type of a disk that names it so."""
    try:
        found = hypervisor.connection.storagePoolLookupByName(pool).storageVolLookupByName(volume)
        kind = {libvirt.VIR_STORAGE_VOL_FILE: "file", libvirt.VIR_STORAGE_VOL_BLOCK: "block"}.get(found.info()[0])
    except libvirt.libvirtError as exc:
        raise NotAssessable(f"volume {volume} of pool {pool}: {exc.get_error_message() or exc}") from exc
    return str(found.path()), kind or "other"


def _filesystem(hypervisor: Hypervisor, path: str) -> tuple[int, float]:
    """Block size of the filesystem that *path* lies on, and how long its counts lag."""
    result = hypervisor.shell.run("stat -f --printf '%%S %%T' -- %s", path)
    match = re.fullmatch(r"(\d{1,9}) (\S+)", result.stdout) if result.rc == 0 else None
    if match is None:
        raise ProbeError(f"{path}: {' '.join(result.stderr.split()) or 'stat -f failed'}")
    return int(match[1]), _PROMPT_SECONDS if match[2] in _PROMPT else _SLOW_SECONDS


def _header(hypervisor: Hypervisor, path: str) -> Qcow2:
    """The header of a qcow2 that a QEMU has open: the definition says that it is one, we look at nothing it names."""
    where = shlex.quote(path)
    result = hypervisor.shell.run(f"head -c {_HEAD_BYTES} -- {where} | base64; stat -L -c %s -- {where}")
    lines = result.stdout.splitlines()
    try:
        head, size = base64.b64decode("".join(lines[:-1]), validate=True), int(lines[-1])
    except (binascii.Error, ValueError, IndexError) as exc:
        raise ProbeError(f"{path}: {' '.join(result.stderr.split()) or 'its header cannot be read'}") from exc
    descriptor = os.memfd_create("header", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, head)
        os.ftruncate(descriptor, max(size, len(head)))  # as long as the image, and as sparse as can be
        found = image.identify(descriptor, path).qcow2
    finally:
        os.close(descriptor)
    if found is None:
        raise NotAssessable(f"{path}: the definition says qcow2 and it does not begin like one")
    return found


def _thin_chunk(hypervisor: Hypervisor, path: str) -> int:
    """Bytes in a chunk of the pool of the LVM thin volume at *path*. Raises NotAssessable where it is none."""
    result = hypervisor.shell.run("lvs --noheadings --nosuffix --units b -o segtype,chunk_size -- %s", path)
    fields = result.stdout.split()
    if result.rc != 0 or fields[:1] != ["thin"]:
        raise NotAssessable(
            f"{path}: a block device that is no LVM thin volume: what its storage frees cannot be counted here"
        )
    pool = hypervisor.shell.run("lvs --noheadings -o vg_name,pool_lv -- %s", path).stdout.split()
    chunk = hypervisor.shell.run("lvs --noheadings --nosuffix --units b -o chunk_size -- %s", "/".join(pool)).stdout
    if not re.fullmatch(r"\d{1,12}", chunk.strip()):
        raise ProbeError(f"{path}: lvs does not say the chunk size of its thin pool")
    return int(chunk)


def _mapped(hypervisor: Hypervisor, path: str) -> int:
    """Bytes of its pool that a thin volume holds, to the sector (dm-thin's status; lvs rounds to a percentage)."""
    result = hypervisor.shell.run("dmsetup status --target thin -- %s", path)
    match = re.search(r"^(?:\S+: )?\d+ \d+ thin (\d{1,18})\b", result.stdout, re.MULTILINE)
    if result.rc != 0 or match is None:
        raise ProbeError(f"{path}: {' '.join(result.stderr.split()) or 'dmsetup does not say what is mapped'}")
    return int(match[1]) * _SECTOR


def allocated(stores: Sequence[Store]) -> int:
    """Bytes that the host holds for all of them."""
    return sum(one.allocated() for one in stores)


def written(stores: Sequence[Store]) -> int:
    """The most that the guest's writes so far can have taken on the host.

    Each request may touch a grain at either end that it does not fill.
    """
    total = 0
    for one in stores:
        requests, count = one.written()
        total += count + 2 * one.grain * requests
    return total


def settled(stores: Sequence[Store], enough: Callable[[int], bool]) -> int:
    """What the host holds once it is *enough*, or as long as its count may lag behind."""
    deadline = time.monotonic() + max(one.seconds for one in stores)
    while True:
        count = allocated(stores)
        if enough(count) or time.monotonic() > deadline:
            return count
        time.sleep(PAUSE)
