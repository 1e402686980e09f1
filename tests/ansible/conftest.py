"""Controllers, and the bundle that installs reclaim."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.playing import ROOT, Controller
from tests.command import ran


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    with tempfile.TemporaryDirectory(prefix="rc", ignore_cleanup_errors=True) as home:
        yield Controller(tmp_path / "controller", Path(home))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle for this machine's Python; it takes a package index."""
    folder = tmp_path_factory.mktemp("bundles")
    done = ran(ROOT / "scripts/bundle.sh", folder, seconds=600)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"no bundle can be made here: {done.stderr.splitlines()[-1:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installed once, and it works" in done.stdout
    return folder
