"""The trim from the hypervisor on a schedule: read from units and cron, made, and taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.errors import ChangeFailed, ProbeError
from reclaim.changes import domfstrim, kinds
from reclaim.changes.domfstrim import TrimTimer
from reclaim.handles.guest import Guest
from tests.support import InhabitedGuest, Inside, executable, inhabited
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
    with pytest.raises(ChangeFailed, match="it has been changed since"):
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


# The schedule that is there -------------------------------------------------------------------


def test_the_timer_of_ours_works_while_it_is_enabled_and_active(guest: InhabitedGuest, host: Units) -> None:
    unit = domfstrim.unit_of(guest.uuid)
    assert not domfstrim.is_installed(guest)
    host.units[f"{unit}.timer"] = "[Timer]\n"
    assert domfstrim.is_installed(guest)
    stopped = domfstrim.schedule_of(guest)
    assert (stopped.works, stopped.doubt) == ("", "")
    assert "disabled and inactive" in stopped.problem
    host.enabled.add(f"{unit}.timer")
    found = domfstrim.schedule_of(guest)
    assert unit in found.works
    assert (found.problem, found.doubt) == ("", "")


def _says(host: Units, state: str) -> None:
    def show(unit: str) -> tuple[int, str, str]:
        assert unit.endswith(".timer")
        return 0, state, ""

    host.show = show  # type: ignore[method-assign]


def test_an_enabled_timer_that_does_not_run_is_no_schedule(guest: InhabitedGuest, host: Units) -> None:
    state = "LoadState=loaded\nUnitFileState=enabled\nActiveState=failed\n"
    _says(host, state)
    assert "enabled and failed" in domfstrim.schedule_of(guest).problem
    _says(host, "LoadState=loaded\nActiveState=active\n")
    assert "unknown and active" in domfstrim.schedule_of(guest).problem


def test_without_systemd_there_is_no_timer_and_cron_counts(guest: InhabitedGuest, host: Units) -> None:
    host.systemd = False
    host.units[f"{domfstrim.unit_of(guest.uuid)}.timer"] = "[Timer]\n"
    assert not domfstrim.has_systemd(guest.hypervisor)
    assert not domfstrim.is_installed(guest)
    assert domfstrim.schedule_of(guest).problem
    host.mentions = f"/etc/crontab\t-\t0 4 * * 0 root virsh domfstrim {guest.uuid}\n"
    assert domfstrim.schedule_of(guest).works.startswith("/etc/crontab ")


@pytest.mark.parametrize(
    ("path", "mode", "line"),
    [
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim one"),
        ("/etc/cron.hourly/trim", "x", "/usr/bin/virsh --connect=qemu:///system domfstrim one"),
        ("/etc/cron.monthly/trim", "x", "virsh domfstrim --domain one"),
        ("/etc/cron.d/trim", "-", "0 4 * * 0 root virsh domfstrim 'one'"),
        ("/etc/crontab", "-", "@daily root  virsh domfstrim one"),
        ("/var/spool/cron/crontabs/root", "-", "*/5 1-3 1,15 * 0 virsh domfstrim one"),
        ("/var/spool/cron/root", "-", "@monthly virsh domfstrim one"),
    ],
)
def test_a_line_that_trims_this_guest_is_its_schedule(
    guest: InhabitedGuest, host: Units, path: str, mode: str, line: str
) -> None:
    host.mentions = f"/etc/cron.d/a\t-\t0 4 * * 0 root virsh domfstrim two\n{path}\t{mode}\t{line}\n"
    assert domfstrim.schedule_of(guest).works.startswith(f"{path} ")


@pytest.mark.parametrize(
    ("path", "mode", "line"),
    [
        ("/etc/cron.weekly/trim.sh", "x", "virsh domfstrim one"),
        ("/etc/cron.yearly/trim", "x", "virsh domfstrim one"),
        ("/etc/cron.weekly/trim", "-", "virsh domfstrim one"),
        ("/etc/cron.weekly/trim", "x", "\tvirsh domfstrim one"),
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim one; reboot"),
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim on?"),
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim `cat list`"),
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim 'one"),
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim domfstrim one"),
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim"),
        ("/etc/cron.weekly/trim", "x", "virsh domfstrim one --minimum 1048576"),
        ("/etc/cron.weekly/trim", "x", "ssh kvm2 virsh domfstrim one"),
        ("/etc/cron.weekly/trim", "x", "--virsh domfstrim one"),
        ("/etc/cron.d/trim.bak", "-", "0 4 * * 0 root virsh domfstrim one"),
        ("/etc/cron.d/trim", "-", "0 4 * * 0 virsh domfstrim one"),
        ("/etc/cron.d/trim", "-", "@reboot root virsh domfstrim one"),
        ("/etc/cron.d/trim", "-", "0 4 * * root virsh domfstrim one"),
        ("/var/spool/cron/a/b", "-", "@daily virsh domfstrim one"),
        ("/etc/systemd/system/t.service", "x", "ExecStart=virsh domfstrim one"),
    ],
)
def test_a_line_that_is_not_understood_is_a_doubt(
    guest: InhabitedGuest, host: Units, path: str, mode: str, line: str
) -> None:
    host.mentions = f"{path}\t{mode}\t{line}\n"
    found = domfstrim.schedule_of(guest)
    assert path in found.doubt
    assert (found.works, found.problem) == ("", "")


@pytest.mark.parametrize(
    "line", ["", "no fields at all\n", "/etc/crontab\t-\n", "/etc/crontab\tx\t  # virsh domfstrim one"]
)
def test_what_is_no_mention_is_neither_schedule_nor_doubt(guest: InhabitedGuest, host: Units, line: str) -> None:
    host.mentions = line
    found = domfstrim.schedule_of(guest)
    assert (found.works, found.doubt) == ("", "")
    assert found.problem


@pytest.mark.parametrize("fails", ["show", "cron"])
def test_a_hypervisor_that_cannot_be_read_has_no_schedule_and_no_finding(
    guest: InhabitedGuest, host: Units, fails: str
) -> None:
    if fails == "show":
        host.broken = True
    else:
        answer = host.answer
        host.answer = lambda words: (1, "", "no\nfork\n") if "-c" in words else answer(words)  # type: ignore[method-assign]
    with pytest.raises(ProbeError, match="bus" if fails == "show" else "fork"):
        domfstrim.schedule_of(guest)


# The scripts, run by a shell on files below a folder of the test's ----------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of the hypervisor's files, whose systemctl writes down its calls and fails while `fails` is there."""
    root = tmp_path / "root"
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "bin").mkdir()
    tool = root / "bin/systemctl"
    executable(tool, f'#!/bin/sh\necho "$*" >>{root}/calls\n[ "$1" != enable ] || [ ! -e {root}/fails ]\n')
    for name in ("_INSTALL", "_REMOVE"):
        script = (
            getattr(domfstrim, name).replace("cd /etc/", f"cd {root}/etc/").replace("PATH=", f"PATH={root}/bin:", 1)
        )
        monkeypatch.setattr(domfstrim, name, script)
    monkeypatch.setattr(domfstrim, "_MENTIONS", domfstrim._MENTIONS.replace(" /", f" {root}/"))
    return root


@pytest.fixture
def here(tmp_path: Path) -> Guest:
    """A guest of this machine."""
    return inhabited(tmp_path, Inside())


def _calls(machine: Path) -> list[str]:
    return (machine / "calls").read_text().splitlines() if (machine / "calls").exists() else []


def _files(machine: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (machine / "etc/systemd/system").iterdir()}


def _timer(guest: Guest, **more: str) -> TrimTimer:
    return TrimTimer("one", guest.uuid, "qemu:///system", "/usr/bin/virsh", **more)


def test_both_units_are_there_enabled_and_gone_again(machine: Path, here: Guest) -> None:
    change = _timer(here)
    assert change.apply(here) == {}
    assert _files(machine) == {f"{change.unit}.service": change.service, f"{change.unit}.timer": change.timer}
    assert _calls(machine) == ["daemon-reload", f"enable --now {change.unit}.timer"]
    assert change.unit in change.undo(here, {})
    assert _files(machine) == {}
    assert _calls(machine)[2:] == [f"disable --now {change.unit}.timer", "daemon-reload"]
    change.undo(here, {})
    assert len(_calls(machine)) == 4, "what is gone already needs no call"


@pytest.mark.parametrize("kind", ["service", "timer"])
def test_a_unit_that_is_there_already_is_left(machine: Path, here: Guest, kind: str) -> None:
    change = _timer(here)
    (machine / f"etc/systemd/system/{change.unit}.{kind}").write_text("theirs")
    with pytest.raises(ChangeFailed, match="already"):
        change.apply(here)
    assert _files(machine) == {f"{change.unit}.{kind}": "theirs"}
    assert _calls(machine) == []
    with pytest.raises(ChangeFailed, match="been changed since"):
        change.undo(here, {})
    assert _files(machine) == {f"{change.unit}.{kind}": "theirs"}


def test_a_timer_that_cannot_be_enabled_leaves_nothing(machine: Path, here: Guest) -> None:
    (machine / "fails").touch()
    change = _timer(here)
    with pytest.raises(ChangeFailed, match=change.unit):
        change.apply(here)
    assert _files(machine) == {}
    assert _calls(machine)[-2:] == [f"disable --now {change.unit}.timer", "daemon-reload"]


@pytest.mark.parametrize("kind", ["service", "timer"])
def test_a_unit_that_somebody_changed_by_a_newline_stays(machine: Path, here: Guest, kind: str) -> None:
    change = _timer(here)
    change.apply(here)
    path = machine / f"etc/systemd/system/{change.unit}.{kind}"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ChangeFailed, match="been changed since"):
        change.undo(here, {})
    assert len(_files(machine)) == 2


def test_the_half_that_a_kill_left_is_taken_away(machine: Path, here: Guest) -> None:
    change = _timer(here)
    change.apply(here)
    (machine / f"etc/systemd/system/{change.unit}.timer").unlink()
    change.undo(here, {})
    assert _files(machine) == {}


def test_the_lines_of_every_schedule_are_read(machine: Path, here: Guest) -> None:
    files = {
        "etc/crontab": "0 4 * * 0 root virsh domfstrim a\n# virsh domfstrim z\n",
        "etc/cron.d/b": "x\ty domfstrim b\n",
        "etc/cron.weekly/c": "#!/bin/sh\nvirsh domfstrim c\nreboot\n",
        "var/spool/cron/crontabs/root": "@daily virsh domfstrim d\n",
        "etc/systemd/system/e.service": "ExecStart=virsh domfstrim e\n",
        "etc/systemd/system/reclaim-domfstrim-x.service": "ExecStart=virsh domfstrim f\n",
        "etc/cron.d/no": "nothing of it\n",
    }
    for name, text in files.items():
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(text)
    (machine / "etc/cron.weekly/c").chmod(0o755)
    (machine / "etc/cron.d/folder").mkdir()
    assert domfstrim._mentions(here.hypervisor) == [
        (f"{machine}/etc/crontab", False, "0 4 * * 0 root virsh domfstrim a"),
        (f"{machine}/etc/cron.d/b", False, "x\ty domfstrim b"),
        (f"{machine}/etc/cron.weekly/c", True, "virsh domfstrim c"),
        (f"{machine}/var/spool/cron/crontabs/root", False, "@daily virsh domfstrim d"),
        (f"{machine}/etc/systemd/system/e.service", False, "ExecStart=virsh domfstrim e"),
    ]


def test_a_schedule_without_end_is_read_in_part(machine: Path, here: Guest) -> None:
    (machine / "etc/crontab").write_text("# domfstrim\n" + "0 4 * * 0 root virsh domfstrim a\n" * 10_000)
    assert len(domfstrim._mentions(here.hypervisor)) == 99


# Words ----------------------------------------------------------------------------------------


def test_the_change_shows_all_that_it_writes(here: Guest) -> None:
    change = _timer(here)
    for line in (*change.service.splitlines(), *change.timer.splitlines()):
        assert f"+{line}\n" in change.diff
    assert change.diff.endswith(f"enable --now {change.unit}.timer")
    assert change.target.startswith(f"/etc/systemd/system/{change.unit}.timer")


def test_the_price_of_a_trim_is_in_the_change_and_its_note(machine: Path, here: Guest) -> None:
    change = _timer(here, price="it has 1 checkpoint")
    assert "it has 1 checkpoint\n" in change.diff
    assert change.apply(here) == {"note": "it has 1 checkpoint"}
    assert "checkpoint" not in "".join(_files(machine).values())


def test_the_service_does_nothing_while_the_guest_is_off(here: Guest) -> None:
    condition = next(line for line in _timer(here).service.splitlines() if line.startswith("ExecCondition="))
    assert f"domstate {here.uuid}" in condition
    assert "running" in condition


@pytest.mark.parametrize(
    ("virsh", "path"),
    [
        ("/usr/bin/virsh\n", "/usr/bin/virsh"),
        ("", None),
        ("virsh\n", None),
        ("/opt/a b/virsh\n", None),
        ("alias virsh='x'\n", None),
        ("/opt/$(id)/virsh\n", None),
    ],
)
def test_virsh_is_named_by_a_plain_path_or_not_at_all(
    guest: InhabitedGuest, host: Units, virsh: str, path: str | None
) -> None:
    host.virsh = virsh
    assert domfstrim.found_virsh(guest.hypervisor) == path


class _Checkpoints:
    def __init__(self, count: int | None) -> None:
        self.count = count

    def listAllCheckpoints(self, _flags: int) -> list[object]:  # noqa: N802
        if self.count is None:
            raise libvirt.libvirtError("this function is not supported")
        return [object()] * self.count


@pytest.mark.parametrize(("count", "words"), [(None, ""), (0, ""), (1, "1 checkpoint:"), (3, "3 checkpoints:")])
def test_checkpoints_have_a_price(here: Guest, count: int | None, words: str) -> None:
    here.domain = _Checkpoints(count)
    told = domfstrim.price(here)
    assert words in told
    assert bool(told) is bool(words)
