"""The HTML that is written is valid."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.browser.window import WEB

pytestmark = pytest.mark.node


def complaints(path: Path) -> list[str]:
    """What html-validate has against *path*, by its rules for the standard and for what readers need."""
    done = subprocess.run(
        [
            "node",
            WEB / "html-validate/bin/html-validate.mjs",
            "--formatter=json",
            f"--config={Path(__file__).with_name('htmlvalidate.json')}",
            path,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.startswith("["), done.stderr
    found = json.loads(done.stdout)
    return [f"{one['line']}: {one['ruleId']}: {one['message']}" for file in found for one in file["messages"]]


def test_the_static_page(static: Path) -> None:
    assert complaints(static) == []


def test_the_page_of_a_fix(mended: Path) -> None:
    assert complaints(mended) == []


def test_the_page_of_a_fleet(fleet: Path) -> None:
    assert complaints(fleet) == []


def test_the_index(archive: Path) -> None:
    assert complaints(archive / "index.html") == []


def test_the_tool_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.html"
    wrong.write_text(
        "<!doctype html><html lang=en><title>x</title><p><div></div></p><a href=x><a></a>", encoding="ascii"
    )
    assert complaints(wrong)
