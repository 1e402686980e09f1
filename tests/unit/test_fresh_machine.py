"""What a fresh machine of another Debian is given of this one, and what it is not."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING

import pytest

from lab import mounts, sources
from lab.error import LabError
from lab.fresh import __main__ as fresh
from lab.fresh import root, settings
from lab.truth import _parser

if TYPE_CHECKING:
    from pathlib import Path


def test_apt_is_told_the_way_to_the_archive_and_nothing_else() -> None:
    dump = """\
Acquire::http::Proxy "http://proxy.example.org:3142/";
Acquire::http::Proxy-Auto-Detect "/usr/local/bin/which-proxy";
Acquire::http::Proxy::mirror.example.org "DIRECT";
Acquire::https::Verify-Peer "true";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Dir::Etc "etc/apt";
DPkg::Pre-Install-Pkgs:: "/usr/sbin/dpkg-preconfigure --apt || true";
"""
    assert sources.apt_lines(dump) == [
        'Acquire::http::Proxy "http://proxy.example.org:3142/";',
        'Acquire::http::Proxy::mirror.example.org "DIRECT";',
        'Acquire::https::Verify-Peer "true";',
        'Acquire::Check-Valid-Until "false";',
    ]


def test_pip_is_told_the_way_to_the_index_without_folders_of_this_machine() -> None:
    listed = """\
:env:.find-links='/opt/wheels'
:env:.timeout='99'
global.cert='/etc/ssl/certs/ca-certificates.crt'
global.constraint='/etc/pip/constraints.txt'
global.extra-index-url='file:///opt/simple https://pypi.example.org/simple'
global.index-url='/opt/index'
"""
    assert settings.pip_values(listed) == {"timeout": "99", "extra-index-url": "https://pypi.example.org/simple"}


@pytest.mark.parametrize("listed", ["", "npm ERR!", "[1]"])
def test_a_machine_without_npm_has_no_settings_of_it(listed: str) -> None:
    assert settings.npm_values(listed) == {}


def test_npm_is_told_the_way_to_the_registry_and_no_secret() -> None:
    listed = json.dumps(
        {
            "registry": "https://npm.example.org/",
            "//npm.example.org/:_authToken": "s3kr1t",
            "cafile": "/etc/ssl/certs/ca-certificates.crt",
            "noproxy": ["", "localhost"],
            "proxy": None,
            "strict-ssl": False,
        }
    )
    assert settings.npm_values(listed) == {
        "registry": "https://npm.example.org/",
        "noproxy": "localhost",
        "strict-ssl": "false",
    }


def test_one_run_has_the_machine_and_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLAIM_LAB", str(tmp_path))
    left = tmp_path / "fresh/trixie/root/left"
    left.mkdir(parents=True)
    with root.place("trixie") as folder:
        assert not left.exists()
        (folder / "root").mkdir()
        with pytest.raises(LabError, match="another run has the machine of trixie"), root.place("trixie"):
            pass
        assert (folder / "root").is_dir()
    assert not folder.exists()


def test_nothing_is_removed_where_something_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "below", lambda folder: [f"{folder}/root/sys"])
    (tmp_path / "kept").touch()
    with pytest.raises(LabError, match="still mounted, so nothing is removed there: "):
        root.remove(tmp_path)
    assert (tmp_path / "kept").exists()


def test_a_mount_below_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_TABLE", tmp_path / "mountinfo")
    place = tmp_path / "with blank"
    line = "24 1 254:0 / {} rw,relatime shared:1 - ext4 /dev/vda rw\n"
    text = "".join(line.format(str(one).replace(" ", r"\040")) for one in ("/", place / "sys", f"{place}-not"))
    (tmp_path / "mountinfo").write_text(text, encoding="ascii")
    assert mounts.below(place) == [str(place / "sys")]


# The truth matrix -----------------------------------------------------------------------------


def test_each_suite_has_a_page_and_keeps_its_guests_outside_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLAIM_LAB", str(tmp_path))
    steps = {suite: fresh.truth(suite, ["--resume"])[-1] for suite in fresh.SUITES}
    assert steps["trixie"].brings == ("docs/truth-qemu10.md", "docs/truth-qemu10.json")
    assert len({step.brings for step in steps.values()}) == len(fresh.SUITES)
    kept = [f"{place}/" for place in fresh._kept("trixie").values()]
    for suite, step in steps.items():
        words = shlex.split(step.command)
        arguments = _parser().parse_args(words[words.index("lab.truth") + 1 :])
        assert arguments.resume
        assert str(arguments.write) == step.brings[0]
        assert ("SUITE=sid" in arguments.by) == (suite == "sid")
        assert any(str(arguments.progress).startswith(place) for place in kept)


def test_only_the_files_that_a_step_wrote_are_brought(tmp_path: Path) -> None:
    clone, checkout = tmp_path / "clone", tmp_path / "checkout"
    for folder in (clone, checkout):
        folder.mkdir()
    names = ("old.md", "rewritten.md", "new.md", "missing.md")
    for name in names[:2]:
        (clone / name).write_text("of the clone", encoding="ascii")
        (checkout / name).write_text("of the checkout", encoding="ascii")
        os.utime(clone / name, (1, 1))
    before = fresh._written(clone, names)
    for name in names[1:3]:
        (clone / name).write_text("of the run", encoding="ascii")
    fresh.bring(clone, before, checkout)
    assert {path.name: path.read_text(encoding="ascii") for path in checkout.iterdir()} == {
        "old.md": "of the checkout",
        "rewritten.md": "of the run",
        "new.md": "of the run",
    }


# The Debian package ---------------------------------------------------------------------------


@pytest.mark.parametrize("steps", ["small", "quick", "full", "truth"])
def test_of_debian_12_the_package_alone_is_looked_at(
    steps: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hosts", "--suite", "bookworm", "--set", steps])
    with pytest.raises(SystemExit) as ended:
        fresh.main()
    assert ended.value.code == 2
    assert "--suite bookworm goes with --set package" in capsys.readouterr().err


def test_the_script_of_the_package_is_there() -> None:
    (step,) = fresh.SETS["package"]
    assert step in fresh.SETS["quick"]
    assert (fresh.CHECKOUT / shlex.split(step.command)[-1]).is_file()
