"""A run that is opened, prepared and closed in this process: its folders, its lock, its record, earlier runs."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import libvirt
import pytest

from reclaim.base.errors import ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject, judge
from reclaim.engine.part import Options
from reclaim.engine.run import Run
from reclaim.handles.lock import lock
from reclaim.inventory import GuestNotes, Inventory, Ssh
from reclaim.record.results import NAME
from reclaim.requirement import catalogue
from reclaim.space import measured
from tests.command import FLEET
from tests.support import (
    Inside,
    disk_xml,
    domain_xml,
    drive,
    inhabited,
    node,
    opened,
    scsi_xml,
)

GOOD = [disk_xml("sda", "scsi", driver="discard='unmap'", inner=drive(0)), scsi_xml()]


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """Three guests, out of order: what has to be mended, what is right, what was waived."""
    return node(
        tmp_path,
        domain_xml(*GOOD, name="web"),
        domain_xml(disk_xml("vda"), disk_xml("vdb", driver="discard='unmap'"), name="db"),
        domain_xml(disk_xml("sda", "usb"), name="app", machine="my-machine-1"),
    )


@pytest.mark.parametrize("after", [False, True])
def test_a_guest_that_goes_meanwhile_costs_only_its_own_rows(tmp_path: Path, fleet: str, *, after: bool) -> None:
    """A transient guest is gone for good when it stops; all others are looked into and counted."""
    run = Run(_options(tmp_path, fleet))
    run.open()
    hypervisor, guests = run.parts[0].hypervisor, run.parts[0].guests
    gone = next(guest for guest in guests if guest.name == "db")
    assert len(gone.disks) == 2  # as collecting has it
    gone.domain.destroy()
    gone.domain.undefine()
    hypervisor.is_test_driver = False
    looked: list[str] = []
    run.gather(guests, looked.append)
    run.measure(guests, after=after)
    assert looked[-1] == "looked into 2 of 2 guests"
    assert {guest for guest, _ in run.parts[0].storage} == {"app", "db", "web"}


def _options(folder: Path, uri: str, **more: str) -> Options:
    return Options(uri=uri, reports=folder / "reports", **more)  # type: ignore[arg-type]


def test_two_runs_in_the_same_second_get_two_folders_and_latest_is_the_last(tmp_path: Path, fleet: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    folders = []
    for _ in range(3):
        run = Run(_options(tmp_path, fleet), started=now)
        run.open()
        run.prepare()
        run.close()
        folders.append(run.parts[0].folder)
    names = ["20260101T000000Z-audit", "20260101T000000Z-audit-2", "20260101T000000Z-audit-3"]
    assert [folder.name for folder in folders] == names
    latest = folders[0].parent / "latest"
    assert latest.is_symlink()
    assert latest.resolve() == folders[2]
    assert sorted(path.name for path in latest.parent.iterdir()) == [*names, "latest"]
    assert json.loads((latest / "results.json").read_text())["run"]["mode"] == "audit"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, fleet: str) -> None:
    (tmp_path / "reports").write_text("a file")
    run = Run(_options(tmp_path, fleet))
    run.open()
    with pytest.raises(ReclaimError, match="cannot be made"):
        run.prepare()


def test_a_second_fix_is_refused_and_an_audit_is_not(tmp_path: Path, fleet: str) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    with lock(hypervisor):
        for mode in ("audit", "plan"):
            run = Run(_options(tmp_path, fleet, mode=mode))
            run.open()
            run.prepare()
            run.close()
        second = Run(_options(tmp_path, fleet, mode="fix"))
        second.open()
        with pytest.raises(ReclaimError, match="another --fix is under way there"):
            second.prepare()
    after = Run(_options(tmp_path, fleet, mode="fix"))
    after.open()
    after.prepare()
    after.close()


def test_a_lock_is_let_go_where_the_run_ends(tmp_path: Path, fleet: str) -> None:
    for _ in range(2):
        run = Run(_options(tmp_path, fleet, mode="fix"))
        run.open()
        run.prepare()
        run.close()


def test_no_guest_is_started_or_stopped_by_an_audit(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), running=False), domain_xml(disk_xml(), name="two"))
    run = Run(_options(tmp_path, uri))
    run.open()
    connection = run.parts[0].hypervisor.connection
    states = {domain.name(): domain.state() for domain in connection.listAllDomains()}
    run.prepare()
    run.gather(run.parts[0].guests, lambda _: None)
    run.measure(run.parts[0].guests)
    run.close()
    assert {domain.name(): domain.state() for domain in connection.listAllDomains()} == states
    assert states["one"][0] == libvirt.VIR_DOMAIN_SHUTOFF


def test_a_guest_that_goes_away_costs_only_its_own_rows(tmp_path: Path) -> None:
    """As the appliances of libguestfs do, which are transient."""
    guest = inhabited(tmp_path, Inside())
    _ = guest.persistent  # as collecting has read it
    guest.domain.destroy()
    guest.domain.undefine()
    run = Run(Options())
    run.gather([guest], lambda _: None)
    storage: dict[tuple[str, str], measured.DiskSpace] = {}
    measured.measure(guest.hypervisor, [guest], storage, after=False)
    assert [one.used for one in storage.values()] == [None]
    row = judge(catalogue()["live-definition"], Subject(guest.hypervisor, guest))
    assert row.verdict is Verdict.ERROR
    assert "Domain not found" in row.reason


def test_a_guest_that_goes_away_while_ssh_looks_for_it_costs_only_its_own_rows(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), inventory=Inventory(guest={"one": GuestNotes(ssh=Ssh(prefer=True))}))
    assert guest.can_be_looked_into
    guest.domain.destroy()
    guest.domain.undefine()
    Run(Options()).gather([guest], lambda _: None)


def test_a_record_that_cannot_be_written_costs_no_other_hypervisor_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Options(uri=FLEET, reports=tmp_path / "reports"))
    run.open()
    run.open()  # the same once more: two parts
    run.prepare()
    full, other = run.parts
    real = os.open

    def no_room(path: Any, *rest: Any, **more: Any) -> Any:
        if str(path).startswith(f"{full.folder}/") and NAME in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", no_room)
    monkeypatch.setattr(
        "pathlib.Path.open", lambda path, *rest, **more: os.fdopen(no_room(path, 0o1101), *rest, **more)
    )
    troubles = run.close()
    assert troubles == [f"there is no record of this run: {full.folder}: No space left on device"]
    assert (full.is_written, other.is_written) == (False, True)
    assert full.found is not None
    assert (other.folder / NAME).is_file()
