"""The commands of a job's file: their names and places, and how much of a job is read."""

from __future__ import annotations

import pytest

from reclaim.jobs.calls import Budget, Call, Script
from reclaim.jobs.words import Word


@pytest.mark.parametrize(
    ("words", "name", "texts"),
    [
        (["/usr/bin/rsync", "-a", "/x"], "rsync", ["-a", "/x"]),
        (["rsync"], "rsync", []),
        (["./copy.sh", ""], "copy.sh", [""]),
        ([""], "", []),
        ([], "", []),
    ],
)
def test_the_name_of_a_command_and_the_words_after_it(words: list[str], name: str, texts: list[str]) -> None:
    call = Call(tuple(map(Word, words)), 3)
    assert (call.name, call.texts) == (name, texts)


def test_a_command_of_another_file_has_its_name_before_the_line() -> None:
    assert Call((), 3).where == "line 3"
    assert Call((), 3, file="/opt/copy.sh").where == "/opt/copy.sh line 3"


def test_a_budget_has_room_for_so_many_commands() -> None:
    budget = Budget(commands=3, words=1000)
    assert [budget.take(1) for _ in range(4)] == [True, True, False, False]


def test_a_budget_has_room_for_so_many_words() -> None:
    budget = Budget(commands=1000, words=12)
    assert [budget.take(4) for _ in range(4)] == [True, True, False, False]


def test_a_part_that_is_not_understood_keeps_its_place() -> None:
    script = Script()
    script.skip("before")
    script.calls.append(Call((), 1))
    script.skip("behind", ((1, 2),))
    assert [(part.text, part.index, part.branch) for part in script.unread] == [
        ("before", 0, ()),
        ("behind", 1, ((1, 2),)),
    ]


def test_a_file_of_nothing_but_such_parts_fills_no_memory() -> None:
    script = Script()
    for number in range(2000):
        script.skip(f"line {number}")
    assert [part.text for part in script.unread] == [f"line {number}" for number in range(500)]
