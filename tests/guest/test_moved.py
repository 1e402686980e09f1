"""A guest of a Debian 12 host whose disk image and definition were copied to this host.

The definition is the one that libvirt 9.0 of Debian 12 wrote for QEMU 7.2. It lies in libvirt's folder before libvirt
starts, as after a move or an upgrade of the host: a newer QEMU has its machine type no more. If QEMU still has it, the
road proves the same: this is for `make guests`, and for `make hosts` with the set full.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab import image, machines, paths, tools
from tests.command import audit
from tests.corpus import private

pytestmark = [pytest.mark.guest, pytest.mark.long]

NAME = "reclaim-lab-test-moved"
DEFINITION = Path(__file__).with_name("debian-12.xml")
#: seconds for one run, which starts a guest under emulation and looks into it
RUN_SECONDS = 1500
INSIDE = {"fstab-uuid", "boot-names", "fstrim-timer"}
HARDWARE = {"machine-type", "disk-discard", "scsi-controller", "disk-bus"}

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Moved:
    """The guest on its new host."""

    uri: str
    image: Path

    def definition(self) -> str:
        """The persistent definition, secrets included."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        connection = libvirt.open(self.uri)
        try:
            domain = connection.lookupByName(NAME)
            assert not domain.isActive()
            return str(domain.XMLDesc(flags))
        finally:
            connection.close()


@pytest.fixture
def moved(tmp_path: Path) -> Iterator[Moved]:
    disk, console = paths.image(NAME), paths.console(NAME)
    text = DEFINITION.read_text(encoding="utf-8")
    for mark, value in (("@NAME@", NAME), ("@IMAGE@", str(disk)), ("@CONSOLE@", str(console))):
        text = text.replace(mark, value)
    with ExitStack() as stack:
        for left in (disk, console):
            left.unlink(missing_ok=True)
            stack.callback(left.unlink, missing_ok=True)
        image.instantiate("article", disk)
        try:
            uri = stack.enter_context(private.libvirtd(tmp_path / "libvirtd", {NAME: text}))
        except (OSError, RuntimeError) as exc:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no libvirtd of our own here: {exc}")
        yield Moved(uri, disk)


def _rows(folder: Path, uri: str, *options: str) -> Rows:
    outcome = audit(folder, "-q", *options, uri=uri, seconds=RUN_SECONDS)
    assert outcome.status in (0, 1, 6), outcome.said[-4000:]
    return {row["requirement"]: row for row in outcome.document["results"]}


def _with(rows: Rows, verdict: str) -> set[str]:
    return {slug for slug, row in rows.items() if row["verdict"] == verdict}


def _reasons(rows: Rows) -> str:
    return "\n".join(f"{row['verdict']} {slug}: {row['reason']}" for slug, row in rows.items())


def test_a_guest_of_an_older_host_is_mended_on_its_new_one(moved: Moved, tmp_path: Path) -> None:
    before = moved.definition()
    gone = machines.OLD not in machines.offered()

    rows = _rows(tmp_path / "audit", moved.uri)
    assert moved.definition() == before
    assert _with(rows, "noncompliant") == HARDWARE
    reason = rows["machine-type"]["reason"]
    assert (f"this QEMU has no {machines.OLD} any more: the guest cannot start" == reason) == gone
    assert next(iter(rows)) == "machine-type" or not gone, "it comes first, since nothing else can be looked at"

    fixed = _rows(tmp_path / "fix", moved.uri, "--fix", "--restart", "--boot-stopped")
    assert _with(fixed, "fixed") >= INSIDE | HARDWARE, _reasons(fixed)
    assert not _with(fixed, "noncompliant") | _with(fixed, "pending") | _with(fixed, "error"), _reasons(fixed)
    after = moved.definition()
    assert "kept4eva" in after
    assert "bus='scsi'" in after

    again = _rows(tmp_path / "again", moved.uri, "--fix", "--restart", "--boot-stopped")
    assert _with(again, "compliant") >= INSIDE | HARDWARE, _reasons(again)
    assert not [slug for slug, row in again.items() if row["changes"]], _reasons(again)
    assert moved.definition() == after
    tools.call(["qemu-img", "check", "-q", str(moved.image)], seconds=300)
