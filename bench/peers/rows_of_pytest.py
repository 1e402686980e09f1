"""As many tests as a record has rows, with the same outcomes and reasons: `pytest --html` makes its page of them.

RECLAIM_BENCH_RECORD=results.json pytest bench/peers/rows_of_pytest.py --html FILE --self-contained-html
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

PASSED = ("compliant", "fixed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    text = Path(os.environ["RECLAIM_BENCH_RECORD"]).read_text(encoding="utf-8")
    rows = json.loads(text)["results"]
    names = [f"{row['guest']}/{row['requirement']}" for row in rows]
    metafunc.parametrize("row", rows, ids=names)


def test_row(row: dict[str, Any]) -> None:
    if row["verdict"] not in PASSED:
        pytest.fail(f"{row['verdict']}: {row['reason']}", pytrace=False)
