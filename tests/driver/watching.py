"""A plugin of pytest for tests: what a check opens, looks at, starts or asks a guest while it judges.

RECLAIM_WATCHED names the file that gets a line each: slug, kind, and what. With RECLAIM_REAL=1 libvirt's test driver
passes for a real hypervisor, so that what is never asked of samples is seen too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reclaim.base.verdict import Judgement
from reclaim.engine import engine
from reclaim.engine.engine import Subject
from reclaim.handles.guest import Guest
from reclaim.handles.node import Node
from reclaim.requirement import Requirement

#: events of Python's auditing that open a file, start a program or connect to something
_EVENTS = ("open", "os.listdir", "os.scandir", "subprocess.Popen", "os.posix_spawn", "os.exec", "socket.connect")
#: members of a guest that lead inside
_INSIDE = ("facts", "agent", "agent_shell", "shell")

if os.environ.get("RECLAIM_REAL"):  # now: a run connects while pytest is configured
    Node.is_test_driver = False  # type: ignore[assignment]

_judged: list[str] = []
_lines: list[str] = []


def _note(kind: str, what: object) -> None:
    if _judged and not str(what).endswith((".py", ".pyc")):  # a module that is imported late
        _lines.append(f"{_judged[-1]}\t{kind}\t{what}\n")


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        _note(event, arguments[0] if arguments else "")


def _watch(owner: Any, name: str, kind: str) -> None:
    """Note each call of a function, with its first argument."""
    real: Callable[..., Any] = getattr(owner, name)

    def watched(*arguments: Any, **named: Any) -> Any:
        _note(kind, arguments[0] if arguments else "")
        return real(*arguments, **named)

    setattr(owner, name, watched)


def _watch_property(name: str) -> None:
    real = vars(Guest)[name]

    def watched(guest: Guest) -> Any:
        _note("inside", name)
        return real.__get__(guest)

    setattr(Guest, name, property(watched))


def pytest_configure() -> None:
    """Begin before anything is collected."""
    sys.addaudithook(_hear)
    for name in ("stat", "lstat"):
        _watch(os, name, "stat")
    _watch(Guest, "look_inside", "inside")
    for name in _INSIDE:
        _watch_property(name)
    real = engine.judge

    def judge(requirement: Requirement, subject: Subject) -> Judgement:
        _judged.append(requirement.slug)
        _lines.append(f"{requirement.slug}\tjudged\t{subject.key}\n")
        try:
            return real(requirement, subject)
        finally:
            _judged.pop()

    engine.judge = judge


def pytest_unconfigure() -> None:
    """Write down what was seen."""
    Path(os.environ["RECLAIM_WATCHED"]).write_text("".join(_lines), encoding="utf-8")
