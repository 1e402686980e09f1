"""`python -m reclaim`: its versions, each of its commands, and that the documentation knows them all."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import libvirt
import pytest

from reclaim import __main__ as entry
from reclaim import __version__, scaffold
from reclaim.__main__ import _parser, main
from reclaim.base.errors import ReclaimError
from reclaim.processes import bytecode, programs
from tests import records
from tests.records import EPOCH
from tests.support import ROOT, disk_xml, domain_xml, node


def test_the_version_names_what_a_fault_may_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    number = libvirt.getVersion()
    python = ".".join(str(part) for part in sys.version_info[:3])
    library = f"{number // 1_000_000}.{number % 1_000_000 // 1000}.{number % 1000}"
    expected = f"reclaim {__version__} (Python {python}, pytest {pytest.__version__}, libvirt {library})\n"
    assert capsys.readouterr().out == expected


@pytest.mark.slow
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


# Each command ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    """They change this process: its PATH, and where its bytecode goes."""
    monkeypatch.setattr(programs, "guard", list)
    monkeypatch.setattr(bytecode, "guard", lambda: None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return records.archive(tmp_path / "reports", records.document(records.whole("a")))


def _ended(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_guards_come_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[str] = []
    monkeypatch.setattr(programs, "guard", lambda: called.append("programs"))
    monkeypatch.setattr(bytecode, "guard", lambda: called.append("bytecode"))
    monkeypatch.setattr(entry, "undo", lambda *_arguments: called.append("undo"))
    main(["undo", str(tmp_path)])
    assert called == ["programs", "bytecode", "undo"]


@pytest.mark.parametrize(("is_whole", "status"), [(True, 0), (False, 1)])
def test_undo_is_given_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_whole: bool, status: int
) -> None:
    given: list[object] = []

    def undo(folder: Path, say: Any, inventory: Path | None, uri: str | None) -> bool:
        given.extend((folder, inventory, uri))
        say("one\x1b: back\nand more")
        return is_whole

    monkeypatch.setattr(entry, "undo", undo)
    ended = _ended(capsys, "undo", "run", "--inventory", "i.toml", "--uri", "test:///x")
    assert ended == (status, "one\\x1b: back\nand more\n", "")
    assert given == [Path("run"), Path("i.toml"), "test:///x"]
    _ended(capsys, "undo", "run")
    assert given[3:] == [Path("run"), None, None]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ReclaimError("no\x1b such run"), "no\\x1b such run"),
        (OSError(28, "No space left on device", "/reports/x"), "No space left on device"),
    ],
)
def test_a_trouble_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fail(*_arguments: object) -> bool:
        raise error

    monkeypatch.setattr(entry, "undo", fail)
    status, out, err = _ended(capsys, "undo", "run")
    assert (status, out) == (2, "")
    assert err.startswith("reclaim: ")
    assert words in err
    assert err.count("\n") == 1


def test_wrong_use_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["no-such-verb"], ["undo"], ["index", "--keep", "many"], ["new", "slug", "Title"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
    assert "usage: python -m reclaim" in capsys.readouterr().err


def test_a_name_that_the_locale_does_not_have_is_printed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    place = run.parent / "Žofie.html"
    assert main(["report", str(run), "--output", str(place)]) == 0
    out.flush()
    assert out.buffer.getvalue().decode() == f"{run.parent}/\\u017dofie.html\n"


def test_a_report_is_made_beside_its_record_or_where_it_is_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in (run, run / "results.json"):
        assert _ended(capsys, "report", given) == (0, f"{run / 'report.html'}\n", "")
        assert (run / "report.html").stat().st_mode & 0o777 == 0o600
        (run / "report.html").unlink()
    before = os.umask(0o027)
    try:
        assert _ended(capsys, "report", run, run, "--output", tmp_path / "all.html")[0] == 0
    finally:
        os.umask(before)
    assert (tmp_path / "all.html").stat().st_mode & 0o777 == 0o640
    status, out, err = _ended(capsys, "report", run, run)
    assert (status, out) == (2, "")
    assert "--output" in err


def _later(reports: Path, verdict: str, **more: Any) -> Path:
    rows = records.whole("a")
    rows[0]["verdict"] = verdict
    rows[0]["reason"] = "why"
    return records.archive(reports, records.document(rows, started=EPOCH + timedelta(days=1), **more))


@pytest.mark.parametrize(("verdict", "status"), [("compliant", 0), ("noncompliant", 1), ("waived", 0)])
def test_a_difference_ends_with_1_if_something_broke(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: str, status: int
) -> None:
    ended = _ended(capsys, "diff", run, _later(tmp_path / "reports", verdict))
    assert ended[0] == status
    assert "two hypervisors" not in ended[1]
    if status:
        assert records.whole("a")[0]["requirement"] in ended[1]


def test_two_hypervisors_are_noted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = _later(tmp_path / "reports", "compliant", hypervisor="kvm2\x1b")
    _, out, _ = _ended(capsys, "diff", run, later)
    assert out.splitlines()[0].startswith("note: ")
    assert "kvm2\\x1b" in out
    document = json.loads((run / "results.json").read_text(encoding="utf-8"))
    document["hypervisor"]["uri"] = "test:///other"
    (run / "results.json").write_text(json.dumps(document), encoding="utf-8")
    same_name = _later(tmp_path / "others", "compliant")
    assert "note: " in _ended(capsys, "diff", run, same_name)[1]


def test_the_index_is_made_and_old_runs_go(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = _later(tmp_path / "reports", "compliant")
    ended = _ended(capsys, "index", tmp_path / "reports")
    assert ended == (0, f"{tmp_path / 'reports/index.html'}\n", "")
    assert run.exists()
    missing = tmp_path / "missing"
    assert _ended(capsys, "index", missing) == (2, "", f"reclaim: {missing}: there is no such folder\n")
    status, out, err = _ended(capsys, "index", tmp_path / "reports", "--keep", "0")
    assert (status, out) == (2, "")
    assert "--keep 0" in err
    assert run.exists()
    assert _ended(capsys, "index", tmp_path / "reports", "--keep", "1")[0] == 0
    assert (run.exists(), later.exists()) == (False, True)


@pytest.mark.parametrize(("is_same", "status"), [(True, 0), (False, 1)])
def test_a_copy_is_compared_with_the_hypervisor_that_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    is_same: bool,
    status: int,
) -> None:
    given: list[Any] = []

    def verify(*arguments: Any) -> bool:
        given.append(arguments[:3])
        return is_same

    monkeypatch.setattr(entry, "verify", verify)
    uri = node(tmp_path, domain_xml(disk_xml()))
    assert _ended(capsys, "verify-backup", "/copies/a", "--uri", uri)[0] == status
    [(copy, hypervisor, image)] = given
    assert (copy, hypervisor.uri, hypervisor.readonly, image) == ("/copies/a", uri, True, None)


def test_without_a_libvirt_an_image_that_is_named_suffices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = []

    def fail(*_arguments: object, **_more: object) -> None:
        raise ReclaimError("cannot connect")

    def verify(*arguments: Any) -> bool:
        given.append(arguments[:3])
        return True

    monkeypatch.setattr(entry, "verify", verify)
    monkeypatch.setattr(entry, "connect", fail)
    assert _ended(capsys, "verify-backup", "/copies/a", "--image", "/images/a")[0] == 0
    assert given == [("/copies/a", None, "/images/a")]
    for more in ([], ["--image", "/images/a", "--uri", "qemu:///system"]):
        status, _, err = _ended(capsys, "verify-backup", "/copies/a", *more)
        assert status == 2
        assert "cannot connect" in err
    assert len(given) == 1


def test_a_new_requirement_is_ordered_as_it_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []
    monkeypatch.setattr(scaffold, "new", lambda order, _say: given.append(order))
    assert _ended(capsys, "new", "safe-cache", "The disk is", "--for", "disk", "--stage", "power")[0] == 0
    assert given == [scaffold.Order("safe-cache", "The disk is", "disk", "power")]
