"""A virtual environment of its own for peers from PyPI: what they bring never meets what reclaim is made of."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.rounds import Failed, progress

FOLDER = Path(__file__).with_name(".venv")
#: `ansible` has the collection community.libvirt, which needs the distribution's libvirt binding
PACKAGES = ("ansible", "pytest-testinfra")
_SYSTEM_PYTHON = "/usr/bin/python3"
_STAMP = FOLDER / ".made-of"


def program(name: str) -> Path:
    """Return a program of the peers, and install them first if they are not there. Raises Failed."""
    made_of = " ".join(PACKAGES)
    if not _STAMP.is_file() or _STAMP.read_text(encoding="ascii") != made_of:
        progress(f"installing {made_of} into {FOLDER}")
        _call(_SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", str(FOLDER))
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _call(str(FOLDER / "bin/python"), *pip, *PACKAGES)
        _STAMP.write_text(made_of, encoding="ascii")
    return FOLDER / "bin" / name


def why_absent() -> str:
    """Return why the peers cannot be had here, or ""."""
    try:
        program("python")
    except Failed as problem:
        return str(problem)
    return ""


def version(package: str) -> str:
    """Return the version of a package that is installed there. Raises Failed."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return _call(str(program("python")), "-c", code).strip()


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise Failed(f"{' '.join(command[:4])}: {last}")
    return done.stdout
