"""A wheel of this checkout, and a venv that it is installed into without a package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.command import PLAIN, ran
from tests.support import ROOT

#: the parts of a checkout that a package is made of
_PARTS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "reclaim", "checks", "fixers", "conftest.py", "docs")


@dataclass(frozen=True)
class Installed:
    """A venv with the wheel, and a folder of its own that its user stands in."""

    venv: Path
    stand: Path

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.venv / "lib" / version / "site-packages"

    def run(
        self, *words: str, program: str = "reclaim", stand: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        plain = {**PLAIN, "COLUMNS": "160", **env}
        return ran(self.venv / "bin" / program, *words, stand=stand or self.stand, env=plain)

    def pytest(self, *words: str, stand: Path) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "pytest", *words, program="python", stand=stand)


def source(folder: Path) -> Path:
    """Copy the parts of this checkout that a package is made of: a build leaves its own files there."""
    folder.mkdir()
    for name in _PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def build(kind: str, tree: Path, target: Path) -> Path:
    """Build a "wheel" or an "sdist" from *tree* by the hooks of its build backend (PEP 517)."""
    target.mkdir(exist_ok=True)
    call = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", call], cwd=tree, capture_output=True, check=True)
    (made,) = target.iterdir()
    return made


def install(wheel: Path, folder: Path) -> Installed:
    """Install *wheel* into a new venv with the packages that this Python has."""
    made = Installed(folder / "venv", folder / "stand")
    made.stand.mkdir()
    venv.create(made.venv, system_site_packages=True, symlinks=True)
    others = folder / "others"
    others.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "reclaim" not in path.name:
            (others / path.name).symlink_to(path)
    (made.packages / "others.pth").write_text(f"{others}\n")
    python = str(made.venv / "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        check=True,
    )
    return made
