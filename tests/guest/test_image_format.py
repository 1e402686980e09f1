"""An old image over a backing file, below a real QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.base.verdict import Verdict
from reclaim.changes import power
from reclaim.changes.power import booted_definition
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend
from reclaim.storage.shrinkable import inspect, obstacles
from tests.guest.tiny import Tiny, made
from tests.support import engine, requirement, subject

pytestmark = pytest.mark.guest


def _on_an_old_overlay(tiny: Tiny) -> None:
    """Its image becomes a qcow2 0.10 over what it was."""
    base = tiny.file("base.qcow2")
    tiny.image.rename(base)
    over = ["-o", "compat=0.10", "-b", str(base), "-F", "qcow2", str(tiny.image)]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over], check=True)


def _version(path: Path) -> int:
    return path.read_bytes()[7]


def test_an_image_is_amended_between_shutdown_and_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_BLIND_SECONDS", 1)
    with made("amend", running=False) as tiny:
        _on_an_old_overlay(tiny)
        tiny.start()
        guest = tiny.guest()
        disk = subject(guest, "vda").disk
        assert disk is not None
        # read beside the QEMU that has it open
        found = inspect(disk)
        assert [one.amend for one in obstacles(found, guest.name)] == [True]
        assert found.bases == (str(tiny.file("base.qcow2")),)
        result = engine(guest.hypervisor, tmp_path).run(requirement("image-format"), subject(guest, "vda"))
        assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
        assert "see guest-access" in result.reason
        with pytest.raises(ChangeFailed, match="it runs"):
            ImageAmend(guest.name, str(tiny.image)).apply(guest)
        assert _version(tiny.image) == 2
        cycle = AmendCycle(guest.name, booted_definition(guest), None, paths=[str(tiny.image)])
        cycle.apply(guest)
        assert tiny.domain.isActive()
        assert _version(tiny.image) == 3
        again = engine(guest.hypervisor, tmp_path).run(requirement("image-format"), subject(guest, "vda"))
        assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
