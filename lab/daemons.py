"""Starts libvirt's daemons where no service manager does, and stops those, and only those, that it started."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TypedDict

from lab import paths, tools
from lab.error import LabError

SECONDS = 30.0
"""The limit for a daemon to start, and for it to stop."""


class Started(TypedDict):
    """One daemon that the lab started; a pid alone may be somebody else's by now, pid and start time may not."""

    name: str
    pid: int
    ticks: int


def start(name: str) -> None:
    """Start `libvirtd` or `virtlogd` and remember it. Raises LabError where it does not start."""
    tools.call([name, "--daemon"], seconds=SECONDS)
    end = time.monotonic() + SECONDS
    while True:
        pid = _pid(name)
        ticks = _ticks(pid) if pid else None
        if pid and ticks is not None:
            break
        if time.monotonic() > end:
            raise LabError(f"{name} was started and left no process in /run/{name}.pid")
        time.sleep(0.1)
    _write(
        [
            *(one for one in _read() if one["name"] != name),
            {"name": name, "pid": pid, "ticks": ticks},
        ]
    )


def stop() -> list[str]:
    """Stop what `start` started and still runs; return the names. Raises LabError where one does not stop."""
    stopped = []
    # libvirtd first: it talks to virtlogd.
    for one in sorted(_read(), key=lambda one: one["name"]):
        if _ticks(one["pid"]) != one["ticks"]:
            continue
        os.kill(one["pid"], signal.SIGTERM)
        end = time.monotonic() + SECONDS
        while _ticks(one["pid"]) == one["ticks"]:
            if time.monotonic() > end:
                raise LabError(f"{one['name']} (process {one['pid']}) does not stop")
            time.sleep(0.1)
        stopped.append(one["name"])
    forget()
    return stopped


def is_ours(name: str) -> bool:
    """Does what `start` started still run?"""
    return any(
        one["name"] == name and _ticks(one["pid"]) == one["ticks"] for one in _read()
    )


def kill(name: str) -> bool:
    """Kill what `start` started, as a crash would; False where it is not the lab's to kill."""
    for one in _read():
        if one["name"] == name and _ticks(one["pid"]) == one["ticks"]:
            os.kill(one["pid"], signal.SIGKILL)
            return True
    return False


def forget() -> None:
    """Forget what was started: it stays."""
    _file().unlink(missing_ok=True)


def _file() -> Path:
    return paths.root() / "daemons.json"


def _read() -> list[Started]:
    try:
        kept: list[Started] = json.loads(_file().read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return kept


def _write(started: list[Started]) -> None:
    paths.cache()
    beside = _file().with_suffix(".new")
    beside.write_text(json.dumps(started) + "\n", encoding="utf-8")
    beside.replace(_file())


def _pid(name: str) -> int | None:
    try:
        return int(Path(f"/run/{name}.pid").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


def _ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot, or None where there is none (or only its zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; what follows it does not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
