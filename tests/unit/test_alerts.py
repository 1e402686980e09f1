"""monitoring/: the alert rules and the dashboard are about metrics that there are, and promtool accepts them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reclaim.database import exported
from reclaim.report import metrics
from tests.support import ROOT

FOLDER = ROOT / "monitoring"
FAMILIES = {**metrics.FAMILIES, **exported.FAMILIES}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    made = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
    assert isinstance(made, dict)
    return made


def expressions() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def labels_of(name: str) -> set[str]:
    family = FAMILIES[name]
    if name in exported.FAMILIES:
        return set(family.labels)
    return set(metrics.labels_of(family))


@pytest.mark.parametrize("expression", [*expressions()])
def test_an_expression_is_about_metrics_and_labels_that_there_are(expression: str) -> None:
    used = re.findall(r"\breclaim_(\w+)(?:\{([^}]*)\})?", expression)
    assert used
    for name, selector in used:
        assert name in FAMILIES
        assert {*re.findall(r"(\w+)\s*=", selector)} <= labels_of(name)


def test_an_alert_names_labels_that_its_metric_has() -> None:
    for rule in rules():
        (name,) = {*re.findall(r"\breclaim_(\w+)", rule["expr"])}
        for text in rule["annotations"].values():
            assert {*re.findall(r"\$labels\.(\w+)", text)} <= labels_of(name) | {"instance"}


def test_every_alert_is_tested_and_each_has_a_name_of_its_own() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len({*names})
    tests = yaml.safe_load((FOLDER / "alerts-test.yml").read_text(encoding="utf-8"))["tests"]
    tested = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert tested == {*names}


def test_the_dashboard_has_panels_of_their_own_places() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + across, place["y"] + down) for across in range(place["w"]) for down in range(place["h"])}
        assert not cells & taken
        assert max(across for across, _ in cells) < 24
        taken |= cells


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        assert not os.environ.get("CI")
        pytest.skip("there is no promtool: Debian's package prometheus has it")
    return path


@pytest.mark.parametrize("words", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts-test.yml")])
def test_promtool_accepts_the_rules(promtool: str, words: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_promtool_finds_an_alert_that_does_not_fire(promtool: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / "alerts-test.yml", tmp_path)
    text = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    (tmp_path / "alerts.yml").write_text(text.replace('state="never"', 'state="ever"'), encoding="utf-8")
    words = [promtool, "test", "rules", "alerts-test.yml"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ReclaimNeverAudited" in done.stdout + done.stderr


def test_promtool_can_parse_the_expressions_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    every = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$hypervisor", ".*")}
        for number, panel in enumerate(dashboard()["panels"])
        for target in panel["targets"]
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": every}]}))
    words = [promtool, "check", "rules", "--lint=none", "rules.yml"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
