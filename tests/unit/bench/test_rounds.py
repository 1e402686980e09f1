"""bench/rounds.py: turns, medians, ratios, failures, and commands that are measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.rounds import Contender, Failed, Processors, Race, Sample, Taken, busy, race, ran, turns

PYTHON = Path(sys.executable)


def sample(contender: str, wall: float, number: int = 0, **more: float) -> Sample:
    load, steal = more.pop("load", 0.0), more.pop("steal", 0.0)
    return Sample(contender, number, 0, wall, more.pop("cpu", None), None, more, load, load, steal)


def test_the_order_turns_each_round_and_each_is_first_once() -> None:
    assert [turns("ABC", number) for number in range(4)] == [list("ABC"), list("CAB"), list("BCA"), list("ABC")]
    assert turns([], 5) == []


def quiet(_line: str) -> None:
    """No sign of life in a test."""


def test_a_race_lets_all_work_in_turn_and_keeps_every_sample() -> None:
    order: list[str] = []

    def work(name: str) -> Callable[[], Taken]:
        def once() -> Taken:
            order.append(name)
            return Taken(wall=float(len(order)), figures={"freed MiB": 7.0})

        return once

    ready: list[str] = []
    first = Contender("A", work("A"), prepare=lambda: ready.append("A"))
    held = race("letters", [first, Contender("B", work("B"))], 3, baseline="A", tell=quiet)
    assert order == ["A", "B", "B", "A", "A", "B"]
    assert ready == ["A"] * 3
    assert [(each.contender, each.round, each.wall) for each in held.samples] == [
        ("A", 0, 1.0),
        ("B", 0, 2.0),
        ("A", 1, 4.0),
        ("B", 1, 3.0),
        ("A", 2, 5.0),
        ("B", 2, 6.0),
    ]
    assert {each.turn for each in held.samples} == {0, 1}
    assert held.median("B", "freed MiB") == 7.0


def test_one_that_fails_is_named_and_left_out_of_later_rounds() -> None:
    calls: list[str] = []

    def fail() -> Taken:
        calls.append("again")
        raise Failed("no such thing")

    lines: list[str] = []
    contenders = [
        Contender("good", lambda: None),
        Contender("bad", fail),
        Contender("gone", fail, absent="it is in no registry"),
    ]
    held = race("some", contenders, 3, baseline="good", tell=lines.append)
    assert calls == ["again"]
    assert held.missing == {"bad": "failed in round 1: no such thing", "gone": "it is in no registry"}
    assert held.contenders == ["good"]
    assert len(lines) == 4, "a sign of life for each sample, and for the failure"


def test_a_slow_one_takes_part_in_fewer_rounds() -> None:
    contenders = [Contender("a", lambda: None), Contender("slow", lambda: None, rounds=1)]
    held = race("some", contenders, 4, baseline="a", tell=quiet)
    assert (len(held.values("a")), len(held.values("slow"))) == (4, 1)


def test_the_median_is_of_the_rounds_and_a_ratio_of_medians() -> None:
    held = Race(
        "some",
        "b",
        (*(sample("a", wall, cpu=wall / 2) for wall in (9.0, 1.0, 2.0)), sample("b", 4.0), sample("b", 6.0)),
    )
    assert held.median("a") == 2.0
    assert held.median("b") == 5.0
    assert held.ratio("a") == 0.4
    assert held.ratio("b", to="a") == 2.5
    assert held.ratio("a", measure="cpu") is None, "b has no CPU seconds"
    assert held.median("c") is None
    assert held.ratio("c") is None


def test_a_ratio_to_nothing_is_none() -> None:
    assert Race("some", "b", (sample("a", 1.0), sample("b", 0.0))).ratio("a") is None


def test_a_command_is_measured_with_its_children() -> None:
    burn = "import os; a = bytearray(64 * 2**20); [os.urandom(2**20) for _ in range(64)]"
    taken = ran(PYTHON, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])")
    assert taken.cpu is not None
    assert taken.wall is not None
    assert taken.mebibytes is not None
    assert taken.mebibytes > 64
    assert taken.cpu > 0
    assert taken.wall > 0


def test_this_process_memory_is_not_counted_as_a_commands() -> None:
    ballast = bytearray(os.urandom(1) * (96 * 2**20))
    taken = ran("true")
    assert taken.mebibytes is not None
    assert taken.mebibytes < 48 < len(ballast) / 2**20


def test_a_status_that_was_not_expected_is_a_failure_with_the_last_lines() -> None:
    assert ran(PYTHON, "-c", "print('seen'); raise SystemExit(3)", expected=(3,)).output == "seen\n"
    with pytest.raises(Failed, match=r"python\S* ended with 3: so it is"):
        ran(PYTHON, "-c", "import sys; print('so it  is', file=sys.stderr); sys.exit(3)")
    with pytest.raises(Failed, match="no-such-command-here ended with 127"):
        ran("no-such-command-here")


def test_a_command_that_never_ends_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with pytest.raises(Failed, match="was not through after 2 s"):
        ran("sh", "-c", 'sleep 600 & echo $! > "$1"; wait', "sh", mark, seconds=2)
    if mark.exists() and mark.read_text().strip():
        status = Path(f"/proc/{mark.read_text().strip()}/stat")
        assert not status.exists() or ") Z " in status.read_text()


def test_a_command_that_is_killed_with_its_measuring_is_a_failure() -> None:
    with pytest.raises(Failed, match="sh was killed from outside"):
        ran("sh", "-c", "kill -KILL $PPID")


def test_the_environment_and_the_folder_are_the_commands(tmp_path: Path) -> None:
    taken = ran("sh", "-c", "pwd; echo $OF_A_TEST", cwd=tmp_path, env={"OF_A_TEST": "yes"})
    assert taken.output.split() == [str(tmp_path.resolve()), "yes"]


def test_a_quiet_machine_has_no_sentence() -> None:
    assert busy([sample("a", 1.0, load=1.9), sample("a", 1.0)], cores=2) == ""


def test_load_and_steal_make_a_machine_busy() -> None:
    loaded = busy([sample("a", 1.0, load=4.26), sample("b", 1.0)], cores=2)
    assert "above 2 (the number of cores) before 1 of 2 samples, 4.3 at most" in loaded
    assert "took up to 10% of its processors in 1 of 2" in busy([sample("a", 1.0, steal=0.1), sample("b", 1.0)], 2)


def test_steal_is_a_share_of_all_ticks() -> None:
    before = Processors.now("cpu  100 0 100 700 50 0 0 50 99 0\ncpu0 1 2 3\n")
    later = Processors.now("cpu  150 0 100 720 50 0 0 80 99 0\n")
    assert before.every == 1000
    assert before.stolen_until(later) == 0.3
    assert before.stolen_until(before) == 0.0
    assert 0 <= Processors.now().stolen_until(Processors.now()) <= 1
