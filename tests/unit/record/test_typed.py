"""Commands that are printed to be typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from reclaim.__main__ import _parser
from reclaim.record import typed


@pytest.mark.parametrize("name", ["reports/kvm1/20260101T000000Z-fix", "my runs/1", "a'b", "$(reboot)", "a;b"])
def test_undo_names_the_run_as_one_word_of_a_shell(name: str) -> None:
    words = shlex.split(typed.undo(Path(name)))
    assert words == ["python", "-m", "reclaim", "undo", name]
    assert _parser().parse_args(words[3:]).folder == Path(name)


def test_a_name_that_steers_a_terminal_is_shown() -> None:
    assert typed.undo(Path("a\x1b[31m\nb")).isprintable()
