"""Tests that need a real guest, a browser or npm's tools run where they can; elsewhere they are skipped by name.

With CI set they fail there instead.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import pytest

from lab import host
from lab.netns import site
from tests import temporary
from tests.command import ROOT, ran

_MODULES = Path(__file__).parent / "browser/node_modules"


@cache
def _missing(marker: str) -> str:
    """Why tests with *marker* cannot run here; empty where they can."""
    if marker == "guest":
        return "; ".join(host.missing())
    if marker == "fleet":
        return "; ".join(site.missing())
    programs = {
        "browser": ("chromium", "chromedriver"),
        "node": ("node",),
        "sshd": ("sshd", "ssh", "sudo", "fish", "tcsh"),
    }[marker]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [f"no {program}" for program in programs if shutil.which(program, path=path) is None]
    if marker == "sshd" and subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        missing.append("no mount namespaces: not root?")
    if marker == "node" and not _MODULES.is_dir():
        missing.append("tests/browser/node_modules is not installed")
    return "; ".join(missing)


_NEEDS = {
    "guest": ("real guests", "no real guest here"),
    "browser": ("browser tests", "no browser here"),
    "sshd": ("tests of ssh", "no ssh here"),
    "fleet": ("hosts in network namespaces", "no hosts here"),
    "node": ("npm's tools", "no tools of npm here"),
}


_SESSION: list[temporary.Session] = []


def pytest_configure() -> None:
    if session := temporary.begin():
        _SESSION.append(session)
    # what tests start buffers its output, as it does for users
    os.environ.pop("PYTHONUNBUFFERED", None)
    # started in the background or by nohup, as CI may be, processes inherit that these are ignored, and ours hand it on
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def pytest_unconfigure() -> None:
    while _SESSION:
        _SESSION.pop().end()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long on real guests is left to `make guests`."""
    if os.environ.get("RECLAIM_GUESTS") == "all":
        return
    long = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (what, absent) in _NEEDS.items():
        if item.get_closest_marker(marker) is None or not (reason := _missing(marker)):
            continue
        if os.environ.get("CI"):
            pytest.fail(f"{what} must run where CI is set: {reason}", pytrace=False)
        pytest.skip(f"{absent}: {reason}")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle for this machine's Python; it takes a package index.

    `make test` names a folder: the first that needs the bundle makes it there, and other processes wait for it.
    """
    given = os.environ.get("BUNDLES_OF_TESTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("bundles")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(folder.glob("*.tar.gz")):
            _make_bundle(folder)
    return folder


def _make_bundle(folder: Path) -> None:
    done = ran(ROOT / "scripts/bundle.sh", folder, seconds=600)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"no bundle can be made here: {done.stderr.splitlines()[-1:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installed once, and it works" in done.stdout
