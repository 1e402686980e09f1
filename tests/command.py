"""Runs reclaim as its users do, in a process of its own: `pytest checks/ …`, or the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: the sample definitions; of tests side by side each worker has them at an address of its own, since a fix locks it
FLEET = f"test://{ROOT / 'lab/samples/fleet.xml'}"
if WORKER := os.environ.get("PYTEST_XDIST_WORKER"):
    FLEET += f"?{WORKER}"
#: the options of a run that judges the sample definitions
SAMPLES = ("--uri", FLEET, "--definitions-only")
#: a shell without any settings
PLAIN = {"PATH": "/usr/bin:/bin"}
#: only a run that hangs reaches it: a busy machine makes minutes of the seconds that a fleet takes
_SECONDS = 900
#: what of the developer's own settings would change a run
FOREIGN = ("PYTEST_ADDOPTS", "LIBVIRT_DEFAULT_URI", "VIRSH_DEFAULT_CONNECT_URI", "FORCE_COLOR", "PY_COLORS")


@dataclass(frozen=True)
class Outcome:
    """How one run ended, and the folder that its reports went to."""

    status: int
    stdout: str
    stderr: str
    reports: Path

    @property
    def said(self) -> str:
        return self.stdout + self.stderr

    @property
    def lines(self) -> list[str]:
        """Every line that says something."""
        return [line for line in self.said.splitlines() if line.strip()]

    @property
    def folder(self) -> Path:
        """The folder of the one run there was."""
        folders = runs(self.reports)
        assert len(folders) == 1, self.said
        return folders[0]

    @property
    def document(self) -> dict[str, Any]:
        return document_of(self.folder)


def runs(reports: Path, holds: str = "results.json") -> list[Path]:
    """Return the folders of the runs in *reports* that have the file *holds*, the newest last; `latest` is a link."""
    return sorted(path.parent for path in reports.glob(f"*/*/{holds}") if not path.parent.is_symlink())


def document_of(run: Path) -> dict[str, Any]:
    """Return the record of a run as it is written."""
    found = json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def own_settings(*foreign: str) -> dict[str, str]:
    """Return the environment without FOREIGN and without *foreign*."""
    return {key: value for key, value in os.environ.items() if key not in (*FOREIGN, *foreign)}


def ran(
    *argv: str | Path, stand: Path = ROOT, env: Mapping[str, str] | None = None, seconds: float | None = _SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a program in the folder *stand*, with nothing to read."""
    return subprocess.run(
        list(map(str, argv)),
        cwd=stand,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=seconds,
        check=False,
    )


def reclaim(
    *words: str | Path, stand: Path = ROOT, env: Mapping[str, str] | None = None, seconds: float | None = _SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run the command with *words*, such as undo and a run."""
    return ran(sys.executable, "-m", "reclaim", *words, stand=stand, env=env, seconds=seconds)


def audit(
    reports: Path,
    *arguments: str,
    uri: str | None = FLEET,
    target: str = "checks/",
    env: Mapping[str, str] | None = None,
    root: Path = ROOT,
    seconds: float = _SECONDS,
) -> Outcome:
    """Run `pytest checks/` (or *target*) with *arguments* in *root*; its reports go below *reports*."""
    where = ["--uri", uri] if uri else []
    command = [sys.executable, "-m", "pytest", *where, "--reports", str(reports), *arguments, target]
    done = ran(*command, stand=root, env={**own_settings(), "COLUMNS": "160", **(env or {})}, seconds=seconds)
    return Outcome(done.returncode, done.stdout, done.stderr, reports)
