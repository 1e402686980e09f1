"""Start-up: a command imports only what it needs. Modules are counted, never seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.command import own_settings, ran
from tests.support import disk_xml, domain_xml, node

#: what reports, backups, jobs and boot loaders are read and written with: no command begins with that
_LATER = {
    "jinja2",
    "prometheus_client",
    "pytest_html",
    "reclaim.backups",
    "reclaim.database",
    "reclaim.engine.document",
    "reclaim.engine.remembered",
    "reclaim.engine.undo",
    "reclaim.inside.boot",
    "reclaim.inventories",
    "reclaim.jobs",
    "reclaim.record.record",
    "reclaim.report.html",
    "reclaim.report.page",
    "reclaim.report.screen",
    "reclaim.scaffold",
    "reclaim.space.proof",
    "reclaim.timer",
    "tree_sitter",
    "unittest.case",
    "wcwidth",
    "yaml",
}
#: a run of pytest, and what it asks hypervisors and guests with
_OF_RUNS = {"checks", "lxml", "pydantic", "pytest", "reclaim.engine", "reclaim.handles", "reclaim.record", "testinfra"}
#: the command, and then the modules that are there
_PRINTS = """
import json, sys
from reclaim.entry import main
status = main()
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(status)
"""


def _imported(*words: str) -> set[str]:
    """Return the modules that the command with *words* has imported by its end."""
    done = ran(sys.executable, "-c", _PRINTS, *words, env=own_settings("PYTHONPATH"))
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("words", [("--version",), ("help",), ("help", "fix")])
def test_what_asks_no_hypervisor_imports_no_run(words: tuple[str, ...]) -> None:
    assert not _imported(*words) & (_LATER | _OF_RUNS)


def test_a_question_to_the_file_of_a_fleet_imports_no_run() -> None:
    assert not _imported("ask") & ((_LATER | _OF_RUNS) - {"reclaim.database", "reclaim.record"})


def test_the_rules_import_no_run() -> None:
    imported = _imported("rules")
    assert "checks.check_disk_bus" in imported
    assert not imported & (_LATER | {"pytest", "reclaim.engine"})


def test_a_list_of_rows_imports_what_collects_them(tmp_path: Path) -> None:
    uri = node(tmp_path, domain_xml(disk_xml()))
    imported = _imported("audit", "--co", "-q", "--uri", uri)
    assert "checks.check_disk_bus" in imported
    assert not imported & _LATER
