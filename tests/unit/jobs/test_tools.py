"""The steps of each command: programs that copy, take snapshots, stop guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from tests.jobs import IMAGE, job, judged, rsync

__all__ = ["rsync"]


@pytest.mark.parametrize(
    ("command", "verdict", "words"),
    [
        (f"cp --sparse=always {IMAGE} /b", Verdict.COMPLIANT, "cp keeps"),
        (f"cp --sparse=never {IMAGE} /b", Verdict.NONCOMPLIANT, "writes every zero"),
        ("cp -a --sparse=never /srv/images/. /b", Verdict.NONCOMPLIANT, "writes every zero"),
        ("rsync -a --exclude=/srv /srv/images/. /b", Verdict.NONCOMPLIANT, "without --sparse"),
        ("rsync -a --exclude=/web.qcow2 /srv/images/. /b", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -czf /b/vm.tgz /srv/images", Verdict.NONCOMPLIANT, "tar without --sparse"),
        ("tar -cf /b/vm.tar --sparse /srv/images", Verdict.COMPLIANT, "tar --sparse"),
        ("tar -cf /b/all.tar --exclude=/srv/images /", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -cf /b/all.tar --exclude '*.qcow2' /srv", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -cf /b/all.tar --exclude=/images --exclude=b.qcow2 /srv", Verdict.NONCOMPLIANT, "tar without --sparse"),
        ("tar -cf /b/all.tar -X /etc/not /", Verdict.NOT_ASSESSABLE, "its list of exclusions"),
        (f"dd if={IMAGE} of=/b/web bs=1M", Verdict.NONCOMPLIANT, "dd without conv=sparse"),
        (f"qemu-img convert -O qcow2 {IMAGE} /b/web.qcow2", Verdict.COMPLIANT, "leaves zeros out"),
        (f"qemu-img convert -S 0 -O raw {IMAGE} /b/web.raw", Verdict.NONCOMPLIANT, "-S 0"),
        ("virtnbdbackup -d one -l full -o /b", Verdict.COMPLIANT, "stream"),
        ("virtnbdbackup -d one -t raw -o /b", Verdict.NONCOMPLIANT, "--type raw"),
        ("borg create /b::x /srv/images", Verdict.NOT_ASSESSABLE, "borg extract --sparse"),
        ("restic -r /b backup /srv/images", Verdict.NOT_ASSESSABLE, "restic restore --sparse"),
        ("rsync -a /etc/ /b", Verdict.NOT_ASSESSABLE, "no command in it copies a guest's image"),
        ("rsync -n -a /srv/images/ /b", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("echo rsync", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("rsync $OPTIONS /srv/images/ /b", Verdict.NOT_ASSESSABLE, "put together when it runs"),
        ('rsync "$@"', Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("rsync -a --inplace -S /srv/images/ kvm2:/b", Verdict.NOT_ASSESSABLE, "at the other end"),
        ("/usr/local/bin/backup.sh 'unclosed", Verdict.NOT_ASSESSABLE, "cannot be parsed as shell"),
        ("bash /usr/local/bin/backup.sh", Verdict.NOT_ASSESSABLE, "/usr/local/bin/backup.sh, which cannot be read"),
        ("find /srv/images -exec rsync -a {} /b \\;", Verdict.NONCOMPLIANT, "rsync without --sparse"),
        ('eval "rsync -a /srv/images/ /b"', Verdict.NONCOMPLIANT, "rsync without --sparse"),
    ],
)  # fmt: skip
def test_other_commands(tmp_path: Path, command: str, verdict: Verdict, words: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\n{command}\n", "backup.sh")
    found = judged(one)
    assert found.verdict is verdict
    assert words in found.reason + found.evidence
