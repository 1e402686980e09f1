"""Installing and removing the timer: exactly our files and links, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.timer import install, manager
from reclaim.timer.manager import Manager
from reclaim.timer.units import SERVICE, TIMER, ScheduledRun
from tests.systemd import Systemd

WEEKLY = ScheduledRun(("/usr/bin/reclaim",), ("--uri=qemu:///system",), "audit", "weekly", is_root=True)
INSTALLED = ["daemon-reload", f"enable --now {TIMER}"]


@pytest.fixture(autouse=True)
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "_BOOTED", tmp_path)


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path)


@pytest.fixture
def said() -> list[str]:
    return []


def files(systemd: Systemd) -> dict[str, str]:
    """Return the files of the folder with their content, and the links with the paths that they lead to."""
    found = {}
    for path in systemd.folder.rglob("*.*"):
        if path.is_symlink():
            found[str(path)] = str(path.readlink())
        elif path.is_file():
            found[str(path)] = path.read_text(encoding="utf-8")
    return found


def test_it_is_written_enabled_and_started(systemd: Systemd, said: list[str]) -> None:
    install.install(WEEKLY, systemd.manager(), said.append)
    assert systemd.calls == INSTALLED
    assert systemd.wanted == [TIMER]
    assert systemd.is_active
    for name in (SERVICE, TIMER):
        assert (systemd.folder / name).stat().st_mode & 0o777 == 0o644
    assert "runs: /usr/bin/reclaim audit -q --uri=qemu:///system" in said
    assert f"{TIMER}: enabled, active; next run: Mon 2026-11-30 00:41:12 UTC" in said


def test_a_second_install_changes_nothing(systemd: Systemd, said: list[str]) -> None:
    install.install(WEEKLY, systemd.manager(), said.append)
    before = [path.stat().st_ino for path in sorted(systemd.folder.iterdir())]
    said.clear()
    install.install(WEEKLY, systemd.manager(), said.append)
    assert systemd.calls == INSTALLED
    assert [path.stat().st_ino for path in sorted(systemd.folder.iterdir())] == before
    assert said == [f"{systemd.folder / TIMER}: installed and active; nothing to do"]


def test_one_that_was_stopped_is_started_again(systemd: Systemd, said: list[str]) -> None:
    made = systemd.manager()
    install.install(WEEKLY, made, said.append)
    made.call("disable", "--now", TIMER)
    install.install(WEEKLY, made, said.append)
    assert systemd.is_active
    assert systemd.wanted == [TIMER]


def test_other_options_are_written_over(systemd: Systemd, said: list[str]) -> None:
    install.install(WEEKLY, systemd.manager(), said.append)
    daily = ScheduledRun(("/usr/bin/reclaim",), (), "plan", "daily", is_root=True)
    install.install(daily, systemd.manager(), said.append)
    assert "OnCalendar=daily" in (systemd.folder / TIMER).read_text(encoding="utf-8")
    assert "reclaim plan -q\n" in (systemd.folder / SERVICE).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [SERVICE, TIMER])
@pytest.mark.parametrize("kind", ["text", "masked", "link", "folder"])
def test_a_file_of_another_stays(systemd: Systemd, said: list[str], name: str, kind: str) -> None:
    made = systemd.manager()
    path = systemd.folder / name
    if kind == "text":
        path.write_text("[Unit]\nDescription=mine\n", encoding="utf-8")
    elif kind == "masked":
        path.symlink_to("/dev/null")
    elif kind == "link":
        path.symlink_to(systemd.root / "elsewhere")
    else:
        path.mkdir()
    before = files(systemd)
    why = f"{name}: this file was not written by reclaim"
    with pytest.raises(ReclaimError, match=why):
        install.install(WEEKLY, made, said.append)
    with pytest.raises(ReclaimError, match=why):
        install.remove(made, said.append)
    assert systemd.calls == []
    assert [entry.name for entry in systemd.folder.iterdir()] == [name]
    assert files(systemd) == before


@pytest.mark.parametrize("refused", ["daemon-reload ", f"enable --now {TIMER}"])
@pytest.mark.parametrize("is_there", [True, False])
def test_if_systemd_refuses_all_is_as_before(
    systemd: Systemd, said: list[str], refused: str, *, is_there: bool
) -> None:
    if is_there:
        install.install(ScheduledRun(("/opt/old",), (), "audit", "daily", is_root=True), systemd.manager(), said.append)
    else:
        systemd.manager()
    before = files(systemd)
    with pytest.raises(ReclaimError, match="Access denied"):
        install.install(WEEKLY, systemd.manager(refused), said.append)
    assert files(systemd) == before
    assert systemd.is_active == is_there


def test_removing_takes_exactly_that_back(systemd: Systemd, said: list[str]) -> None:
    made = systemd.manager()
    others = systemd.folder / "timers.target.wants/other.timer", systemd.folder / f"{SERVICE}.d/mine.conf"
    for other in others:
        other.parent.mkdir()
        other.write_text("[Unit]\n", encoding="utf-8")
    before = files(systemd)
    install.install(WEEKLY, made, said.append)
    install.remove(made, said.append)
    assert files(systemd) == before
    assert not systemd.is_active
    assert systemd.calls[2:] == [f"disable --now {TIMER}", f"clean --what=state {TIMER}", "daemon-reload"]
    said.clear()
    install.remove(made, said.append)
    assert said == [f"{systemd.folder / TIMER}: not installed; nothing to do"]
    assert len(systemd.calls) == 5


def test_the_state(systemd: Systemd, said: list[str]) -> None:
    made = systemd.manager()
    assert not install.status(made, said.append)
    assert said == [f"{systemd.folder / TIMER}: not installed"]
    install.install(WEEKLY, made, said.append)
    said.clear()
    assert install.status(made, said.append)
    assert said == [
        f"{TIMER}: enabled, active; next run: Mon 2026-11-30 00:41:12 UTC",
        f"{SERVICE}: last run ended Mon 2026-11-23 00:12:01 UTC: success, status 1",
        "runs: /usr/bin/reclaim audit -q --uri=qemu:///system",
    ]
    made.call("disable", "--now", TIMER)
    assert not install.status(made, said.append)


@pytest.mark.parametrize("calendar", ["every monday", "", "--help", "weekly; reboot"])
def test_a_calendar_that_systemd_does_not_know(systemd: Systemd, said: list[str], calendar: str) -> None:
    schedule = ScheduledRun(("/usr/bin/reclaim",), (), "audit", calendar, is_root=True)
    with pytest.raises(ReclaimError, match="--calendar"):
        install.install(schedule, systemd.manager(), said.append)
    assert files(systemd) == {}


# Without systemd ------------------------------------------------------------------------------


@pytest.mark.parametrize(("calendar", "when"), [("weekly", "@weekly"), ("daily", "@daily"), ("Mon 04:00", "@weekly")])
def test_a_host_without_systemd_gets_a_line_for_cron(
    systemd: Systemd, said: list[str], monkeypatch: pytest.MonkeyPatch, calendar: str, when: str
) -> None:
    monkeypatch.setattr(manager, "_BOOTED", systemd.root / "nowhere")
    schedule = ScheduledRun(("/opt/my reclaim",), ("--guests=100%",), "audit", calendar, is_root=True)
    with pytest.raises(
        ReclaimError, match="systemd does not run on this host, so there is no timer: give cron the line above"
    ) as raised:
        install.install(schedule, systemd.manager(), said.append)
    assert "\n" not in str(raised.value)
    assert said == [rf"{when} nice '/opt/my reclaim' audit -q --guests=100\%"]
    assert files(systemd) == {}
    assert systemd.calls == []


def test_what_was_installed_is_removed_while_systemd_does_not_run(
    systemd: Systemd, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install.install(WEEKLY, systemd.manager(), said.append)
    monkeypatch.setattr(manager, "_BOOTED", systemd.root / "nowhere")
    install.remove(systemd.manager(), said.append)
    assert files(systemd) == {}


def test_a_systemctl_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match="no-such-systemctl: there is no such program"):
        Manager(tmp_path, ("no-such-systemctl",)).call("daemon-reload")


def test_a_user_has_units_of_his_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert manager.ours() == Manager(tmp_path / "systemd/user", ("systemctl", "--user"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert manager.ours().folder == tmp_path / ".config/systemd/user"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert manager.ours() == Manager(Path("/etc/systemd/system"))
