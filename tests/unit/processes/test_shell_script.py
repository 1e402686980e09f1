"""Every script for guests and hypervisors begins alike, and reads the arguments that it is given."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
import testinfra

from reclaim.changes import domfstrim, file_change
from reclaim.inside import facts
from reclaim.processes import shell_script
from reclaim.space import canary
from reclaim.storage import host_image, image_users
from tests.support import ROOT

SCRIPTS = {
    "facts": facts.script(),
    "canary": canary.script(),
    "host_image": host_image._LOOK,
    "punch": host_image._PUNCH,
    "image_users": image_users._LOOK,
    "file_change": file_change._WRITE,
    "install": domfstrim._INSTALL,
    "remove": domfstrim._REMOVE,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_finds_the_same_programs_whatever_starts_it(name: str) -> None:
    assert SCRIPTS[name].startswith(shell_script.HEAD)


def test_the_folders_of_programs_are_written_once() -> None:
    """The lab's guests and the tests have their own."""
    sources = [path for path in (ROOT / "reclaim").rglob("*") if path.suffix in (".py", ".sh")]
    having = [path.name for path in sources if shell_script.PATH in path.read_text(encoding="utf-8")]
    assert having == ["shell_script.py"]


def test_the_head_sets_path_and_locale_for_the_programs_that_it_starts(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8"}
    done = subprocess.run(
        ["/bin/sh", "-c", shell_script.HEAD + "env"], env=environment, capture_output=True, text=True, check=True
    )
    assert {f"PATH={shell_script.PATH}", "LC_ALL=C"} <= {*done.stdout.splitlines()}


def test_a_script_gets_its_arguments_as_they_are() -> None:
    arguments = ["a b", "", "$(id)", "it's", "-n"]
    shell = testinfra.get_host("local://")
    result = shell.run(shell_script.command(len(arguments)), 'printf "%s|" "$@"', *arguments)
    assert result.stdout == "".join(f"{argument}|" for argument in arguments)


def test_what_it_says_can_be_read() -> None:
    text = "two\nlines and a \\ %s"
    said = subprocess.run(
        ["/bin/sh", "-c", f'{shell_script.SAY}say name "$1"', "reclaim", text],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.fullmatch(r"name [A-Za-z0-9+/=]+\n", said)
    assert host_image.answers(said, "") == {"name": text.encode()}
    assert base64.b64decode(said.split()[1]) == text.encode()
