"""bench/topics/report.py: pytest-html gets the rows of the record."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from bench.topics import report
from tests import records


@pytest.mark.slow
def test_both_pages_have_the_same_rows(tmp_path: Path) -> None:
    run = records.archive(tmp_path, records.fleet(30))
    pages = {report.OURS: tmp_path / "own.html", report.PEER: tmp_path / "peer.html"}
    held = report._write(run, pages, 30, 1)
    assert held.missing == {}
    assert {name: held.median(name, "MB") is not None for name in held.contenders} == {
        report.OURS: True,
        report.PEER: True,
        report.BARE: False,
    }
    rows = json.loads((run / "results.json").read_text())["results"]
    verdicts = Counter(row["verdict"] for row in rows)
    page = pages[report.PEER].read_text(encoding="utf-8")
    assert page.count("&#34;result&#34;: &#34;Failed&#34;") == verdicts["noncompliant"] > 0
    assert page.count("&#34;result&#34;: &#34;Passed&#34;") == verdicts["compliant"] > 0
    assert pages[report.OURS].read_text(encoding="utf-8").count('<tr id="row-') == len(rows)
