"""The versions of rsync that Debian's suites have, each with the libraries of its suite."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from lab.sources import debian_sources
from tests.support import executable

SUITES = ("bookworm", "trixie", "sid")
#: what rsync is linked with; names differ between suites
LIBRARIES = ("libc6", "libacl1", "libpopt0", "libxxhash0", "libzstd1", "liblz4-1", "libssl3", "libssl3t64", "zlib1g")


class NotHere(Exception):
    """It cannot be had on this machine, and why."""


def fetch(suite: str, folder: Path) -> Path:
    """An rsync of *suite*, unpacked below *folder*; the oldest that the suite has. Raises NotHere."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise NotHere("no apt-get")
    sources = [line for line in debian_sources(suite) if f" {suite} " in line]
    if not sources:
        raise NotHere(f"apt has no source of Debian's {suite}")
    for name in ("state/lists/partial", "cache/archives/partial", "tree"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text("\n".join(sources) + "\n")
    _apt(folder, "apt-get", "-qq", "update")
    names = set(_apt(folder, "apt-cache", "pkgnames").split())
    version = min(re.findall(r"\|\s+(\S+)\s+\|", _apt(folder, "apt-cache", "madison", "rsync")), default="")
    _apt(folder, "apt-get", "-qq", "download", f"rsync={version}", *(one for one in LIBRARIES if one in names))
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder / "tree")], check=True, capture_output=True)
    return _program(folder)


def _apt(folder: Path, *command: str) -> str:
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State": folder / "state",
        "Dir::State::status": "/dev/null", "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }  # fmt: skip
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    try:
        done = subprocess.run(
            [command[0], *given, *command[1:]], cwd=folder, capture_output=True, text=True, timeout=300, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        raise NotHere(f"{command[0]} {command[-1]}: {str(exc.stderr or exc)[-200:]}") from exc
    return done.stdout


def _program(folder: Path) -> Path:
    """A script that runs it with its own libraries and loader."""
    tree = folder / "tree"
    loader = next(iter(sorted(tree.rglob("ld-linux-*.so.*"))), None)
    program = tree / "usr/bin/rsync"
    if loader is None or not program.is_file():
        raise NotHere("the packages hold no rsync with a loader")
    libraries = ":".join(sorted({str(path.parent) for path in tree.rglob("*.so*")}))
    (folder / "bin").mkdir()
    script = folder / "bin" / "rsync"
    executable(script, f'#!/bin/sh\nexec {loader} --library-path {libraries} {program} "$@"\n')
    told = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise NotHere(f"it does not run here: {told.stderr.strip()[-200:]}")
    return script
