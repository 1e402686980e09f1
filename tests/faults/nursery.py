"""A process that has imported everything, and has a child of its own do each run: a run takes a third of the time.

Each child is a process like any other, and can be killed. Run as `python -m tests.faults.nursery`: a line of JSON
asks for a run, a line of JSON says how it ended.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import TracebackType
from typing import Any

import reclaim
from reclaim.report import page
from tests.command import ROOT
from tests.faults import points
from tests.faults.points import Cut

#: prctl(2): orphans of a run that was killed are ours, and waited for
_PR_SET_CHILD_SUBREAPER = 36
_OPTIONS = (
    *("-p", "no:hypothesispytest"),  # which would be imported by every run
    *("-W", "ignore::pytest.PytestAssertRewriteWarning", "-W", "ignore::pytest.PytestConfigWarning"),
)


@cache
def _compiled() -> str:
    """What Python has compiled and pytest has rewritten is kept, for the next run and for the next nursery."""
    folder = tempfile.TemporaryDirectory(prefix="reclaim-compiled-")
    atexit.register(folder.cleanup)
    return folder.name


@dataclass(frozen=True)
class Done:
    """How a run ended: its status (negative: the signal), what it said, the points that it passed."""

    status: int
    said: str
    points: list[tuple[str, int]] = field(default_factory=list)


class Nursery:
    """The process, and what asks it for runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        env = {**os.environ, "COLUMNS": "200", "PYTHONPYCACHEPREFIX": _compiled()}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )

    def __enter__(self) -> Nursery:  # noqa: PYI034 (Self is of Python 3.11)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, *arguments: str, root: Path, node: Path | None, cut: Cut | None = None, hook: str = "") -> Done:
        """Do a run: `undo RUN` by `python -m reclaim`, everything else by pytest."""
        said, seen = self._folder / "said", self._folder / "points"
        said.unlink(missing_ok=True)
        seen.unlink(missing_ok=True)
        asked = {
            "arguments": arguments,
            "root": str(root),
            "node": str(node) if node else None,
            "cut": points.to_json(cut),
            "said": str(said),
            "points": str(seen),
            "hook": hook,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery died"
        passed = [tuple(one) for one in json.loads(seen.read_text() or "[]")] if seen.exists() else []
        return Done(int(line), said.read_text(encoding="utf-8", errors="backslashreplace"), passed)


def _serve() -> None:
    _import_everything()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _be_a_run(json.loads(line))
        _, status = os.waitpid(child, 0)
        with suppress(ChildProcessError):
            while True:
                os.wait()
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _import_everything() -> None:
    """A run imports modules, and compiles templates, when it needs them: each child has them at once."""
    for name in ("pytest_html", "testinfra.plugin", "testinfra.backend.local", "jinja2", "pydantic"):
        import_module(name)
    for found in walk_packages(reclaim.__path__, "reclaim."):
        import_module(found.name)
    templates = page.environment()
    for name in templates.list_templates(extensions=["jinja"]):
        templates.get_template(name)


def _be_a_run(asked: dict[str, Any]) -> None:
    said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for one, other in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(one, other)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    status = 99
    try:
        status = _run(asked)
    except Exception:  # noqa: BLE001 (whatever it is, it is a fault, and has to be seen)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(asked: dict[str, Any]) -> int:
    import pytest  # noqa: PLC0415

    from reclaim.__main__ import main  # noqa: PLC0415

    watch = points.Watch(asked["root"], points.cut_of(asked["cut"]))
    seen, write, close = os.open(asked["points"], os.O_WRONLY | os.O_CREAT, 0o600), os.write, os.close
    points.install(watch, points.persisting(Path(asked["node"])) if asked["node"] else None)
    if asked["hook"]:
        module, _, name = asked["hook"].partition(":")
        getattr(__import__(module, fromlist=[name]), name)(watch, asked)
    arguments = list(asked["arguments"])
    try:
        return main(arguments) if arguments[0] == "undo" else int(pytest.main([*_OPTIONS, *arguments, "checks/"]))
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1
    finally:
        watch.cut = None
        write(seen, points.told(watch).encode())
        close(seen)


if __name__ == "__main__":
    _serve()
