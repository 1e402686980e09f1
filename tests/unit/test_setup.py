"""scripts/setup.sh on a machine that cannot run reclaim yet: one line, and nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import ran
from tests.support import ROOT, executable

TOOLS = ("bash", "dirname", "sed", "head", "uname", "sh", "env", "id")
OLD = "#!/bin/sh\necho 3.9.2\n"
#: one that is new enough, and imports nothing
BARE = '#!/bin/sh\ncase "$2" in *version*) echo 3.12.1;; *) exit 1;; esac\n'


def _setup(folder: Path, kind: str, manager: str, python: str) -> subprocess.CompletedProcess[str]:
    """Run setup.sh in a folder of its own, with a PATH on which *manager* is the only package manager."""
    (folder / "scripts").mkdir()
    (folder / "bin").mkdir()
    shutil.copy(ROOT / "scripts/setup.sh", folder / "scripts")
    for tool in TOOLS:
        (folder / "bin" / tool).symlink_to(str(shutil.which(tool)))
    executable(folder / "bin" / manager, f"#!/bin/sh\ntouch {folder}/installed\nexit 1\n")
    env = {"PATH": str(folder / "bin"), "RECLAIM_PYTHON": str(executable(folder / "python3", python))}
    return ran(folder / "scripts/setup.sh", kind, env=env)


@pytest.mark.parametrize("manager", ["apt-get", "dnf"])
@pytest.mark.parametrize("kind", ["audit", "quick", "test"])
def test_an_old_python_is_one_line_before_anything_is_installed(tmp_path: Path, kind: str, manager: str) -> None:
    done = _setup(tmp_path, kind, manager, OLD)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: reclaim needs Python 3.10 or newer, and ")
    assert "is 3.9.2: set RECLAIM_PYTHON" in line
    assert f"--hosts ssh://root@{os.uname().nodename}" in line
    assert not (tmp_path / "installed").exists()
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("dnf", "dnf install python3 python3-libvirt"),
        ("zypper", "zypper install python3 python3-libvirt-python"),
        ("pacman", "pacman -S --needed python libvirt-python"),
        ("apk", "apk add python3 py3-libvirt"),
        ("unknown", "your distribution's packages of Python, its venv, and libvirt's Python binding"),
    ],
)
def test_what_is_missing_is_named_as_the_package_manager_does(tmp_path: Path, manager: str, command: str) -> None:
    done = _setup(tmp_path, "audit", manager, BARE)
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"as root, run {command}, then run this again")
    assert done.returncode == 1
    assert not (tmp_path / "installed").exists()


@pytest.mark.parametrize("version", ["3.10.0", "3.13.5", "4.0.0"])
def test_a_python_that_is_new_enough_passes(tmp_path: Path, version: str) -> None:
    done = _setup(tmp_path, "quick", "apt-get", BARE.replace("3.12.1", version))
    (line,) = done.stderr.splitlines()
    assert "has no libvirt: as root, run apt-get install --no-install-recommends python3" in line
