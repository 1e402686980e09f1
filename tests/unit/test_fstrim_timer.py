"""fstrim-timer: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reclaim.change import CommandChange
from reclaim.verdict import Verdict
from tests.support import FILES, SERVICE, TIMER, Inside, block, engine, inhabited, mounted, part, requirement, subject
from tests.support import verdict_of as judged

if TYPE_CHECKING:
    from pathlib import Path

ENABLE = CommandChange("one", "systemctl enable --now fstrim.timer", "systemctl disable --now fstrim.timer")
START = CommandChange("one", "systemctl start fstrim.timer", "systemctl stop fstrim.timer")
AGAIN = CommandChange("one", "systemctl start fstrim.service")


def _set(unit: str, **values: str) -> Any:
    def change(inside: Inside) -> int:
        getattr(inside, unit).update(values)
        return 0

    return change


COMMANDS = {
    ENABLE.command: _set("timer", UnitFileState="enabled", ActiveState="active"),
    START.command: _set("timer", ActiveState="active"),
    AGAIN.command: _set("service", Result="success"),
}


@pytest.mark.parametrize(
    ("timer", "service", "changes"),
    [
        pytest.param({"UnitFileState": "disabled", "ActiveState": "inactive"}, {}, [ENABLE], id="disabled"),
        pytest.param({"UnitFileState": "disabled"}, {}, [ENABLE], id="disabled-but-active"),
        pytest.param({"ActiveState": "inactive"}, {}, [START], id="enabled-but-inactive"),
        pytest.param({"ActiveState": "failed"}, {}, [START], id="failed"),
        pytest.param({}, {"Result": "exit-code"}, [AGAIN], id="last-run-failed"),
        pytest.param(
            {"UnitFileState": "disabled", "ActiveState": "inactive"},
            {"Result": "timeout"},
            [ENABLE, AGAIN],
            id="disabled-and-failed",
        ),
    ],
)
def test_the_timer_is_put_to_work(
    tmp_path: Path, timer: dict[str, str], service: dict[str, str], changes: list[CommandChange]
) -> None:
    inside = Inside(timer={**TIMER, **timer}, service={**SERVICE, **service}, commands=COMMANDS)
    guest = inhabited(tmp_path, inside)
    assert judged(guest, "fstrim-timer") is Verdict.NONCOMPLIANT
    assert requirement("fstrim-timer").fixer(guest) == changes
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.ran == [change.command for change in changes]
    assert inside.files == FILES
    again = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.parametrize(
    ("timer", "words"),
    [
        pytest.param({"LoadState": "masked", "UnitFileState": "masked"}, "masked", id="masked"),
        pytest.param({"LoadState": "not-found", "UnitFileState": ""}, "not installed", id="not-installed"),
    ],
)
def test_what_somebody_decided_or_never_installed_is_told(tmp_path: Path, timer: dict[str, str], words: str) -> None:
    inside = Inside(timer={**TIMER, **timer}, commands=COMMANDS)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert words in result.reason.partition("withheld: ")[2]
    assert inside.ran == []


def test_a_timer_that_does_not_start_is_not_mended(tmp_path: Path) -> None:
    inside = Inside(timer={**TIMER, "ActiveState": "inactive"}, commands={START.command: lambda _: 4})
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "systemctl start fstrim.timer ended with status 4: it failed" in result.reason


DATA = block("vdb", part("vdb1", fstype="xfs", uuid="dddd"))


@pytest.mark.parametrize(
    ("fstab", "mount", "missed"),
    [
        pytest.param("", mounted("/data", "/dev/vdb1", "xfs"), "/data (not in fstab)", id="not-in-fstab"),
        pytest.param(
            "UUID=dddd /data xfs defaults,X-fstrim.notrim\n",
            mounted("/data", "/dev/vdb1", "xfs"),
            "/data (X-fstrim.notrim)",
            id="notrim",
        ),
        pytest.param("UUID=dddd /data xfs\n", mounted("/data", "/dev/vdb1", "xfs"), None, id="in-fstab"),
        pytest.param("", mounted("/data", "/dev/vdb1", "xfs", "rw,discard"), None, id="discard"),
        pytest.param("", mounted("/data", "/dev/vdb1", "btrfs", "rw,discard=async"), None, id="discard-async"),
        pytest.param("", mounted("/data", "/dev/vdb1", "xfs", "ro,relatime"), None, id="read-only"),
        pytest.param("", mounted("/data", "/dev/vdb1", "ext2"), None, id="not-trimmable"),
        pytest.param("UUID=dddd /a\\040b xfs\n", mounted("/a b", "/dev/vdb1", "xfs"), None, id="escaped-target"),
    ],
)
def test_every_trimmable_mount_has_to_be_covered(
    tmp_path: Path, fstab: str, mount: dict[str, Any], missed: str | None
) -> None:
    inside = Inside()
    inside.devices.append(DATA)
    inside.mounts.append(mount)
    inside.files["/etc/fstab"] += fstab
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.changes == []
    if missed:
        assert result.verdict is Verdict.NONCOMPLIANT
        assert result.reason.startswith(f"fstrim.timer covers what is in fstab, and not {missed}; withheld: ")
    else:
        assert result.verdict is Verdict.COMPLIANT


def test_a_guest_without_systemd_is_not_assessed(tmp_path: Path) -> None:
    assert judged(inhabited(tmp_path, Inside(tools=("fstrim",))), "fstrim-timer") is Verdict.NOT_ASSESSABLE
