"""Commands that are printed to be typed: from any folder, with any PATH."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from reclaim import __version__
from reclaim.base import typed
from reclaim.record import typed as typed_runs
from tests.support import ROOT, executable

BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the script, as a new process does, and begin with the PATH of a plain system."""
    monkeypatch.setattr(typed, "_script", typed._script.__wrapped__)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def _script(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    executable(path, "#!/bin/sh\n")
    return path


@pytest.mark.parametrize("name", ["reports/kvm1/20260101T000000Z-fix", "my runs/1", "a'b", "$(reboot)", "a;b"])
def test_undo_names_the_run_as_one_word_of_a_shell(name: str) -> None:
    words = shlex.split(typed_runs.undo(Path(name)))
    assert words[-2:] == ["undo", name]
    assert shlex.split(typed_runs.undo(Path(name), anywhere=True))[-1] == str(Path(name).absolute())


def test_a_name_that_steers_a_terminal_is_shown() -> None:
    assert typed_runs.undo(Path("a\x1b[31m\nb")).isprintable()


def test_the_command_on_path_has_its_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link of pipx leads to the script in its venv."""
    script = _script(tmp_path / "venv/bin/reclaim")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert typed.command("audit") == f"{script} audit"
    (tmp_path / "local").mkdir()
    (tmp_path / "local/reclaim").symlink_to(script)
    monkeypatch.setenv("PATH", f"/usr/bin:{tmp_path}/local")
    assert typed.command("audit", stand=tmp_path) == "reclaim audit"
    _script(tmp_path / "other/reclaim")
    monkeypatch.setenv("PATH", f"{tmp_path}/other:{tmp_path}/local")
    assert typed.command("audit") == f"{script} audit"


@pytest.mark.parametrize(
    ("stand", "shown"),
    [
        ("", "venv/bin/reclaim"),
        ("venv/bin", "./reclaim"),
        ("elsewhere", "{}/venv/bin/reclaim"),
        ("/", "{}/venv/bin/reclaim"),
    ],
)
def test_a_script_is_named_as_seen_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand: str, shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", [str(_script(tmp_path / "venv/bin/reclaim"))])
    assert typed.command("audit", stand=tmp_path / stand) == f"{shown.format(tmp_path)} audit"


def test_a_path_with_a_blank_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = _script(tmp_path / "my tools/reclaim")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert shlex.split(typed.command("audit", "a b")) == [str(script), "audit", "a b"]


def test_pytest_names_the_script_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(BIN / "pytest")])
    assert typed.command("audit") == f"{BIN}/reclaim audit"


def test_the_script_of_another_reclaim_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a copy of the checkout, say: the script imports the one that is installed."""
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setattr(typed, "PACKAGE", tmp_path / "reclaim")
    python = sys.executable
    assert typed.command("audit", stand=tmp_path) == f"{python} -m reclaim audit"
    assert typed.command("audit") == f"env PYTHONPATH={tmp_path} {python} -m reclaim audit"


def test_a_folder_that_is_gone_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "argv", ["reclaim"])
    assert typed.here() is None
    assert typed_runs.undo(Path("/r"))


@pytest.mark.slow
@pytest.mark.parametrize("stand", [ROOT, Path("/")])
def test_a_command_runs_as_it_is_printed(stand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-m"])
    packages = ([sysconfig.get_path("scripts")], ["no such script"])
    for folders in packages:
        monkeypatch.setattr(sysconfig, "get_path", lambda _name, found=folders: found[0])
        line = typed.command("--version", stand=stand)
        done = subprocess.run(["sh", "-c", line], cwd=stand, env={"PATH": os.defpath}, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), line
        assert done.stdout.startswith(f"reclaim {__version__} (".encode())
