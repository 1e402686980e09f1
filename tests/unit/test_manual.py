"""docs/reclaim.1: made from the parsers, complete, and troff(1) has nothing to complain about."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from reclaim import __main__ as entry
from reclaim import manual, options, verbs
from tests.support import ROOT, WRITES

PAGE = ROOT / "docs/reclaim.1"
VERBS = [*(run.name for run in verbs.RUNS), *(verb.name for _, group in entry.GROUPS for verb in group)]


def test_the_page_is_the_one_of_these_verbs_and_options() -> None:
    made = manual.page(entry.GROUPS)
    if WRITES:
        PAGE.write_text(made, encoding="utf-8")
    hint = "RECLAIM_DOCS=write pytest tests/unit/test_manual.py writes it anew"
    assert PAGE.read_text(encoding="utf-8") == made, hint


@pytest.mark.parametrize("verb", VERBS)
def test_it_names_every_verb_with_its_arguments(verb: str) -> None:
    text = PAGE.read_text(encoding="utf-8").replace("\\-", "-")
    assert re.search(rf"^\.B reclaim {verb}\b", text, re.MULTILINE)
    for option in options.every():
        assert (f".B {option.flag}" in text) == bool(option.verbs)


def test_man_shows_it_without_a_warning() -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("there is no groff")
    done = subprocess.run([groff, "-man", "-Tutf8", "-ww", PAGE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "reclaim undo" in done.stdout
