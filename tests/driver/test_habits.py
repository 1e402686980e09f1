"""pytest's habits on reclaim's checks, by pytest and by the command: they work, or are refused in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import pytest

from reclaim import __version__
from tests.command import FLEET, PLAIN, Outcome, audit, document_of, ran, reclaim, runs
from tests.support import ROOT, disk_xml, domain_xml, node

SAMPLES = ("--definitions-only",)


def _command(reports: Path, verb: str, *arguments: str, stand: Path = ROOT, **env: str) -> Outcome:
    """Run the command as a user of this checkout does."""
    plain = {**PLAIN, "COLUMNS": "160", "PYTHONPATH": str(ROOT), **env}
    done = reclaim(verb, "--uri", FLEET, *SAMPLES, "--reports", reports, *arguments, stand=stand, env=plain)
    return Outcome(done.returncode, done.stdout, done.stderr, reports)


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    newest = runs(outcome.reports)[-1]
    return [(row["requirement"], row["guest"]) for row in document_of(newest)["results"]]


def _mistake(outcome: Outcome) -> str:
    """The one line of a wrong usage; nothing else is printed, and no run is kept."""
    assert outcome.status == 4, outcome.said
    assert outcome.stdout == ""
    (line,) = outcome.lines
    assert not list(outcome.reports.glob("*/*/results.json"))
    return line.removeprefix("ERROR: ")


# Refused ----------------------------------------------------------------------------------------

REFUSED = [
    (["--sw"], "--sw: reclaim finishes one guest before the next; stop with -x, go on with --lf"),
    (["--stepwise-skip"], "--sw-skip: "),
    (["--sw-reset"], "--sw-reset: "),
    (["--nf"], "--nf: "),
    (["--cache-show"], "--cache-show: reclaim keeps no cache: --lf reads the newest records"),
    (["--cache-clear"], "--cache-clear: reclaim keeps no cache"),
    (["--pyargs"], "--pyargs: "),
    (["--doctest-modules"], "--doctest-modules: "),
    (["--setup-only"], "--setup-only: "),
    (["--setup-plan"], "--setup-plan: "),
    (["-n", "2"], "-n: reclaim looks into all guests at once"),
    (["-n2"], "-n"),
    (["--dist", "load"], "--dist: reclaim looks into all guests at once"),
    (["--boxed"], "--boxed: reclaim looks into all guests at once"),
    (["--forked"], "--forked: reclaim looks into all guests at once"),
    (["--reruns", "3"], "--reruns: "),
    (["--import-mode", "importlib"], "--import-mode importlib: "),
    (["-p", "no:terminal"], "-p no:terminal: reclaim needs this part of pytest"),
    (["-p", "no:python"], "-p no:python: "),
    (["-p", "no:debugging"], "-p no:debugging: "),
    (["-p", "no:metadata"], "-p no:metadata: "),
    (["--guest", "web"], "--guest: there is no such option; did you mean --guests?"),
    (["--restrat"], "--restrat: there is no such option; did you mean --restart?"),
    (["--plann"], "--plann: there is no such option; did you mean --plan?"),
    (["--junitxm", "x"], "--junitxm: there is no such option; did you mean --junitxml or --junit-xml?"),
    (["--xyzzy=1"], "--xyzzy: there is no such option"),
    (["checks/check_disk.py"], "checks/check_disk.py: there is no such file or folder of checks; did you mean checks/"),
    (
        ["checks/check_disk_bus.py::nope"],
        "checks/check_disk_bus.py::nope: there is no check nope in this file; it has ",
    ),
    (["check/"], "check/: there is no such file or folder of checks; did you mean checks/?"),
    (["./check"], "./check: there is no such file or folder of checks; did you mean checks/?"),
    (["--guests", "web,!web"], "--guests 'web,!web': no guest of "),
    (["--guests", "!nope"], "--guests '!nope': no guest of "),
    (["--guests", "!"], "--guests '!': no guest of "),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "arguments", "words"),
    [(way, *row) for row, way in zip(REFUSED, cycle(("pytest", "reclaim")))],
)
def test_an_option_that_cannot_work_is_refused(tmp_path: Path, way: str, arguments: list[str], words: str) -> None:
    """The folder of the reports is there: if pytest did not know our options, it would look for its settings there."""
    tmp_path.joinpath("reports").mkdir()
    if way == "reclaim":
        outcome = _command(tmp_path / "reports", "audit", *arguments)
    else:
        path = [word for word in arguments if word.startswith("check")]
        target = path[0] if path else "checks/"
        others = [word for word in arguments if word not in path]
        outcome = audit(tmp_path / "reports", *SAMPLES, *others, target=target)
    assert _mistake(outcome).startswith(words)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["pytest", "reclaim"])
def test_a_row_that_does_not_exist_is_named(tmp_path: Path, way: str) -> None:
    """pytest knows it after collection, when the folder of the run is there already."""
    row = "checks/check_disk_bus.py::check_disk_bus[web/vdz]"
    outcome = _command(tmp_path, "audit", row) if way == "reclaim" else audit(tmp_path, *SAMPLES, target=row)
    assert outcome.status == 4
    assert "Traceback" not in outcome.said
    (line,) = (line for line in outcome.lines if line.startswith("ERROR: "))
    assert line.startswith("ERROR: not found: ")
    assert not list(tmp_path.glob("*/2*"))


@pytest.mark.slow
def test_a_wrong_path_is_named_if_another_folder_holds_pytests_settings(tmp_path: Path) -> None:
    """The script of pytest does not have the checkout on its path; the first path that is there decides on the rest."""
    script = Path(sys.executable).with_name("pytest")
    outcome = ran(script, "check/", "--uri", FLEET, "--reports", tmp_path)
    assert outcome.returncode == 4
    assert outcome.stderr.startswith("ERROR: check/: there is no such file or folder of checks; did you mean checks/?")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("audit", ["--fix"], "--fix: reclaim audit changes nothing; give reclaim fix"),
        ("plan", ["--fix"], "--fix: reclaim plan only shows changes; give reclaim fix"),
        ("audit", ["--plan"], "--plan: give reclaim plan"),
        ("fix", ["--plan"], "--plan changes nothing and --fix does: give one of them"),
        ("audit", ["--keep", "x"], "argument --keep: invalid int value: 'x'"),
        ("audit", ["--rootdir", "/"], "--rootdir: reclaim audit judges its own checks, in "),
        ("audit", ["-c", "/dev/null"], "-c: reclaim audit has a configuration of its own"),
        ("audit", ["tests/unit"], "tests/unit: there is no such file or folder of checks; -k chooses"),
        ("audit", ["/etc"], "/etc: there is no such file or folder of checks"),
    ],
)
def test_the_command_judges_its_own_checks_alone(tmp_path: Path, verb: str, arguments: list[str], words: str) -> None:
    assert _mistake(_command(tmp_path / "reports", verb, *arguments)).startswith(words)


@pytest.mark.slow
def test_other_settings_of_pytest_are_named_and_not_obeyed(tmp_path: Path) -> None:
    (tmp_path / "own.ini").write_text("[pytest]\n")
    outcome = audit(tmp_path / "reports", *SAMPLES, "-c", str(tmp_path / "own.ini"))
    assert _mistake(outcome).startswith(f"the configuration {tmp_path}/own.ini collects no checks: ")


def test_plugins_for_other_tests_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("raise SystemError\n")
    path = f"{tmp_path}:{ROOT}"
    outcome = _command(tmp_path / "reports", "audit", PYTHONPATH=path, PYTEST_PLUGINS="loud")
    assert (outcome.status, outcome.stderr) == (1, "")


# They work ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", ["pytest", "reclaim"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["-x", "-vv", "-rA", "--tb", "short", "--durations", "3", "--color", "yes", "-s", "--setup-show"],
        ["-q", "-p", "no:html", "-p", "no:warnings", "--import-mode", "append", "--assert", "plain", "--ff"],
        ["--maxfail", "2"],
        ["--no-header", "--no-summary", "-v", "--deselect", "checks/check_disk_bus.py"],
        ["--pdb", "-qq"],
        ["--trace-config"],
    ],
    ids=" ".join,
)
def test_an_option_of_pytest_works(tmp_path: Path, way: str, arguments: list[str]) -> None:
    if way == "reclaim":
        outcome = _command(tmp_path, "audit", "--guests", "wiki,web", *arguments)
    else:
        outcome = audit(tmp_path, *SAMPLES, "--guests", "wiki,web", *arguments)
    assert (outcome.status, outcome.stderr) == (1, ""), outcome.said
    assert "Traceback" not in outcome.stdout
    assert "INTERNALERROR" not in outcome.stdout
    assert outcome.document["results"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fixtures"], "tmp_path"),
        (["--fixtures-per-test"], "no tests ran"),
        (["--markers"], "@pytest.mark.skipif"),
        (["--version"], "pytest "),
        (["--version", "--version"], "pytest-html"),
        (["--co", "-q"], "checks/check_disk_bus.py::check_disk_bus[wiki/vda]"),
        (["--collect-only"], "<Function check_disk_bus[wiki/vda]>"),
        (["--help"], "reclaim: the guests:"),
    ],
    ids=" ".join,
)
def test_a_mode_in_which_nothing_is_judged_leaves_no_run(tmp_path: Path, arguments: list[str], words: str) -> None:
    outcome = audit(tmp_path, *SAMPLES, *arguments)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert words in outcome.stdout
    assert not list(tmp_path.iterdir())


def test_the_command_has_a_version_of_its_own(tmp_path: Path) -> None:
    for words in (["--version"], ["-q", "-V"]):
        assert _command(tmp_path, "audit", *words).stdout.startswith(f"reclaim {__version__} (Python ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("disk-bus", {("disk-bus", "web"), ("disk-bus", "wiki")}),
        ("disk_bus", {("disk-bus", "web"), ("disk-bus", "wiki")}),
        ("disk-bus and not web", {("disk-bus", "wiki")}),
        ("machine-type or disk_bus and web", {("machine-type", "web"), ("machine-type", "wiki"), ("disk-bus", "web")}),
    ],
)
def test_k_knows_the_names_that_are_shown(tmp_path: Path, expression: str, chosen: set[tuple[str, str]]) -> None:
    outcome = audit(tmp_path, *SAMPLES, "--guests", "wiki,web", "-k", expression)
    assert set(_rows(outcome)) == chosen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("disc-bus", "-k 'disc-bus' selects no row; did you mean disk-bus?"),
        ("disk_buss", "-k 'disk_buss' selects no row; did you mean disk-bus"),
        ("wikki and disk-bus", "-k 'wikki and disk-bus' selects no row; did you mean wiki?"),
        ("zzz", "-k 'zzz' selects no row (requirements: guest-access, "),
    ],
)
def test_an_expression_that_selects_nothing_is_named(tmp_path: Path, expression: str, words: str) -> None:
    for quiet in ([], ["-q"]):
        outcome = audit(tmp_path / "reports", *SAMPLES, "-k", expression, *quiet)
        assert outcome.status == 5
        (line,) = (line for line in outcome.lines if line.startswith("-k "))
        assert line.startswith(words)
        assert not list(tmp_path.glob("reports/*/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (["--guests", "web", "--guests", "wiki"], {"web", "wiki"}),
        (["--guests", "web, wiki"], {"web", "wiki"}),
        (["--guests", " w* , !wiki"], {"web"}),
        (["--guests", "!w*", "--guests", "!a*,!b*,!v*,!e*"], {"files", "mail"}),
    ],
)
def test_guests_are_chosen_and_excluded(tmp_path: Path, given: list[str], chosen: set[str]) -> None:
    outcome = audit(tmp_path, *SAMPLES, "-k", "disk-discard", *given)
    assert {guest for _, guest in _rows(outcome)} == chosen


# What failed last -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_lf_judges_the_rows_that_failed_when_they_were_judged_last(tmp_path: Path) -> None:
    """A narrow run in between hides no failure; a row that holds by then stays out; another hypervisor has its own."""
    uri = node(tmp_path, domain_xml(disk_xml(), name="a"), domain_xml(disk_xml(), name="b"))
    reports = tmp_path / "reports"
    first = audit(reports, *SAMPLES, "--lf", uri=uri)
    assert "--lf: no earlier run in the reports has judged these rows" in first.stdout
    failed = {
        (row["requirement"], row["guest"]) for row in first.document["results"] if row["verdict"] == "noncompliant"
    }
    assert 0 < len(failed) < len(_rows(first))
    (tmp_path / "other").mkdir()
    other = node(tmp_path / "other", domain_xml(disk_xml(), name="a"))
    assert "no earlier run" in audit(reports, *SAMPLES, "--lf", uri=other).stdout
    assert audit(reports, *SAMPLES, "-k", "disk-bus and a", uri=uri).status == 1
    for way in ("--lf", "--last-failed"):
        again = audit(reports, *SAMPLES, way, uri=uri)
        assert set(_rows(again)) == failed
        assert f"reclaim: --lf: {len(failed)} rows failed when judged last" in again.stdout
    slug, guest = min(failed)
    newest = max(path for path in reports.glob("*/2*/results.json") if uri in path.read_text(encoding="utf-8"))
    document = json.loads(newest.read_text(encoding="utf-8"))
    for row in document["results"]:
        if (row["requirement"], row["guest"]) == (slug, guest):
            row["verdict"] = "compliant"
    newest.write_text(json.dumps(document), encoding="utf-8")
    assert set(_rows(audit(reports, *SAMPLES, "--lf", uri=uri))) == failed - {(slug, guest)}


@pytest.mark.slow
def test_ff_begins_with_the_guests_that_failed_and_keeps_the_order_of_mending(tmp_path: Path) -> None:
    assert audit(tmp_path, *SAMPLES, "--guests", "wiki,web,archive").status == 1
    first = audit(tmp_path, *SAMPLES, "--guests", "wiki,web,archive", "--ff")
    guests = list(dict.fromkeys(guest for _, guest in _rows(first)))
    assert guests == ["wiki", "archive", "web"]
    slugs = [slug for slug, guest in _rows(first) if guest == "wiki"]
    assert slugs == sorted(slugs, key=["disk-discard", "machine-type", "scsi-controller", "disk-bus"].index)


@pytest.mark.slow
def test_without_a_failure_lf_judges_all_or_nothing(tmp_path: Path) -> None:
    given = (*SAMPLES, "--guests", "web")
    assert audit(tmp_path, *given).status == 0
    assert "4 compliant" in audit(tmp_path, *given, "--lf").stdout
    assert audit(tmp_path, *given, "--lf", "--lfnf", "none").status == 5


# The folder ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_paths_are_found_from_the_user_s_folder_and_from_ours(tmp_path: Path) -> None:
    for path in ("checks/check_disk_bus.py", f"{ROOT}/checks/check_disk_bus.py::check_disk_bus"):
        outcome = _command(tmp_path / "reports", "audit", path, stand=tmp_path)
        assert {slug for slug, _ in _rows(outcome)} == {"disk-bus"}


# The streams, the folder and the environment -------------------------------------------------------


def _in_a_shell(script: str, reports: Path, **more: str) -> subprocess.CompletedProcess[str]:
    run = f"{sys.executable} -m reclaim audit --uri {FLEET} --definitions-only --reports {reports}"
    command = script.replace("AUDIT", run).replace("RECLAIM", f"{sys.executable} -m reclaim")
    return ran("sh", "-c", command, env={**PLAIN, "PYTHONPATH": str(ROOT), **more})


@pytest.mark.slow
def test_closed_streams_are_no_fault(tmp_path: Path) -> None:
    """A file that is opened later must not become standard output: a record would be written over."""
    done = _in_a_shell("AUDIT >&- 2>&- <&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    (record,) = tmp_path.glob("*/2*/results.json")
    assert len(json.loads(record.read_text(encoding="utf-8"))["results"]) == 40


@pytest.mark.slow
def test_a_document_for_a_closed_output_is_refused(tmp_path: Path) -> None:
    done = _in_a_shell("AUDIT --json >&-", tmp_path)
    assert done.returncode == 4
    assert done.stderr.startswith("ERROR: ")
    assert "standard output is closed" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "before"),
    [
        ("AUDIT", 1, "ERROR"),
        ("RECLAIM rules", 2, "reclaim"),
        ("RECLAIM help audit", 2, "reclaim"),
    ],
)
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path, words: str, status: int, before: str) -> None:
    done = _in_a_shell(f"{words} >/dev/full", tmp_path)
    assert done.stderr == f"{before}: the output cannot be written: No space left on device\n"
    assert done.returncode == status


@pytest.mark.slow
def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = _in_a_shell(f"cd {gone} && rmdir {gone} && AUDIT", tmp_path / "reports")
    assert (done.returncode, done.stderr) == (4, "ERROR: the current folder is gone: change to another\n")


@pytest.mark.slow
@pytest.mark.parametrize("rewriting", ["", " --assert=plain"])
def test_without_asserts_nothing_is_judged(tmp_path: Path, rewriting: str) -> None:
    """Without pytest's rewriting, Python's optimisation makes every check accept everything."""
    done = _in_a_shell(f"AUDIT{rewriting}", tmp_path, PYTHONOPTIMIZE="1")
    assert done.returncode == 4
    assert done.stderr.startswith("ERROR: python -O or PYTHONOPTIMIZE: Python leaves out the asserts of the checks")


@pytest.mark.slow
def test_the_command_loads_no_plugin_of_the_environment(tmp_path: Path) -> None:
    done = _in_a_shell("AUDIT -q", tmp_path, PYTEST_PLUGINS="nonsense")
    assert (done.returncode, done.stderr) == (1, "")
