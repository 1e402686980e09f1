"""Runs reclaim as its users do: `pytest checks/ …` in a process of its own."""

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
FLEET = f"test://{ROOT / 'lab/samples/fleet.xml'}"
_SECONDS = 120
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
        folders = [path.parent for path in self.reports.glob("*/*/results.json") if not path.parent.is_symlink()]
        assert len(folders) == 1, self.said
        return folders[0]

    @property
    def document(self) -> dict[str, Any]:
        found = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        assert isinstance(found, dict)
        return found


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
    kept = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *where, "--reports", str(reports), *arguments, target],
        cwd=root,
        env={**kept, "COLUMNS": "160", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=seconds,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, reports)
