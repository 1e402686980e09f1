"""Images that hold still: from before the copy to its end, surely, perhaps or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from tests.jobs import IMAGES, declared_job, judged, rsync, running
from tests.support import uuid_of

__all__ = ["rsync"]


@pytest.mark.parametrize(
    "before",
    [
        "virsh snapshot-create-as one b --disk-only --atomic",
        "virsh -c qemu:///system shutdown one",
        "virsh suspend one && virsh domblklist one",
        "systemctl stop libvirt-guests",
    ],
)
def test_a_guest_that_holds_still_is_copied(tmp_path: Path, before: str) -> None:
    assert judged(running(tmp_path, f"#!/bin/sh\n{before}\nrsync -aS /srv/images/ /b\n")).verdict is Verdict.COMPLIANT


def test_a_guest_is_known_by_its_uuid(tmp_path: Path) -> None:
    text = f"virsh suspend {uuid_of('web')}\nrsync -aS {IMAGES}/web.qcow2 /backup/\n"
    found = judged(declared_job(tmp_path, "by-uuid.sh", text=text))
    assert found.verdict is Verdict.COMPLIANT, found.reason
