"""discard_no_unref: asked for by policy, of qcow2 images, where libvirt and QEMU know it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from reclaim.handles.guest import Disk
from reclaim.inventory import Inventory, Policy
from reclaim.storage.discard_no_unref import wants_no_unref, why_not_no_unref
from tests.support import disk_xml, domain_xml, opened

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.node import Node


@pytest.mark.parametrize(
    ("asked", "kind", "wanted"), [(True, "qcow2", True), (False, "qcow2", False), (True, "raw", False)]
)
def test_policy_asks_for_it_and_a_qcow2_can_have_it(tmp_path: Path, *, asked: bool, kind: str, wanted: bool) -> None:
    inventory = Inventory(policy=Policy(discard_no_unref=asked))
    device = disk_xml().replace("type='qcow2'", f"type='{kind}'")
    guest = opened(tmp_path, domain_xml(device), inventory=inventory).guests[0]
    assert wants_no_unref(Disk(guest, "vda")) is wanted


@pytest.mark.parametrize(
    ("libvirt", "qemu", "facts"),
    [
        ("9.5.0", "8.1.0", []),
        ("10.0.0", "9.0.2", []),
        ("9.4.9", "8.1.0", ["libvirt", "9.4.9", "9.5"]),
        ("9.5.0", "8.0.5", ["QEMU", "8.0.5", "8.1"]),
        ("8.0.0", "7.2.0", ["libvirt", "8.0.0"]),
        (None, "8.1.0", ["no libvirt"]),
        ("9.5.0", None, ["no QEMU"]),
    ],
)
def test_the_program_that_is_too_old_is_named(libvirt: str | None, qemu: str | None, facts: list[str]) -> None:
    node = cast("Node", SimpleNamespace(libvirt_version=libvirt, qemu_version=qemu))
    reason = why_not_no_unref(node)
    assert (reason is None) is (not facts)
    for fact in facts:
        assert fact in (reason or "")
