"""LVM's filters and its devices file: the physical volumes that LVM would lose on another bus."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from tests.support import Inside, block, engine, inhabited, mounted, part, requirement, subject, verdict_of

VOLUME = block("vg-root", type="lvm", path="/dev/mapper/vg-root", fstype="ext4", uuid="aaaa-1")
LINKS = {
    "/dev/disk/by-id/virtio-os-part3": "../../vda3",
    "/dev/disk/by-id/lvm-pv-uuid-tIrNvp": "../../vda3",
    "/dev/disk/by-partuuid/p-3": "../../vda3",
    "/dev/disk/by-path/pci-0000:00:05.0-part3": "../../vda3",
}


def _guest(lvm: str, *more: dict[str, object], **inside: object) -> Inside:
    disk = block(
        "vda", part("vda1", uuid="b-1", fstype="ext4"), part("vda3", VOLUME, fstype="LVM2_member"), serial="os"
    )
    return Inside(
        lvm=lvm,
        devices=[disk, *more],
        mounts=[mounted("/", "/dev/mapper/vg-root", uuid="aaaa-1")],
        **{"links": LINKS, **inside},  # type: ignore[arg-type]
    )


def _conf(*lines: str, path: str = "/etc/lvm/lvm.conf") -> str:
    return "".join(f"{path}:{line}\n" for line in lines)


ENTRY = "/etc/lvm/devices/system.devices:IDTYPE={} IDNAME={} DEVNAME={} PVID=tIrNvpmALxLpJFjL PART=3\n"
KEPT = 'filter = [ "a|vda|", "r|.*|" ]'


@pytest.mark.parametrize(
    ("lvm", "finding"),
    [
        pytest.param(_conf(KEPT), "/dev/vda3: filter takes it now, and may not take it as /dev/sd*3", id="by-its-bus"),
        pytest.param(
            _conf("devices {", "filter = [", '"a|^/dev/vda3$|",', '"r|.*|" ]', "}"),
            "filter takes it now",
            id="over-lines",
        ),
        pytest.param(
            _conf('devices/global_filter = "r|/dev/sd|"'),
            "/dev/vda3: global_filter takes it now",
            id="global-filter-of-scsi",
        ),
        pytest.param(
            _conf('filter=["a|sda|","r|.*|"]'),
            "/dev/vda3: it is in use, and filter accepts none of its known names",
            id="odd",
        ),
        pytest.param(
            _conf('filter=["a|/dev/[sv]da|","r|.*|"]'), "/dev/vda3: filter takes it now", id="which-letter-is-not-known"
        ),
        pytest.param(_conf('filter=["a|by-path/.*05.0|","r|.*|"]'), "/dev/vda3: filter takes it now", id="by-path"),
        pytest.param(_conf('filter=["a|virtio-os|","r|.*|"]'), "/dev/vda3: filter takes it now", id="by-id"),
        pytest.param(
            _conf('filter=["a|vda|","r|scsi|"]'), "/dev/vda3: filter takes it now", id="rejects-a-link-that-comes"
        ),
        pytest.param(_conf('filter=["a|*vda*|"]'), "filter is not understood", id="no-expression"),
        pytest.param(
            _conf("devices {", "filter=["), "/etc/lvm/lvm.conf: not understood: an array does not end", id="torn"
        ),
        pytest.param(
            _conf('filter="a|.*|"') + _conf(KEPT, path="/etc/lvm/lvmlocal.conf"),
            "lvmlocal.conf: /dev/vda3",
            id="lvmlocal.conf",
        ),
        pytest.param(
            "".join(_conf('filter="a|.*|"', path=f"/etc/lvm/lvm_{tag}.conf") for tag in range(11)),
            "/etc/lvm: there are more filters than reclaim evaluates",
            id="many-tags",
        ),
        pytest.param(_conf(KEPT, path="/etc/lvm/lvm_db.conf"), "/etc/lvm/lvm_db.conf: /dev/vda3", id="of-a-tag"),
        pytest.param(
            _conf('filter="r|^/dev/disk/by-path/.*scsi|"', 'scan=["/dev/disk/by-path"]'),
            "filter takes it now",
            id="scan",
        ),
        pytest.param(
            _conf(KEPT) + ENTRY.format("sys_serial", "os", "/dev/vda3"),
            "filter takes it now",
            id="devices-file-by-default",
        ),
        pytest.param(
            ENTRY.format("devname", "/dev/vda3", "/dev/vda3"), "/dev/vda3 known by devname", id="devname-with-serial"
        ),
        pytest.param(
            _conf("use_devicesfile = 1", 'devicesfile = "own.devices"')
            + ENTRY.format("devname", "/dev/vda3", "/dev/vda3").replace("system.", "own."),
            "/etc/lvm/devices/own.devices: /dev/vda3 known by devname",
            id="another-devices-file",
        ),
    ],
)
def test_a_physical_volume_that_lvm_would_lose_is_named_and_nothing_is_changed(
    tmp_path: Path, lvm: str, finding: str
) -> None:
    inside = _guest(lvm)
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    found, _, withheld = result.reason.partition("; withheld: ")
    assert finding in found
    assert withheld
    assert (inside.files, inside.ran) == (before, [])
    inside.lvm = _conf('filter = [ "a|^/dev/disk/by-id/lvm-pv-uuid-tIrNvp$|", "r|.*|" ]')  # as the advice says
    guest.forget()
    assert verdict_of(guest, "boot-names") is Verdict.COMPLIANT


HIDDEN = block("vdb", fstype="LVM2_member")


@pytest.mark.parametrize(
    ("lvm", "devices"),
    [
        pytest.param("", [], id="nothing-set"),
        pytest.param(_conf('filter=["a|.*|"]'), [], id="all"),
        pytest.param(_conf('filter=["a|/dev/[sv]d|","r|.*|"]'), [], id="both"),
        pytest.param(_conf('filter=["r|^/dev/drbd|","a|.*|"]'), [], id="others"),
        pytest.param(_conf('filter=["r|loop|","r|nbd|","r/cdrom/"]'), [], id="others-without-a-slash"),
        pytest.param(_conf('filter=["a|by-partuuid/p-3$|","r|.*|"]'), [], id="by-partuuid"),
        pytest.param(_conf('filter=["a|/dev/.d.3$|","r|.*|"]'), [], id="the-number-alone"),
        pytest.param(_conf(KEPT) + _conf('filter="a|.*|"', path="/etc/lvm/lvmlocal.conf"), [], id="overridden"),
        pytest.param(_conf('filter="a|vda|"', 'filter="a|.*|"'), [], id="set-again"),
        pytest.param(_conf('devices { preferred_names=["^/dev/vda"] }'), [], id="preferred-names"),
        pytest.param(_conf('#filter=["a|vda|","r|.*|"]'), [], id="comment"),
        pytest.param(
            _conf(KEPT, "use_devicesfile = 1") + ENTRY.format("sys_serial", "os", "/dev/vda3"), [], id="devices-file"
        ),
        pytest.param(
            _conf(KEPT, "# use_devicesfile = 1") + ENTRY.format("sys_serial", "os", "/dev/vda3"),
            [],
            id="used-by-default",
        ),
        pytest.param(
            _conf("# use_devicesfile = 0") + ENTRY.format("sys_serial", "QM00001", "/dev/vda3"),
            [],
            id="not-used-by-default",
        ),
        pytest.param(
            _conf('search_for_devnames = "all"') + ENTRY.format("devname", "/dev/vda3", "/dev/vda3"),
            [],
            id="found-by-pvid",
        ),
        pytest.param(_conf('filter=["a|vda|","r|.*|"]'), [block("md0", VOLUME, fstype="LVM2_member")], id="on-md"),
    ],
)
def test_a_physical_volume_that_lvm_keeps_is_no_reason(
    tmp_path: Path, lvm: str, devices: list[dict[str, object]]
) -> None:
    inside = _guest(lvm)
    inside.devices = devices or inside.devices
    assert verdict_of(inhabited(tmp_path, inside), "boot-names") is Verdict.COMPLIANT


def test_a_disk_that_a_filter_hides_stays_hidden(tmp_path: Path) -> None:
    """The volumes of a nested guest, say: LVM is not to touch them, and would by another name."""
    hides = _conf('filter=["r|^/dev/vdb|"]')
    guest = inhabited(tmp_path, _guest(hides, HIDDEN, links={}))
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert "/dev/vdb: filter hides it now, and may not hide it as /dev/sd*" in result.reason
    both = _conf('filter=["a|^/dev/.d.3|","r|^/dev/[sv]d|"]')
    assert verdict_of(inhabited(tmp_path, _guest(both, HIDDEN, links={})), "boot-names") is Verdict.COMPLIANT
