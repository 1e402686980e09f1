"""bench/page.py: the parts of the page, the raw samples, and targets that are met or missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import page, topics
from bench.__main__ import main
from bench.page import Aim, Asked, Results, Topic
from bench.rounds import Race
from tests.unit.bench.test_rounds import sample

ABOUT = page.head(Asked())


def results(*aims: Aim) -> Results:
    samples = tuple(
        sample(name, wall * (number + 1), number, **{"freed MiB": 1234.5})
        for number in range(3)
        for name, wall in (("ours", 1.0), ("their | own", 2.0))
    )
    return Results((Race("Ten", "ours", samples, {"gone": "it is in no registry"}),), aims, ("A note.",), {"it": "1.2"})


def topic(measured: Results | None = None) -> Topic:
    return Topic("letters", "Letters", "Some are read.", lambda _asked: measured or results())


@pytest.mark.parametrize(
    ("side", "measured", "state"),
    [
        ("at most", 1.2, "met"),
        ("at most", 1.21, "missed"),
        ("at least", 1.2, "met"),
        ("at least", 1.19, "missed"),
        ("at least", None, "not measured"),
    ],
)
def test_a_target_is_met_up_to_its_limit(side: Any, measured: float | None, state: str) -> None:
    assert Aim("some", measured, 1.2, side).state == state


def test_the_table_has_medians_ranges_and_ratios() -> None:
    lines = page.table(results().races[0]).splitlines()
    assert lines[0] == "|  | seconds | lowest to highest | freed MiB | times ours |"
    assert lines[2:] == [
        "| ours | 2.00 | 1.00 to 3.00 | 1,234 | 1.00 |",
        "| their \\| own | 4.00 | 2.00 to 6.00 | 1,234 | 2.00 |",
    ]


def test_the_part_has_its_head_its_targets_and_who_is_absent() -> None:
    aims = (Aim("fast", 3.0, 2.0, why="It counts twice."), Aim("small", 1.0, 2.0, why="Never shown."))
    text = page.described(topic(), results(*aims), ABOUT)
    assert "`python -m bench letters` on " in text
    assert "3 rounds" in text
    assert "it 1.2." in text
    assert "| fast | at most 2 | 3.00 | **missed** |" in text
    assert "| small | at most 2 | 1.00 | met |" in text
    assert "- fast: It counts twice." in text
    assert "Never shown" not in text
    assert "- Not measured: gone: it is in no registry" in text
    assert text.endswith("A note.")


def test_small_sizes_and_a_busy_machine_are_named() -> None:
    loaded = Results((Race("Ten", "ours", (sample("ours", 1.0, load=9_000.0),)),))
    text = page.described(topic(), loaded, page.head(Asked(quick=True)))
    assert "small sizes" in text
    assert "The machine was busy" in text
    assert "busy" not in page.described(topic(), results(), ABOUT)


def test_a_part_is_put_between_its_own_marks_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Head\n")
    for name, text in (("a", "first"), ("b", "second"), ("a", "third")):
        page.put(path, name, text)
    assert path.read_text() == (
        "# Head\n\n<!-- topic: a -->\n\nthird\n\n<!-- end of a -->\n\n"
        "<!-- topic: b -->\n\nsecond\n\n<!-- end of b -->\n"
    )


def test_a_mark_without_its_end_loses_no_text(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("<!-- topic: a -->\nmuch\n")
    with pytest.raises(SystemExit, match="has no <!-- end of a -->"):
        page.put(path, "a", "new")
    assert "much" in path.read_text()


def test_every_sample_is_in_the_json_and_another_topic_stays(tmp_path: Path) -> None:
    raw = tmp_path / "raw.json"
    page.keep(raw, "letters", results(Aim("fast", 1 / 3, 2.0)), ABOUT)
    page.keep(raw, "digits", results(), ABOUT)
    document = json.loads(raw.read_text())
    assert list(document["topics"]) == ["digits", "letters"]
    kept = document["topics"]["letters"]
    assert kept["head"]["machine"]["cores"] == ABOUT["machine"]["cores"]
    assert kept["head"]["versions"] == {"it": "1.2"}
    assert len(kept["races"][0]["samples"]) == 6
    assert kept["races"][0]["samples"][0]["figures"] == {"freed MiB": 1234.5}
    assert kept["races"][0]["missing"] == {"gone": "it is in no registry"}
    assert kept["aims"] == [
        {"text": "fast", "measured": 0.333333, "limit": 2.0, "side": "at most", "why": "", "state": "met"}
    ]


def test_the_page_can_be_written_anew_from_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "NAMES", ("letters",))
    monkeypatch.setattr(topics, "topic", lambda _name: topic(results(Aim("fast", 1.5, 2.0))))
    into, raw = tmp_path / "page.md", tmp_path / "raw.json"
    words = ["--page", str(into), "--raw", str(raw)]
    into.write_text("# Head\n")
    assert main(words) == 0
    first = into.read_text()
    into.write_text("# Head\n")
    assert main([*words, "--words"]) == 0
    assert into.read_text() == first
    assert "Letters" in first


@pytest.mark.parametrize(("ratio", "status"), [(1.0, 0), (3.0, 1)])
def test_the_program_writes_both_and_ends_with_1_if_a_target_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, status: int
) -> None:
    monkeypatch.setattr(topics, "NAMES", ("letters",))
    monkeypatch.setattr(topics, "topic", lambda _name: topic(results(Aim("fast", ratio, 2.0))))
    into, raw = tmp_path / "page.md", tmp_path / "raw.json"
    into.write_text("# Head\n")
    assert main(["letters", "--page", str(into), "--raw", str(raw)]) == status
    assert "## Letters" in into.read_text()
    assert "letters" in raw.read_text()


def test_an_unknown_topic_and_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in ((["poems"], "no topic is named poems"), (["--rounds", "0"], "0 is no number of rounds")):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", topics.NAMES)
def test_each_topic_is_as_it_is_named(name: str) -> None:
    assert topics.topic(name).name == name


def test_the_page_and_the_samples_have_the_same_topics() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    kept = json.loads(page.RAW.read_text(encoding="utf-8"))["topics"] if page.RAW.exists() else {}
    for name in topics.NAMES:
        assert (page.marks(name)[0] in text) == (name in kept)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (1234.5, "1,234"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.0123, "0.01"),
        (-0.0039, "-0.004"),
    ],
)
def test_a_number_has_three_digits_or_so(value: float | None, shown: str) -> None:
    assert page.number(value) == shown
