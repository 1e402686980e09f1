"""Processes as /proc shows them: who is below whom, and in which namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def everything() -> Iterator[int]:
    """Yield the ID of each process of this PID namespace, and of those below it."""
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            yield int(entry.name)


def first_below(pid: int) -> int | None:
    """Return the first process of the PID namespace that `pid` has made; None if it is not there (yet).

    nsenter(1) and unshare(1) may stand between the two, with one child each.
    """
    ours = namespace(os.getpid(), "pid")
    current: int | None = pid
    while current is not None:
        if numbers(current)[-1:] == [1] and namespace(current, "pid") != ours:
            return current
        current = only_child(current)
    return None


def numbers(pid: int) -> list[int]:
    """Return the IDs of a process in each PID namespace, the innermost last; none if it is gone."""
    with suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text("utf-8").splitlines():
            if line.startswith("NSpid:"):
                return [int(word) for word in line.split()[1:]]
    return []


def namespace(pid: int, kind: str) -> str:
    """Return the name of the namespace of a process, such as `net:[4026531840]`; nothing if it is gone."""
    with suppress(OSError):
        return str((_PROC / str(pid) / "ns" / kind).readlink())
    return ""


def state(pid: int) -> str:
    """Return the letter of the state of a process (proc(5)), such as T: it is stopped; nothing if it is gone."""
    return _stat(pid, 0)


def parent(pid: int) -> int | None:
    """Return the ID of the parent of a process; None if it is gone."""
    number = _stat(pid, 1)
    return int(number) if number else None


def start(pid: int) -> str:
    """Return when a process that runs was started, in clock ticks since boot; nothing if it is gone."""
    return "" if state(pid) in ("", "Z", "X") else _stat(pid, 19)


def _stat(pid: int, field: int) -> str:
    with suppress(OSError):
        stat = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace")
        # the name in parentheses may contain anything
        return stat.rpartition(")")[2].split()[field]
    return ""


def program(pid: int) -> str:
    """Return the name of the program that a process runs; nothing if it is gone."""
    with suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text("utf-8", errors="replace").strip()
    return ""


def command(pid: int) -> str:
    """Return the command line of a process; nothing if it is gone, or a zombie."""
    with suppress(OSError):
        line = (_PROC / str(pid) / "cmdline").read_bytes()
        return line.replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def only_child(pid: int) -> int | None:
    """Return the first child of a process; None if it has none."""
    with suppress(OSError):
        children = (_PROC / str(pid) / "task" / str(pid) / "children").read_text(
            "ascii"
        )
        if children.split():
            return int(children.split()[0])
    return None
