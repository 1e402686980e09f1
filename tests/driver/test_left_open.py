"""What a run leaves where others can write, or under a umask that lets them: nothing of it is root's undoing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from tests.command import FLEET, ROOT, audit


def test_no_bytecode_that_others_may_write_is_left(tmp_path: Path) -> None:
    """Who could change it would be root with the next run."""
    checkout = tmp_path / "checkout"
    checkout.mkdir(mode=0o755)
    for name in ("reclaim", "checks", "fixers"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for command in (
        ["pytest", "checks/", "--uri", FLEET, "--definitions-only", "--reports", str(tmp_path / "reports")],
        ["reclaim", "index", str(tmp_path / "reports")],
    ):
        subprocess.run(
            [sys.executable, "-m", *command],
            cwd=checkout,
            env={**env, "PYTHONPATH": str(checkout)},
            umask=0,
            capture_output=True,
            check=False,
        )
        kept = list(checkout.rglob("__pycache__"))
        assert checkout / "reclaim" / "__pycache__" in kept
        for path in (*kept, *checkout.rglob("*.pyc")):
            assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_where_others_can_write_pytest_html_opens_nothing(tmp_path: Path) -> None:
    """It writes by name, through whatever link lies there by then."""
    reports = tmp_path / "reports"
    reports.mkdir()
    reports.chmod(0o777)
    outcome = audit(reports)
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    assert "There is no table of pytest-html, because other users can write to this folder" in page
    assert "Generated html report" not in outcome.stdout
    assert outcome.status == 1
