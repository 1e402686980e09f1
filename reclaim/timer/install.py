"""Install, remove and show the timer. Only files with our marker are written over or removed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from reclaim.base.errors import ReclaimError
from reclaim.base.text import printable
from reclaim.files import whole
from reclaim.timer import manager, units
from reclaim.timer.manager import Manager
from reclaim.timer.units import MARKER, SERVICE, TIMER, ScheduledRun

Say = Callable[[str], None]
_MODE = 0o644
#: bytes of a unit that is read
_MOST = 64 * 1024
#: calendar expressions that cron(8) knows too
_OF_CRON = ("hourly", "daily", "weekly", "monthly", "yearly")


def install(schedule: ScheduledRun, systemd: Manager, say: Say) -> None:
    """Write the service and its timer, and start the timer.

    Raises ReclaimError if a file of another is there, or systemd refuses; then everything is as it was.
    """
    _expect_systemd(schedule, systemd, say)
    texts = units.texts(schedule)
    expect_calendar(schedule.calendar)
    before = {name: _ours(systemd.folder / name) for name in texts}
    if before == texts and _is_on(systemd):
        say(f"{systemd.folder / TIMER}: installed and active; nothing to do")
        return
    try:
        _write(systemd, texts)
        systemd.call("daemon-reload")
        systemd.call("enable", "--now", TIMER)
    except (ReclaimError, OSError, KeyboardInterrupt):
        _take_back(systemd, before)
        raise
    for name in texts:
        say(f"written: {systemd.folder / name}")
    say(f"runs: {shlex.join(schedule.command)}")
    for line in _state(systemd):
        say(line)


def _expect_systemd(schedule: ScheduledRun, systemd: Manager, say: Say) -> None:
    """Raise ReclaimError, and print the line for cron, if systemd does not run here."""
    if systemd.is_there:
        return
    is_known = schedule.calendar in _OF_CRON
    when = schedule.calendar if is_known else "weekly"
    # crontab(5): an unescaped % is a newline
    command = shlex.join(["nice", *schedule.command]).replace("%", "\\%")
    say(f"@{when} {command}")
    own_time = "" if is_known else f" with your own time for @{when}"
    raise ReclaimError(
        f"systemd does not run on this host, so there is no timer: give cron the line above{own_time} (crontab -e)"
    )


def expect_calendar(text: str) -> None:
    """Raise ReclaimError if *text* is no calendar expression (systemd.time(7))."""
    status, said = manager.run(["systemd-analyze", "calendar", "--", text])
    if status:
        why = " ".join(said.split("\n")[0].split())
        raise ReclaimError(
            f"--calendar {printable(text)}: {printable(why)} (see systemd.time(7))"
        )


def _ours(path: Path) -> str | None:
    """Return the text of our file at *path*, or None if there is none. Raises ReclaimError for one of another."""
    if not path.exists() and not path.is_symlink():
        return None
    with suppress(OSError, UnicodeDecodeError):
        text = whole.read(path, _MOST).decode("utf-8")
        if text.startswith(MARKER) and not path.is_symlink():
            return text
    raise ReclaimError(
        f"{path}: this file was not written by reclaim, so it stays as it is; remove or rename it first"
    )


def _write(systemd: Manager, texts: dict[str, str]) -> None:
    systemd.folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        whole.write(systemd.folder / name, [text], durable=True, mode=_MODE)


def _take_back(systemd: Manager, before: dict[str, str | None]) -> None:
    """Make the files those of *before* again, after systemd refused."""
    with suppress(ReclaimError):
        if before[TIMER] is None:
            systemd.call("disable", "--now", TIMER)
    for name, text in before.items():
        if text is None:
            whole.drop(systemd.folder / name)
        else:
            _write(systemd, {name: text})
    with suppress(ReclaimError):
        systemd.call("daemon-reload")


def remove(systemd: Manager, say: Say) -> None:
    """Stop the timer and remove both files. Raises ReclaimError if one is not ours: then nothing is removed.

    A run that is under way ends by itself.
    """
    there = [
        name for name in (SERVICE, TIMER) if _ours(systemd.folder / name) is not None
    ]
    if not there:
        say(f"{systemd.folder / TIMER}: not installed; nothing to do")
        return
    if TIMER in there:
        systemd.call("disable", *(("--now",) if systemd.is_there else ()), TIMER)
        # the time of the last run: the next timer of this name would make up for those since
        systemd.is_true("clean", "--what=state", TIMER)
    for name in there:
        (systemd.folder / name).unlink()
        say(f"removed: {systemd.folder / name}")
    if systemd.is_there:
        systemd.call("daemon-reload")


def status(systemd: Manager, say: Say) -> bool:
    """Show the timer and the last run. Return True if it is installed and active."""
    if _ours(systemd.folder / TIMER) is None:
        say(f"{systemd.folder / TIMER}: not installed")
        return False
    for line in _state(systemd):
        say(line)
    if command := _command(systemd):
        say(f"runs: {command}")
    return systemd.is_there and _is_on(systemd)


def _is_on(systemd: Manager) -> bool:
    return systemd.is_true("is-enabled", "--quiet", TIMER) and systemd.is_true(
        "is-active", "--quiet", TIMER
    )


def _state(systemd: Manager) -> Iterator[str]:
    """Yield the state of the timer, and that of the last run if there was one."""
    timer = systemd.properties(
        TIMER,
        ("UnitFileState", "ActiveState", "NextElapseUSecRealtime", "LastTriggerUSec"),
    )
    states = timer.get("UnitFileState", "unknown"), timer.get("ActiveState", "unknown")
    following = timer.get("NextElapseUSecRealtime", "not known")
    yield f"{TIMER}: {', '.join(states)}; next run: {following}"
    service = systemd.properties(
        SERVICE, ("Result", "ExecMainStatus", "ExecMainExitTimestamp")
    )
    if ended := service.get("ExecMainExitTimestamp"):
        result = service.get("Result", "unknown")
        yield f"{SERVICE}: last run ended {ended}: {result}, status {service.get('ExecMainStatus', 'unknown')}"


def _command(systemd: Manager) -> str:
    text = _ours(systemd.folder / SERVICE) or ""
    found = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return found[1] if found else ""
