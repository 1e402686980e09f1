"""`python -m reclaim`: its versions, and that the documentation knows every command."""

from __future__ import annotations

import re
import subprocess
import sys

import libvirt
import pytest

from reclaim import __version__
from reclaim.__main__ import _parser, main
from tests.support import ROOT


def test_the_version_names_what_a_fault_may_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    number = libvirt.getVersion()
    python = ".".join(str(part) for part in sys.version_info[:3])
    library = f"{number // 1_000_000}.{number % 1_000_000 // 1000}.{number % 1000}"
    expected = f"reclaim {__version__} (Python {python}, pytest {pytest.__version__}, libvirt {library})\n"
    assert capsys.readouterr().out == expected


def test_the_version_needs_no_libvirt_daemon_and_no_checkout() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reclaim", "--version"], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"reclaim {__version__} (")


def test_the_readme_has_every_command() -> None:
    verbs = re.search(r"\{([a-z,-]+)\}", _parser().format_usage())
    assert verbs is not None
    named = set(re.findall(r"python -m reclaim (-?-?[a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named == {*verbs[1].split(","), "--version"}
