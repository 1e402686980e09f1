"""The trim from the hypervisor on a schedule: read from units and cron, made, and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.changes import domfstrim, kinds
from reclaim.changes.domfstrim import TrimTimer
from tests.support import InhabitedGuest
from tests.timers import Units, blocked

if TYPE_CHECKING:
    from pathlib import Path


def test_undo_takes_the_timer_away_and_no_other(guest: InhabitedGuest, host: Units) -> None:
    host.units["fstrim.timer"] = "[Timer]\n"
    change = TrimTimer("one", guest.uuid, "qemu:///system", "/usr/bin/virsh")
    outcome = change.apply(guest)
    assert kinds.from_json(kinds.to_json(change)) == change
    change.undo(guest, outcome)
    assert set(host.units) == {"fstrim.timer"}


def test_undo_leaves_a_timer_that_somebody_changed(guest: InhabitedGuest, host: Units) -> None:
    change = TrimTimer("one", guest.uuid, "qemu:///system", "/usr/bin/virsh")
    outcome = change.apply(guest)
    host.units[f"{change.unit}.timer"] += "# every day\n"
    with pytest.raises(ChangeFailed, match="somebody has changed it since"):
        change.undo(guest, outcome)


def test_a_timer_that_cannot_be_enabled_is_said(guest: InhabitedGuest, host: Units) -> None:
    host.broken = True
    with pytest.raises(ChangeFailed, match="no space"):
        TrimTimer("one", guest.uuid, "qemu:///system", "/usr/bin/virsh").apply(guest)


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu+ssh://root@kvm1/system", "qemu:///system"),
        ("qemu:///session", None),
        ("qemu:///embed?root=/x", None),
        ("test:///default", None),
        ("xen:///system", None),
        ("qemu:///system?socket=/elsewhere", None),
    ],
)
def test_the_address_on_the_hypervisor_itself(uri: str, local: str | None) -> None:
    class Connection:
        def getURI(self) -> str:  # noqa: N802
            return uri

    class Hypervisor:
        connection = Connection()

    assert domfstrim.local_uri(Hypervisor()) == local  # type: ignore[arg-type]


@pytest.fixture
def host() -> Units:
    return Units()


@pytest.fixture
def guest(tmp_path: Path, host: Units, monkeypatch: pytest.MonkeyPatch) -> InhabitedGuest:
    monkeypatch.setattr(domfstrim, "local_uri", lambda _hypervisor: "qemu:///system")
    return blocked(tmp_path, host)
