"""docs/monitoring.md: its metrics, options, variables and examples are those of the code."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from reclaim import options
from reclaim.engine.part import Part
from reclaim.record.record import Record
from reclaim.report import compare, metrics, notify
from tests import records
from tests.support import ROOT

PAGE = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_metric_has_a_row_and_every_row_its_metric() -> None:
    rows = dict(re.findall(r"^\| `reclaim_(\w+)`[^|]*\| ([^|]*)\|", PAGE, re.MULTILINE))
    assert rows.keys() == metrics.FAMILIES.keys()
    for name, family in metrics.FAMILIES.items():
        assert re.findall(r"`(\w+)`", rows[name]) == list(family.labels)
        assert ("no hypervisor" in rows[name]) == ("hypervisor" not in metrics.labels_of(family))


def test_alerts_are_about_metrics_that_exist() -> None:
    alerts, pipeline = map(yaml.safe_load, examples("yaml"))
    rules = alerts["groups"][0]["rules"]
    for rule in rules:
        assert set(re.findall(r"reclaim_(\w+)", rule["expr"])) <= metrics.FAMILIES.keys()
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in ("instance", "hypervisor")
    assert pipeline["reclaim"]["artifacts"]["reports"]["junit"] in pipeline["reclaim"]["script"][0]


def test_options_on_the_page_exist() -> None:
    ours = {option.flag for option in options.every()} | {"--hosts", "--calendar", "--mode", "--unattended"}
    pytests = {"--lf", "--deselect", "--ignore", "--junitxml"}
    others = {"--failed", "--collector", "--silent", "--fail", "--max-time", "--json", "--arg"}
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= ours | pytests | others


def test_every_variable_of_the_notice_has_a_row(tmp_path: Path) -> None:
    record: Record = records.record([])
    part: Any = type("Part", (), {"folder": tmp_path, "is_written": False})
    given = notify._environment(_as_part(part), record, compare.Comparison())
    variables = {name for name in given if name.startswith("RECLAIM_")} - os.environ.keys()
    assert set(re.findall(r"`(RECLAIM_\w+)`", PAGE)) == variables


def _as_part(made: Any) -> Part:
    part: Part = made
    return part
