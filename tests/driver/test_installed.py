"""reclaim as it is installed: from a wheel, in a venv, in any folder; and asleep in other people's runs of pytest."""

from __future__ import annotations

import html
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from reclaim import __version__
from reclaim.base.secret import redacted
from reclaim.requirement import catalogue
from tests.command import PLAIN, SAMPLES, document_of, ran, runs
from tests.driver import wheel
from tests.driver.wheel import Installed
from tests.support import ROOT

pytestmark = pytest.mark.slow
#: a shell did not find the command, or reclaim did not understand it
UNTYPABLE = (2, 4, 126, 127)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", "64")
    pytest.importorskip("wheel")
    folder = tmp_path_factory.mktemp("built")
    return wheel.build("wheel", wheel.source(folder / "source"), folder / "dist")


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return wheel.install(built, tmp_path_factory.mktemp("installed"))


def _content(path: Path) -> dict[str, bytes]:
    """The files of a wheel but for the list of them."""
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist() if not name.endswith("/RECORD")}


def test_nothing_but_reclaim_lies_at_the_top(built: Path, installed: Installed) -> None:
    tops = {name.partition("/")[0] for name in _content(built)}
    assert tops == {"reclaim", f"reclaim-{__version__}.dist-info", f"reclaim-{__version__}.data"}
    ours = {path.name for path in installed.packages.iterdir()} & {*tops, "checks", "fixers", "conftest.py", "docs"}
    assert ours == {"reclaim", f"reclaim-{__version__}.dist-info"}
    page = installed.venv / "share/man/man1/reclaim.1"
    assert page.read_bytes() == (ROOT / "docs/reclaim.1").read_bytes()


def test_the_wheel_has_every_file_of_the_package(built: Path) -> None:
    content = _content(built)
    for path in (ROOT / "reclaim").rglob("*"):
        name = path.relative_to(ROOT).as_posix()
        # the texts for `reclaim new` are for a checkout
        if path.is_file() and "__pycache__" not in name and not name.startswith("reclaim/templates/"):
            assert content[name] == path.read_bytes()
    for folder in ("checks", "fixers"):
        for path in (ROOT / folder).glob("*.py"):
            assert content[f"reclaim/shipped/{folder}/{path.name}"] == path.read_bytes()


def test_the_sdist_makes_the_same_wheel(built: Path, tmp_path: Path) -> None:
    packed = wheel.build("sdist", built.parent.parent / "source", tmp_path / "sdist")
    shutil.unpack_archive(packed, tmp_path / "unpacked")
    (tree,) = (tmp_path / "unpacked").iterdir()
    assert _content(wheel.build("wheel", tree, tmp_path / "dist")) == _content(built)


def test_it_runs_in_any_folder_whatever_lies_there(installed: Installed, tmp_path: Path) -> None:
    """Packages with our names, a conftest and settings of pytest in the user's folder are none of its business."""
    for name in ("checks", "fixers", "reclaim"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemError\n")
    (tmp_path / "conftest.py").write_text("raise SystemError\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    done = installed.run("audit", *SAMPLES, "--reports", "mine", stand=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"reports: {tmp_path}/mine" in done.stdout.splitlines()
    assert "18 noncompliant" in done.stdout
    (folder,) = runs(tmp_path / "mine")
    run = document_of(folder)["run"]
    assert run["arguments"] == [*map(redacted, SAMPLES), "--reports", "mine"]
    assert run["folder"] == str(tmp_path)


def test_without_libvirt_s_binding_one_line_names_the_packages(installed: Installed, tmp_path: Path) -> None:
    lacking = (
        "import sys; sys.modules['libvirt'] = None; import runpy; runpy.run_module('reclaim', run_name='__main__')"
    )
    done = installed.run("-c", lacking, program="python", stand=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "has no libvirt binding: install the distribution's (python3-libvirt;" in line


def test_python_m_is_the_same_command(installed: Installed) -> None:
    done = installed.run("-m", "reclaim", "rules", "--json", program="python")
    assert [rule["slug"] for rule in json.loads(done.stdout)] == list(catalogue())
    assert installed.run("rules", "--json").stdout == done.stdout
    assert installed.run("audit", "--version").stdout.startswith(f"reclaim {__version__} (")


def _typed(text: str) -> list[str]:
    return re.findall(r"^(?:next|undo): +(\S.*)$", text, re.MULTILINE)


def _on_page(folder: Path) -> list[str]:
    text = (folder / "report.html").read_text(encoding="utf-8")
    return [html.unescape(line) for line in re.findall(r'<div class="command"><pre[^>]*><code>(.*?)</code>', text)]


@pytest.mark.parametrize("verb", ["audit", "fix"])
def test_each_line_that_is_printed_can_be_typed(installed: Installed, tmp_path: Path, verb: str) -> None:
    reports = tmp_path / "my reports"
    stand = tmp_path / "stand here"
    stand.mkdir()
    (stand / "house.toml").write_text('[policy]\nmachine = "minimum"\n')
    given = (*SAMPLES, "--reports", "../my reports", "--guests", "build*,wiki", "--inventory", "house.toml")
    done = installed.run(verb, *given, stand=stand)
    (folder,) = runs(reports)
    lines = _typed(done.stdout)
    assert lines
    assert Path(re.findall(r"^report: (.*)$", done.stdout, re.MULTILINE)[0]).samefile(folder / "report.html")
    for line in lines:
        again = ran("sh", "-c", line, stand=stand, env=PLAIN)
        assert again.returncode not in UNTYPABLE, (line, again.stdout, again.stderr)
    commands = _on_page(folder)
    assert len(commands) >= len(lines)
    for line in commands:
        again = ran("sh", "-c", line, stand=Path("/"), env=PLAIN)
        assert again.returncode not in UNTYPABLE, (line, again.stdout, again.stderr)


def test_in_a_folder_of_path_it_is_called_by_its_name(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("audit", *SAMPLES, "--reports", str(tmp_path), PATH=f"{installed.venv}/bin:/usr/bin:/bin")
    assert [line.partition(" --uri")[0] for line in _typed(done.stdout)] == ["reclaim plan"]


def test_the_wheel_makes_no_requirement_of_its_own(installed: Installed) -> None:
    done = installed.run("new", "safe-cache", "The disk is safe", "--for", "disk", "--stage", "definition")
    assert done.returncode == 2
    assert "is no checkout of reclaim" in done.stderr
    assert done.stderr.count("\n") == 1


# Other people's pytest --------------------------------------------------------------------------

_FOREIGN = """\
def pytest_addoption(parser):
    for name in ("--uri", "--guests", "--fix", "--plan", "--reports", "--keep"):
        parser.addoption(name, action="store_true")


def pytest_unconfigure(config):
    import sys

    ours = sorted(name for name in sys.modules if name.partition(".")[0] in ("reclaim", "libvirt", "checks"))
    print("loaded:", *ours)
"""


def test_in_a_foreign_project_it_sleeps(installed: Installed, tmp_path: Path) -> None:
    """Its options are free for others, and its modules are not imported, but for the one that asks whether to wake."""
    (tmp_path / "conftest.py").write_text(_FOREIGN)
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks/test_own.py").write_text("def test_own():\n    pass\n")
    done = installed.pytest("-s", "checks/", "--fix", "--uri", stand=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = re.search(r"^loaded: (.*)$", done.stdout, re.MULTILINE)
    assert loaded is not None
    light = [
        "reclaim",
        "reclaim.asleep",
        "reclaim.base",
        "reclaim.base.errors",
        "reclaim.base.home",
        "reclaim.base.stdout",
    ]
    assert loaded[1].split() == light
    (tmp_path / "conftest.py").unlink()
    assert "reclaim" not in installed.pytest("--help", stand=tmp_path).stdout
    wrong = installed.pytest("checks/", "--fixx", stand=tmp_path)
    assert "did you mean" not in wrong.stdout + wrong.stderr


def test_its_own_path_wakes_it(installed: Installed, tmp_path: Path) -> None:
    checks = str(installed.packages / "reclaim/shipped/checks")
    done = installed.pytest(checks, *SAMPLES, "--guest", "web", stand=tmp_path)
    assert (done.returncode, done.stderr) == (4, "ERROR: --guest: there is no such option; did you mean --guests?\n\n")
