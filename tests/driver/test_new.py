"""`python -m reclaim new` in a copy of this checkout: for each handle, and then the tests that hold requirements."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.command import audit, ran
from tests.support import ROOT, disk_xml, domain_xml, node

#: slug, title, handle, stage: one for each kind of template
ORDERS = (
    ("disk-serial", "The disk has a serial number", "disk", "definition"),
    ("crash-restart", "The guest starts again after a crash", "guest", "power"),
    ("timer-2", "The timer of the guest runs", "guest", "inside"),
    ("a-disk-that-is-written-to-by-its-guest-2", "The disk can be written to", "disk", "names"),
    ("host-shutdown", "The hypervisor shuts its guests down", "hypervisor", "access"),
    ("copy-holes", "The copy has holes for its zeros", "backup", "backup"),
    ("job-newline", "A newline ends the last line of the job", "job", "backup"),
)
#: what is no part of a checkout
_IGNORED = shutil.ignore_patterns(".*", "tmp", "reports", "node_modules", "__pycache__", "*.egg-info")


def run(checkout: Path, *words: str) -> str:
    """Run a module of Python in the checkout; its output, and status 0."""
    foreign = ("PYTEST_ADDOPTS", "RECLAIM_DOCS")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    own = {
        "PYTHONPATH": str(checkout),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DEBUG_TEMPROOT": str(checkout / "tmp"),
    }
    done = ran(sys.executable, "-m", *words, stand=checkout, env={**kept, **own}, seconds=None)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a new requirement for each handle."""
    root = tmp_path_factory.mktemp("new") / "checkout"
    shutil.copytree(ROOT, root, ignore=_IGNORED, symlinks=True)
    (root / "tmp").mkdir()
    for slug, title, handle, stage in ORDERS:
        said = run(root, "reclaim", "new", slug, title, "--for", handle, "--stage", stage)
        assert said.count("\nwrote ") == 2
    return root


def test_the_tests_that_hold_requirements_pass(checkout: Path) -> None:
    tests = ["tests/unit/test_catalogue.py", "tests/unit/test_matrix.py", "tests/unit/test_architecture.py"]
    new = [f"tests/unit/requirements/test_{slug.replace('-', '_')}.py" for slug, *_ in ORDERS]
    said = run(checkout, "pytest", "-q", *tests, "tests/driver/test_samples.py", *new)
    assert "skipped" not in said


def test_the_new_files_are_linted_and_typed(checkout: Path) -> None:
    stems = [slug.replace("-", "_") for slug, *_ in ORDERS]
    places = ("checks/check_{}.py", "fixers/{}.py", "tests/unit/requirements/test_{}.py")
    files = [place.format(stem) for stem in stems for place in places]
    run(checkout, "ruff", "check", "--no-cache", *files)
    run(checkout, "ruff", "format", "--no-cache", "--check", *files)
    run(checkout, "mypy", "--cache-dir", os.devnull, *files)


def test_nothing_else_is_in_the_checkout(checkout: Path) -> None:
    before, now = files_in(ROOT), files_in(checkout)
    assert len(now - before) == 3 * len(ORDERS)
    assert before <= now
    assert [path.name for path in checkout.iterdir() if path.name.startswith(".")] == []


def files_in(root: Path) -> set[Path]:
    """Every file of the folders that `new` writes in, by its path in the checkout."""
    paths = [path for folder in ("checks", "fixers", "tests/unit") for path in (root / folder).rglob("*")]
    return {path.relative_to(root) for path in paths if path.is_file() and "__pycache__" not in path.parts}


def test_a_hypervisor_has_one_row_whatever_guests_it_has(checkout: Path, tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml(), name="a"), domain_xml(disk_xml(), name="b"))
    outcome = audit(checkout / "reports", uri=uri, root=checkout)
    rows = [row for row in outcome.document["results"] if row["requirement"] == "host-shutdown"]
    assert [(row["guest"], row["disk"], row["verdict"]) for row in rows] == [(None, None, "not-assessable")]
    assert outcome.stderr == ""
    assert "host-shutdown" in (outcome.folder / "report.html").read_text(encoding="utf-8")
