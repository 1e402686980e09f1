"""The Debian package: built here, unpacked into a folder, and run from there. `make hosts` installs and removes one."""

from __future__ import annotations

import email
import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from reclaim import __version__
from reclaim.requirement import catalogue
from tests.command import PLAIN, SAMPLES, ran
from tests.support import ROOT, executable

pytestmark = pytest.mark.slow
_SECONDS = 900


@dataclass(frozen=True)
class Package:
    """The package, a folder that it is unpacked into, and a folder that its user stands in."""

    path: Path
    tree: Path
    stand: Path

    @property
    def control(self) -> Message:
        return email.message_from_string(ran("dpkg-deb", "--field", self.path).stdout)

    @property
    def private(self) -> Path:
        return self.tree / "usr/lib/reclaim"

    def files(self) -> Iterator[str]:
        for path in self.tree.rglob("*"):
            if not path.is_dir():
                yield path.relative_to(self.tree).as_posix()

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        plain = {**PLAIN, "COLUMNS": "160", "HOME": str(self.stand)}
        return ran(self.tree / "usr/bin/reclaim", *words, stand=self.stand, env={**plain, **env}, seconds=_SECONDS)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    if shutil.which("dpkg-checkbuilddeps") is None:
        pytest.skip("no Debian package can be built here: dpkg-dev is missing")
    lacking = ran("dpkg-checkbuilddeps")
    if lacking.returncode:
        pytest.skip(f"no Debian package can be built here: {lacking.stderr.strip()}")
    folder = tmp_path_factory.mktemp("package")
    built = ran(ROOT / "scripts/deb.sh", folder / "dist", stand=folder, seconds=_SECONDS)
    if "vendor.py: there is no wheel" in built.stderr and "RECLAIM_WHEELS" not in os.environ:
        pytest.skip("no Debian package can be built here: pip reaches no package index, and RECLAIM_WHEELS is not set")
    assert built.returncode == 0, built.stderr
    (path,) = (folder / "dist").iterdir()
    made = Package(path, folder / "tree", folder / "stand")
    made.stand.mkdir()
    assert ran("dpkg-deb", "--extract", path, made.tree).returncode == 0
    return made


def test_the_version_is_that_of_the_code() -> None:
    first = (ROOT / "debian/changelog").read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith(f"reclaim ({__version__}) ")


@pytest.mark.parametrize("build_dependencies", [False, True], ids=["dpkg-dev", "debhelper"])
def test_one_line_names_the_tools_that_are_missing(tmp_path: Path, *, build_dependencies: bool) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "realpath", "sed"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    wanted = "dpkg-dev"
    if build_dependencies:
        executable(
            programs / "dpkg-checkbuilddeps",
            "#!/usr/bin/bash\n"
            "echo 'dpkg-checkbuilddeps: error: Unmet build dependencies: debhelper-compat (= 13) dh-python "
            "dh-sequence-python3 python3-lxml' >&2\n"
            "exit 1\n",
        )
        wanted = "debhelper dh-python python3-lxml"
    done = ran(ROOT / "scripts/deb.sh", tmp_path, stand=tmp_path, env={"PATH": str(programs)})
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"apt-get install --no-install-recommends {wanted}, then this again" in line


def test_each_file_lies_where_no_other_program_looks(package: Package) -> None:
    allowed = re.compile(
        r"usr/(bin/reclaim$|lib/reclaim/|share/(doc/reclaim/|man/man1/reclaim\.1\.gz$|python3/|lintian/))"
    )
    assert [name for name in package.files() if not allowed.match(name)] == []
    assert [name for name in package.files() if name.endswith((".pyc", "direct_url.json"))] == []
    # the options of the interpreter: the dh-python of Debian 13 drops them from the scripts that it finds
    launcher = (package.tree / "usr/bin/reclaim").read_text(encoding="ascii")
    assert launcher == (ROOT / "debian/launcher.py").read_text(encoding="ascii")
    page = package.tree / "usr/share/man/man1/reclaim.1.gz"
    assert gzip.decompress(page.read_bytes()) == (ROOT / "docs/reclaim.1").read_bytes()


def test_it_has_reclaim_as_the_wheel_has_it(package: Package) -> None:
    shipped = {"checks": "reclaim/shipped/checks", "fixers": "reclaim/shipped/fixers", "reclaim": "reclaim"}
    for name, place in shipped.items():
        for path in (ROOT / name).rglob("*.py"):
            unpacked = package.private / place / path.relative_to(ROOT / name)
            if "templates" not in path.parts:
                assert unpacked.read_bytes() == path.read_bytes()
    assert not {"checks", "fixers", "conftest.py", "bin"} & {path.name for path in package.private.iterdir()}


def test_what_it_requires_is_in_it_or_named(package: Package) -> None:
    """pytest and its plugins are its own; libvirt's binding is the distribution's."""
    depends = package.control["Depends"]
    assert "python3-libvirt" in depends
    assert "pytest" not in depends
    assert re.search(r"python3 \(>= 3\.\d+~\)", depends)
    assert re.search(r"python3 \(<< 3\.\d+~\)", depends)
    for name in ("pytest", "testinfra", "pytest_html", "tree_sitter", "tree_sitter_bash"):
        assert (package.private / name).is_dir()
    for name, module in {"jinja2": "jinja2", "lxml": "lxml", "pydantic": "pydantic", "yaml": "yaml"}.items():
        assert (package.private / module).is_dir() != (f"python3-{name}" in depends)


def test_lintian_finds_no_error(package: Package) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    done = ran("lintian", "--allow-root", "--fail-on", "error", package.path, seconds=_SECONDS)
    assert done.returncode == 0, done.stdout


def test_it_names_its_version_and_rules(package: Package) -> None:
    assert package.run("--version").stdout.startswith(f"reclaim {__version__} (Python ")
    rules = package.run("rules").stdout
    assert all(slug in rules for slug in catalogue())


def test_an_audit_writes_reports_and_nothing_beside_its_modules(package: Package) -> None:
    done = package.run("audit", *SAMPLES, "--reports", "mine")
    assert (done.returncode, done.stderr) == (1, "")
    assert "18 noncompliant" in done.stdout
    assert list(package.stand.glob("mine/test-driver/latest/report.html"))
    assert [name for name in package.files() if "__pycache__" in name] == []


def test_it_sees_no_packages_of_other_people(package: Package, tmp_path: Path) -> None:
    """A module of the user's that has the name of one of its own, and a plugin for the user's own tests."""
    user = tmp_path / ".local/lib" / _python(package) / "site-packages"
    user.mkdir(parents=True)
    for folder in (tmp_path, user):
        for name in ("reclaim", "pytest", "checks", "libvirt", "jinja2", "loud"):
            (folder / f"{name}.py").write_text("raise SystemError\n")
        (folder / "usercustomize.py").write_text("raise SystemError\n")
        information = folder / "loud-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1\n")
        (information / "entry_points.txt").write_text("[pytest11]\nloud = loud\n")
    others = {"PYTHONPATH": str(tmp_path), "PYTEST_PLUGINS": "loud", "HOME": str(tmp_path)}
    done = package.run("audit", *SAMPLES, "--reports", str(tmp_path / "reports"), **others)
    assert (done.returncode, done.stderr) == (1, "")
    assert "18 noncompliant" in done.stdout


def _python(package: Package) -> str:
    version = re.search(r"Python (3\.\d+)", package.run("--version").stdout)
    assert version is not None
    return f"python{version[1]}"
