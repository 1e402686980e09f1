"""Definitions as people have them, in whole runs: what is left alone, by which name, and what is done all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libvirt

from tests.command import audit
from tests.support import disk_xml, domain_xml, node, scsi_xml
from tests.unit.definition.test_othersystem import libosinfo

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = libvirt.VIR_DOMAIN_XML_INACTIVE


def _rows(document: dict[str, Any], guest: str) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(row["requirement"], row["disk"]): row for row in document["results"] if row["guest"] == guest}


def _fleet(folder: Path) -> str:
    sata = disk_xml("sda", "sata", driver="discard='unmap'")
    return node(
        folder,
        domain_xml(sata, name="win11", metadata=libosinfo("http://microsoft.com/win/11"), running=False),
        domain_xml(disk_xml(), name="pfsense", metadata=libosinfo("http://freebsd.org/freebsd/14.0"), running=False),
        domain_xml(disk_xml(), scsi_xml(), name="debian", metadata=libosinfo("http://debian.org/debian/12")),
        domain_xml(disk_xml("xvda"), scsi_xml(), name="xv"),
    )


def test_a_forced_run_moves_linux_alone(tmp_path: Path) -> None:
    uri = _fleet(tmp_path)
    done = audit(tmp_path / "a", "--definitions-only", "--fix", "--force", uri=uri)
    for guest, disk, system in (("win11", "sda", "Windows"), ("pfsense", "vda", "FreeBSD")):
        rows = _rows(done.document, guest)
        for key in (("scsi-controller", None), ("disk-bus", disk)):
            assert rows[key]["verdict"] == "noncompliant"
            assert rows[key]["reason"].endswith(
                f"withheld: it is {system}, which reclaim neither looks into nor changes"
            )
            assert rows[key]["changes"] == []
    assert _rows(done.document, "pfsense")["disk-discard", "vda"]["verdict"] == "fixed"
    moved = _rows(done.document, "debian")["disk-bus", "vda"]
    assert moved["verdict"] == "fixed"
    assert "forced although fstab-uuid is not-assessable" in moved["reason"]
    assert "(so are boot-names, initramfs-driver); reclaim did not check this: " in moved["reason"]
    assert "another disk" not in str(_rows(done.document, "xv")["disk-bus", "xvda"])
    assert "2 of 4 guests do not pass the checks that ran (not all checks ran); 2 pass them" in done.stdout


def test_without_force_nobody_is_told_that_it_is_off_alone(tmp_path: Path) -> None:
    done = audit(tmp_path / "a", "--definitions-only", "--fix", uri=_fleet(tmp_path))
    reason = _rows(done.document, "win11")["disk-bus", "sda"]["reason"]
    assert "it is Windows, which reclaim neither looks into nor changes" in reason
    assert "it is off" not in reason


def test_a_fix_names_what_it_depends_on_and_that_this_run_has_no_row_of_it(tmp_path: Path) -> None:
    depends = "depends on fstab-uuid (not-assessable: libvirt's test driver: there is nothing inside its guests)"
    done = audit(tmp_path / "a", "--definitions-only", "--fix", uri=_fleet(tmp_path))
    reason = _rows(done.document, "debian")["disk-bus", "vda"]["reason"]
    assert reason.endswith(f"; withheld: {depends}, which has no row in this run")
    assert done.stdout.count("reclaim: --definitions-only: fixes may depend on") == 1
    done = audit(tmp_path / "b", "--fix", uri=_fleet(tmp_path))
    reason = _rows(done.document, "debian")["disk-bus", "vda"]["reason"]
    assert reason.endswith(f"; withheld: {depends}")
    assert "fixes may depend on" not in audit(tmp_path / "c", "--definitions-only", uri=_fleet(tmp_path)).stdout


def test_a_forced_plan_goes_on_with_force(tmp_path: Path) -> None:
    done = audit(tmp_path / "a", "--definitions-only", "--plan", "--force", uri=_fleet(tmp_path))
    [line] = [line for line in done.lines if line.startswith("next:")]
    assert " fix " in line
    assert line.endswith(" --force")
    assert "forced although" in _rows(done.document, "debian")["disk-bus", "vda"]["reason"]
