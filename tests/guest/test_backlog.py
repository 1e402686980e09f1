"""What is counted to come back, and what does: one disk with swap, two filesystems on volumes, and free extents."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from lab import guest as lab
from lab import host
from lab.guest import LabGuest
from reclaim.base.verdict import Verdict
from reclaim.handles.guest import Disk
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from reclaim.space.backlog import backlog
from tests.support import engine, requirement, subject

pytestmark = pytest.mark.guest

MIB = 1024 * 1024
NAME = "reclaim-lab-test-backlog"


@pytest.fixture(scope="module")
def guest() -> Iterator[LabGuest]:
    lab.destroy(NAME)
    made = lab.create(NAME, machine="pc", discard="unmap")
    data = made.image.with_suffix(".data.qcow2")
    _disk_with_two_partitions(data)
    xml = (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='{data}'/>"
        "<target dev='vdb' bus='virtio'/><serial>data</serial></disk>"
    )
    lab.lookup(NAME).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    yield made
    lab.destroy(NAME)


def _disk_with_two_partitions(path: Path) -> None:
    """2 GiB in a qcow2 with an MBR: 128 MiB for swap (type 82), the rest for volumes (type 8e)."""
    table = b"".join(
        struct.pack("<B3sB3sII", 0, bytes(3), kind, bytes(3), start * 2048, mib * 2048)
        for kind, start, mib in ((0x82, 1, 128), (0x8E, 129, 1919))
    )
    raw = path.with_suffix(".raw")
    with raw.open("wb") as stream:
        stream.write(bytes(446) + table + bytes(32) + b"\x55\xaa")
        stream.truncate(2048 * MIB)
    subprocess.run(["qemu-img", "convert", "-q", "-O", "qcow2", str(raw), str(path)], check=True)
    raw.unlink()


#: volumes as LVM maps them: root in two pieces with srv between, and nothing from 1 GiB on; 20 MiB in swap, 45 MiB
#: in the free extents, 90 and 55 MiB of which 20 and 15 stay in the filesystems
_FILL = r"""
set -e
until [ -b /dev/vdb2 ]; do sleep 0.2; done
printf '0 819200 linear /dev/vdb2 2048\n819200 204800 linear /dev/vdb2 1640448\n' | dmsetup create vg-root
echo '0 614400 linear /dev/vdb2 1026048' | dmsetup create vg-srv
dmsetup mknodes
dd if=/dev/urandom of=/dev/vdb1 bs=1M count=20 status=none
mkswap /dev/vdb1 >/dev/null
swapon /dev/vdb1
dd if=/dev/urandom of=/dev/vdb2 bs=1M seek=1024 count=45 oflag=direct status=none
# one with few inodes, and one as mkfs makes it: a 16th of it are tables that nobody has written yet
set -- 1048576 4096
for name in root srv; do
    mkfs.ext4 -q -i $1 /dev/mapper/vg-$name
    shift
    mkdir -p /mnt/$name
    mount /dev/mapper/vg-$name /mnt/$name
done
fill() { dd if=/dev/urandom of=/mnt/$1 bs=1M count=$2 status=none; }
fill root/kept 20; fill root/gone 70; fill srv/kept 15; fill srv/gone 40
sync
rm /mnt/root/gone /mnt/srv/gone
sync
"""


def test_what_is_counted_comes_back(guest: LabGuest, tmp_path: Path) -> None:
    filled = lab.run(guest, _FILL)
    assert filled.code == 0, filled.err
    hypervisor = connect(host.URI, None, Inventory())
    found = next(one for one in hypervisor.guests if one.name == NAME)
    before = backlog(Disk(found, "vdb"))
    assert before.perhaps == 0
    apart = dict(before.apart)
    assert abs(apart["in swap, which no trim empties"] - 20 * MIB) < MIB
    free = next(count for what, count in apart.items() if what.endswith("vdb2, which no filesystem trims"))
    assert abs(free - 45 * MIB) < MIB
    # what was deleted, but for clusters that hold something else too
    assert 109 * MIB <= before.reclaimable <= before.most <= 110 * MIB
    fixing = engine(hypervisor, tmp_path, force=True)
    result = fixing.run(requirement("trim-backlog"), subject(found, "vdb"))
    assert result.verdict is Verdict.FIXED, result.reason
    assert "/mnt" not in result.reason  # no filesystem failed
    after = backlog(Disk(found, "vdb"))
    came = before.held - after.held
    assert 0.99 * before.reclaimable <= came <= 1.01 * before.most
    assert "that were expected" in result.reason
    assert after.held > (20 + 15 + 20 + 45) * MIB  # what stays in the filesystems, in swap and in the free extents
    again = engine(hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(found, "vdb"))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_a_guest_that_is_off_is_trimmed_from_the_host(
    guest: LabGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real guestfs-tools, where they are installed: set-up does not, they are a hundred packages."""
    if shutil.which("virt-sparsify") is None:
        pytest.skip("no virt-sparsify (Debian and Ubuntu: guestfs-tools)")
    if host.accelerator() == "qemu":
        monkeypatch.setenv("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")
    lab.churn(guest, 200)
    lab.shutdown(guest)
    hypervisor = connect(host.URI, None, Inventory())
    found = next(one for one in hypervisor.guests if one.name == NAME)
    before = backlog(Disk(found, "vda"))
    result = engine(hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(found, "vda"))
    assert result.verdict is Verdict.FIXED, result.reason
    assert [change.kind for change in result.changes] == ["sparsify"]
    came = before.held - backlog(Disk(found, "vda")).held
    assert 0.99 * before.reclaimable <= came <= 1.01 * before.most
    assert came > 150 * MIB
    again = engine(hypervisor, tmp_path, force=True).run(requirement("trim-backlog"), subject(found, "vda"))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    lab.start(guest)
    lab.wait_for_agent(guest, lab.BOOT_SECONDS)
