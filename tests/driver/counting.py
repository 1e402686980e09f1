"""A plugin of pytest for tests: how often a run calls libvirt, opens and stats files, and starts programs.

RECLAIM_COUNTED names the file that gets the counts as JSON. With RECLAIM_REAL=1 libvirt's test driver passes for a real
hypervisor, so that what is never asked of samples is counted too.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from reclaim.handles.node import Node

if os.environ.get("RECLAIM_REAL"):  # now: a run connects while pytest is configured
    Node.is_test_driver = False  # type: ignore[assignment]

_OPEN, _START = "open", ("subprocess.Popen", "os.posix_spawn", "os.fork")
_calls: Counter[str] = Counter()
_opened: Counter[str] = Counter()
_statted: Counter[str] = Counter()
_started: Counter[str] = Counter()


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == _OPEN and isinstance(arguments[0], str):
        _opened[arguments[0]] += 1
    elif event in _START:
        _started[event] += 1


def _count(owner: Any, name: str, into: Counter[str], by: Callable[..., str]) -> None:
    """Count each call of a function in *into*."""
    real: Callable[..., Any] = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        into[by(*arguments)] += 1
        return real(*arguments, **named)

    setattr(owner, name, counted)


def _named(name: str) -> Callable[..., str]:
    return lambda *_arguments: name


# libvirt's binding calls all of libvirt through functions of this module
_BINDING: Any = vars(libvirt)["libvirtmod"]
for _name in dir(_BINDING):
    if _name.startswith("vir") and not _name.startswith(("virEvent", "virConnCopyLast")):
        _count(_BINDING, _name, _calls, _named(_name))
for _name in ("stat", "lstat"):
    _count(os, _name, _statted, lambda path, *_more: str(path))
sys.addaudithook(_hear)


def pytest_unconfigure() -> None:
    counts = {"calls": _calls, "opened": _opened, "statted": _statted, "started": _started}
    Path(os.environ["RECLAIM_COUNTED"]).write_text(json.dumps(counts), encoding="utf-8")
