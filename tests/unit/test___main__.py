"""The command `reclaim`: its versions, its help, each of its commands, and that the documentation knows them all."""

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
from reclaim import __version__, options, scaffold, verbs
from reclaim.__main__ import main
from reclaim.backups import verify as verifying
from reclaim.base.errors import ReclaimError
from reclaim.engine import undo as undoing
from reclaim.handles import hypervisor as hypervisors
from reclaim.processes import bytecode, programs
from reclaim.requirement import STAGES, catalogue
from tests import records
from tests.records import EPOCH
from tests.support import ROOT, disk_xml, domain_xml, node

VERBS = [*(verb.name for verb in verbs.RUNS), *(verb.name for _, group in entry.GROUPS for verb in group)]


def test_the_version_names_what_a_fault_may_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
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


def test_the_page_of_usage_has_every_command() -> None:
    listed = (
        (ROOT / "docs/usage.md").read_text(encoding="utf-8").partition("## Every command\n")[2].partition("\n## ")[0]
    )
    named = set(re.findall(r"^    reclaim (-?-?[a-z-]+)", listed, re.MULTILINE))
    assert named == {*VERBS, "--version"}


def test_the_help_has_every_verb_with_a_line_and_the_way_to_pytests(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["help"], ["--help"], ["-h"]):
        assert main(words) == (0 if words else 2)
        printed = capsys.readouterr()
        lines = (printed.out or printed.err).splitlines()
        listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
        assert {*VERBS, "help", "--version"} == set(listed)
        assert all(listed.values())
        assert len([line for line in lines if line.endswith(":")]) == 4


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_its_arguments(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", verb]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: reclaim {verb}")
    if verb in ("audit", "plan", "fix"):
        assert main([verb, "--uri", "x", "--help"]) == 0
        assert capsys.readouterr().out == text
        assert "reclaim help pytest" in text
        for option in options.every():
            assert (f"  {option.flag}" in text) == (verb in option.verbs)
        for group in options.GROUPS:
            is_shown = any(verb in option.verbs for option in group.options)
            assert (f"\n{group.title.removeprefix('reclaim: ')}:\n" in text) == is_shown
        assert "with --" not in text
        return
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (["audti"], "audti: there is no such verb; did you mean audit?"),
        (["help", "rule"], "rule: there is no such verb; did you mean rules?"),
        (["web*"], "web*: there is no such verb (there are: audit, plan, fix, "),
        (["--guests", "web", "audit"], "--guests: begin with a verb: audit, plan, fix, "),
        (["verify-backup", "/nope"], "/nope: there is no such file"),
        (["undo", "nope"], "nope: there is no such file or folder, and no run "),
        (["rules", "disc-bus"], "disc-bus: there is no such requirement; did you mean disk-bus?"),
        (["rules", "zzz", "--json"], "zzz: there is no such requirement (there are: guest-access, "),
    ],
)
def test_a_wrong_word_is_named_with_what_is_near(
    words: list[str], mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"reclaim: {mistake}")
    assert printed.err.count("\n") == 1


def test_the_rules_are_listed_by_stage(capsys: pytest.CaptureFixture[str]) -> None:
    main(["rules"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(catalogue())
    assert [line for line in lines if line in STAGES] == list(STAGES)
    (proof,) = (line for line in lines if line.startswith("  reclaim-proof"))
    assert proof.endswith("(guest; with --prove)")
    (trim,) = (line for line in lines if line.startswith("  host-trim"))
    assert trim.endswith("(guest; with trim_from_host = true in the policy)")


@pytest.mark.parametrize("slug", catalogue())
def test_a_rule_is_explained_with_its_source_and_its_fix(slug: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rules", slug.replace("-", "_")])
    text = capsys.readouterr().out
    requirement = catalogue()[slug]
    assert text.startswith(f"{slug}: {requirement.title}\n")
    flat = " ".join(text.split())
    assert " ".join(requirement.reason.split()) in flat
    assert " ".join((requirement.fixer.__doc__ or "").split()) in flat
    assert requirement.reference in flat
    main(["rules", slug, "--json"])
    (document,) = json.loads(capsys.readouterr().out)
    assert (document["slug"], document["why"]) == (slug, requirement.reason)
    assert document["judged"] == list(requirement.parameters)
    assert (document["option"] is None) == (not requirement.option)


def test_a_run_is_found_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = run.parent.parent
    for name in ("latest", run.name, run.name[:12], f"{run.parent.name}/{run.name}"):
        assert _ended(capsys, "report", name, "--reports", reports) == (0, f"{run / 'report.html'}\n", "")
    status, _, err = _ended(capsys, "undo", "latest", "--reports", reports)
    assert status == 2
    assert f"the latest run, {run.parent.name}/{run.name}, changed nothing; nor did any other" in err
    assert _ended(capsys, "diff", "latest", run, "--reports", reports)[0] == 0


def test_a_run_is_not_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that the run fixed was not mended since."""
    run = records.archive(tmp_path, records.document([records.row("disk-bus", "fixed")], mode="fix"))
    ended = _ended(capsys, "diff", run, run / "results.json")
    assert ended == (0, "note: both are the same run: there is nothing to compare\n", "")


def test_a_pipe_that_is_closed_is_no_trouble() -> None:
    line = f"{sys.executable} -m reclaim help | true; {sys.executable} -m reclaim rules | head -1"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "access\n")


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
    monkeypatch.setattr(undoing, "undo", lambda *_arguments: called.append("undo"))
    main(["undo", str(tmp_path)])
    assert called == ["programs", "bytecode", "undo"]


@pytest.mark.parametrize(("is_whole", "status"), [(True, 0), (False, 1)])
def test_undo_is_given_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_whole: bool, status: int
) -> None:
    given: list[object] = []

    def undo(folder: Path, say: Any, inventory: Path | None, uri: str | None) -> bool:
        given.extend((folder, inventory, uri))
        say("one\x1b: back\nand more")
        return is_whole

    monkeypatch.setattr(undoing, "undo", undo)
    ended = _ended(capsys, "undo", tmp_path, "--inventory", "i.toml", "--uri", "test:///x")
    assert ended == (status, "one\\x1b: back\nand more\n", "")
    assert given == [tmp_path, Path("i.toml"), "test:///x"]
    _ended(capsys, "undo", tmp_path)
    assert given[3:] == [tmp_path, None, None]


def test_an_undo_with_nothing_left_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(undoing, "undo", lambda *_arguments: True)
    status, out, _ = _ended(capsys, "undo", tmp_path)
    assert (status, out) == (0, "nothing is left to take back: every change of this run was taken back\n")


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

    monkeypatch.setattr(undoing, "undo", fail)
    status, out, err = _ended(capsys, "undo", ROOT)
    assert (status, out) == (2, "")
    assert err.startswith("reclaim: ")
    assert words in err
    assert err.count("\n") == 1


def test_wrong_use_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["undo"], ["index", "--keep", "many"], ["new", "slug", "Title"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
    assert "usage: reclaim index" in capsys.readouterr().err


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

    monkeypatch.setattr(verifying, "verify", verify)
    uri = node(tmp_path, domain_xml(disk_xml()))
    assert _ended(capsys, "verify-backup", "/", "--uri", uri)[0] == status
    [(copy, hypervisor, image)] = given
    assert (copy, hypervisor.uri, hypervisor.readonly, image) == ("/", uri, True, None)


def test_without_a_libvirt_an_image_that_is_named_suffices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = []

    def fail(*_arguments: object, **_more: object) -> None:
        raise ReclaimError("cannot connect")

    def verify(*arguments: Any) -> bool:
        given.append(arguments[:3])
        return True

    monkeypatch.setattr(verifying, "verify", verify)
    monkeypatch.setattr(hypervisors, "connect", fail)
    assert _ended(capsys, "verify-backup", "/", "--image", "/images/a")[0] == 0
    assert given == [("/", None, "/images/a")]
    for more in ([], ["--image", "/images/a", "--uri", "qemu:///system"]):
        status, _, err = _ended(capsys, "verify-backup", "/", *more)
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
