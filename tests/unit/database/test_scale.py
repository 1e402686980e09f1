"""bench/scale.py: its rounds are records, and its page has what was loaded."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import scale
from reclaim.record import record
from tests.unit.database.made import into, rows


def test_a_round_is_a_record_and_a_week_changes_its_share(tmp_path: Path) -> None:
    site = scale.Site(7, 20, seed=1)
    count = site.write(tmp_path / "0", 0)
    site.age(0.1)
    assert site.write(tmp_path / "1", 1) == count
    paths = sorted(tmp_path.glob("*/*/*"))
    before, now = (record.read(path).results for path in paths)
    assert len(before) == count > 20 * len(scale.REQUIREMENTS)
    drawn = [
        row for row, other in zip(before, now, strict=True) if row != other and row.requirement not in scale.COUNTED
    ]
    others = sum(row.requirement not in scale.COUNTED for row in before)
    assert 0.03 < len(drawn) / others < 0.2
    merged = into(tmp_path / "f", tmp_path / "0", tmp_path / "1")
    assert merged.new == 2
    turned = sum(row.verdict is not other.verdict for row, other in zip(before, now, strict=True))
    assert rows(tmp_path / "f", "SELECT count(*) FROM turn") == [(turned,)]


def test_the_tables_name_every_target_that_was_missed() -> None:
    good = scale.Round(1, 100, 1.0, 0.5, 90, 1_000_000, 0.3)
    bad = scale.Round(52, 100, 61.0, 30.0, 600, 3_000_000_000, 9.0)
    taken = {"newly-broken (5 rows)": 1.9, "worst (9 rows)": 0.6}
    assert scale.missed([good, good], {"newly-broken (5 rows)": 1.9}) == []
    lines = scale.missed([good, bad], taken)
    assert [line.partition(":")[0] for line in lines] == [
        "week 52",
        "week 52",
        "3.00 GB a year, and not 2.5 GB",
        "worst (9 rows)",
    ]
    options = argparse.Namespace(hypervisors=2, guests=3, churn=0.004, silent=0.01)
    text = scale.described(options, [good, bad], taken)
    assert "2 weeks of 2 hypervisors with 3 guests each" in text
    assert "| 52 | 100 | 61.0 s | 30.0 s | 600 MiB | 3,000 MB | 9.0 |" in text


def test_the_tables_are_written_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    page.write_text("before\n<!-- table: python -m bench.scale -->\nold\n<!-- end of table -->\nbehind\n")
    scale._write(page, "new")
    assert page.read_text() == "before\n<!-- table: python -m bench.scale -->\nnew\n<!-- end of table -->\nbehind\n"
