"""A diff is right whatever the texts are, and takes linear time for long ones."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from reclaim.base import textdiff


def _text(chance: random.Random, lines: int, words: int) -> list[str]:
    return [f"line {chance.randrange(words)}" for _ in range(lines)]


def _patched(folder: Path, before: list[str], diff: list[str]) -> list[str]:
    """*before* as patch(1) makes it by *diff*: the tool that knows what a unified diff means."""
    (folder / "text").write_text("".join(f"{line}\n" for line in before), encoding="ascii")
    (folder / "diff").write_text("".join(f"{line}\n" for line in diff), encoding="ascii")
    argv = ["patch", "--fuzz=0", "--force", "--quiet", str(folder / "text"), str(folder / "diff")]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    return (folder / "text").read_text("ascii").splitlines()


@pytest.mark.skipif(shutil.which("patch") is None, reason="no patch: install patch")
@pytest.mark.parametrize("same_length", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_patch_makes_the_one_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, *, same_length: bool
) -> None:
    monkeypatch.setattr(textdiff, "_COMPARED", 0)
    chance = random.Random(seed)
    for _ in range(15):
        before = _text(chance, chance.randrange(1, 30), 3)
        after = list(before)
        for _ in range(chance.randrange(1, 5)):
            after[chance.randrange(len(after))] = "another"
        if not same_length:
            at = chance.randrange(len(after) + 1)
            after[at : at + chance.randrange(3)] = ["more"] * chance.randrange(3)
        diff = list(textdiff.unified(before, after, "text", "text"))
        assert (diff == []) == (before == after)
        if diff:
            assert _patched(tmp_path, before, diff) == after


def test_a_line_that_differs_is_shown_with_two_around_it() -> None:
    before = [f"{number}" for number in range(2000)]
    after = [*before[:1000], "changed", *before[1001:]]
    assert list(textdiff.unified(before, after, "a", "b")) == [
        *("--- a", "+++ b", "@@ -999,5 +999,5 @@"),
        *(" 998", " 999", "-1000", "+changed", " 1001", " 1002"),
    ]


@pytest.mark.parametrize("shift", [0, 1])
def test_what_is_made_to_be_slow_is_compared_at_once(shift: int) -> None:
    """Lines that are there many times, all of them changed: difflib takes minutes."""
    before = [f"{number % 90}" for number in range(20_000)]
    after = [f"{number * 7 % 90}" for number in range(20_000 + shift)]
    begin = time.process_time()
    assert list(textdiff.unified(before, after, "a", "b"))
    assert time.process_time() - begin < 2
