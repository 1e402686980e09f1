"""QEMU's own arguments in a definition: their grammar, the names in them, and all that they bring and take."""

from __future__ import annotations

import pytest

from reclaim.definition import qemuargs
from reclaim.definition.domain import parse_xml
from tests.corpus.variants import arguments


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (["-drive", "if=none,file=/dev/nvme0n1,id=a", "-device", "nvme,drive=a"], 2),
        (["-drive", "file=/x,media=cdrom"], 0),
        (["-drive", "file=/x,readonly=on"], 0),
        (["-drive", "if=pflash,file=/x"], 0),
        (["-hda", "/x.img"], 1),
        (["-cdrom", "/x.iso"], 0),
        (["-blockdev", '{"driver":"file","filename":"/x","node-name":"n"}'], 1),
        (["-blockdev", "driver=file,filename=/x,read-only=on,node-name=n"], 0),
        (["-device", "virtio-blk-pci,drive=n"], 1),
        (["-device", '{"driver":"scsi-hd","drive":"n"}'], 1),
        (["--device", "usb-storage,drive=n"], 1),
        (["-device", "ide-cd,drive=n"], 0),
        (["-device", "e1000"], 0),
        (["-device", "[1"], 0),
        (["-device", "{"], 0),
        (["-device"], 0),
        (["/dev/sdb"], 1),
        (["-snapshot", "/x.img"], 1),
        (["-name", "x", "/x.img"], 1),
        (["-name", "x"], 0),
        (["-device", "ufs-lu,drive=d"], 1),
    ],
)
def test_which_arguments_bring_a_disk(values: list[str], count: int) -> None:
    root = parse_xml(f"<domain>{arguments(*values)}</domain>".replace('"', "&quot;"), "x")
    assert len(qemuargs.disks(root)) == count


def test_a_password_is_not_shown() -> None:
    root = parse_xml(f"<domain>{arguments('-drive', 'file=rbd:a,password-secret=s,password=hunter2')}</domain>", "x")
    assert "hunter2" not in "".join(qemuargs.disks(root))
