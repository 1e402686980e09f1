"""The table in docs/backups.md of commands that a job may hold: what each is judged as. It is made by these tests.

RECLAIM_DOCS=write pytest tests/unit/backups/test_job_words.py      writes it anew
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from tests.jobs import declared_job, judged, rsync, says_version
from tests.support import ROOT, WRITES

__all__ = ["rsync"]

DOCUMENT = ROOT / "docs/backups.md"
_BEGIN, _END = "<!-- table: tests/unit/backups/test_job_words.py -->", "<!-- end of table -->"
DB, WEB = "/var/lib/libvirt/images/db.img", "/var/lib/libvirt/images/web.qcow2"
#: commands; the guest of web.qcow2 runs, that of db.img is off
COMMANDS = (
    f"rsync -aS {DB} /backup/",
    f"rsync -a {DB} /backup/",
    f"rsync -aS {WEB} /backup/",
    f"virsh suspend web; rsync -aS {WEB} /backup/",
    f"virsh snapshot-create-as web s; rsync -aS {WEB} /backup/",
    f"virsh snapshot-create-as web s --disk-only; rsync -aS {WEB} /backup/",
    f"cp --reflink=always {WEB} /clones/; rsync -aS /clones/ /backup/",
    f"rsync --write-devices {DB} /dev/vgbackup/db",
    f"rsync -aS --preallocate {DB} /backup/",
    f"rsync -aS --inplace {DB} nas:/pool/",
    "rsync -aS root@kvm1:/var/lib/libvirt/images/ /backup/",
    "rsync -a --exclude-from=/etc/rules / nas:/pool/",
    "rsync $OPTIONS /var/lib/libvirt/images/db.img /backup/",
    f"cp {DB} /backup/",
    f"cp --sparse=never {DB} /backup/",
    f"scp {DB} nas:/pool/",
    f"tar -cf /backup/db.tar {DB}",
    f"tar -cSf /backup/db.tar {DB}",
    "dd if=/dev/vgvm/mail of=/backup/mail.img",
    "dd if=/dev/vgvm/mail of=/backup/mail.img conv=sparse",
    "dd if=/dev/vgvm/mail of=/dev/vgbackup/mail",
    "dd if=/dev/vgvm/mail of=/dev/vgbackup/mail conv=sparse",
    f"cat {DB} | ssh nas 'cat > /pool/db.img'",
    f"zstd -o /backup/db.zst {DB}",
    f"qemu-img convert -O qcow2 {DB} /backup/db.qcow2",
    f"qemu-img convert -O qcow2 -o preallocation=full {DB} /backup/db.qcow2",
    f"virt-sparsify {DB} /backup/db.img",
    "virt-clone -o db -n copy -f /backup/db.img",
    "virsh vol-download --pool default db.img /backup/db.img",
    "virsh blockcopy web vda /backup/web.qcow2 --wait --finish",
    "virsh backup-begin web",
    "virtnbdbackup -d web -l auto -o /backup/web",
    "borg create /backup/borg::db /var/lib/libvirt/images/db.img",
    "btrfs send /var/lib/libvirt/.snap | btrfs receive /backup",
    "zfs send tank/vm@now | ssh nas zfs receive pool/vm",
    "rclone sync /var/lib/libvirt/images far:vm",
    "docker run -v /var/lib/libvirt/images:/in backup",
    f"ssh kvm1 'rsync -a {DB} nas:/pool/'",
    "/opt/acme/guard --all",
    "rsync -a /etc/ /backup/etc/",
)


def row(folder: Path, number: int, command: str) -> str:
    """One row: the command, its verdict, and the words of it."""
    place = folder / str(number)
    place.mkdir()
    one = declared_job(place, "job.sh", text=f"#!/bin/bash\n{command}\n")
    found = judged(one)
    said = re.sub(r"\bline 2: ", "", (found.reason or found.evidence).removeprefix(f"{one.path}: "))
    return f"| `{command.replace('|', chr(92) + '|')}` | {found.verdict.value} | {said.replace('|', chr(92) + '|')} |"


@pytest.mark.slow
def test_the_documentation_has_the_verdict_of_every_command(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, "3.4.1")
    rows = [row(tmp_path, number, command) for number, command in enumerate(COMMANDS)]
    table = "\n".join(("| command | verdict | words |", "|---|---|---|", *rows))
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    inside, _, after = rest.partition(_END)
    if WRITES:
        DOCUMENT.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}", encoding="utf-8")
    else:
        assert inside.strip() == table
    assert {verdict.value for verdict in (Verdict.COMPLIANT, Verdict.NONCOMPLIANT, Verdict.NOT_ASSESSABLE)} == {
        line.split(" | ")[-2] for line in rows
    }
