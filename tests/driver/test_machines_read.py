"""A run as programs read it: one document on standard output, a command that hears of changes, figures and JUnit."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from lxml import etree
from prometheus_client.parser import text_string_to_metric_families

from reclaim.record.record import SCHEMA_FILE
from tests.command import FLEET, Outcome, audit, ran
from tests.command import runs as runs_in
from tests.support import GOOD, ROOT, disk_xml, domain_xml, executable, node

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def parsed(outcome: Outcome) -> Any:
    """Return the document on standard output: there is nothing else."""
    return json.loads(outcome.stdout)


def piped(reports: Path, tail: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an audit in a shell, with *tail* behind it."""
    words = [sys.executable, "-m", "pytest", "checks/", "--uri", FLEET, "--reports", str(reports), *arguments]
    return ran("/bin/bash", "-o", "pipefail", "-c", f'"$@" {tail}', "bash", *words)


# --json ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-q"],
        ["-rA", "--tb=long"],
        ["--plan"],
        ["-p", "tests.driver.chatty"],
        ["-p", "tests.driver.chatty", "-s"],
        ["-p", "tests.driver.chatty", "--capture=sys", "-p", "no:html"],
    ],
    ids=" ".join,
)
def test_the_record_is_all_of_standard_output(tmp_path: Path, options: list[str]) -> None:
    outcome = audit(tmp_path / "reports", "--json", "--definitions-only", *options)
    assert outcome.status == 1
    jsonschema.validate(parsed(outcome), SCHEMA)
    assert parsed(outcome) == outcome.document
    if "chatty" in str(options):
        assert "a word of another program" in outcome.stderr


def test_a_run_that_mends_prints_what_it_did(tmp_path: Path) -> None:
    fleet = node(tmp_path, domain_xml(disk_xml(), running=False))
    outcome = audit(tmp_path / "reports", "--json", "--fix", "--force", uri=fleet)
    assert {row["verdict"] for row in parsed(outcome)["results"]} >= {"fixed"}


def test_several_hypervisors_are_a_list(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "--json", "--definitions-only", "--hosts", "one,two")
    for document in parsed(outcome):
        jsonschema.validate(document, SCHEMA)
    assert len(parsed(outcome)) == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--co"], "--json prints the record of a run, and --co makes none"),
        (["--bogus"], "--bogus: there is no such option"),
        (["--guests", "nothere"], "no guest of"),
        (["--fix", "--plan"], "give one of them"),
        (["--notify", ""], "--notify: give a command"),
        (["--notify", "'half"], "--notify 'half: No closing quotation"),
        (["--notify", "/nowhere/hook"], "--notify /nowhere/hook: there is no such program"),
    ],
    ids=str,
)
def test_wrong_usage_leaves_standard_output_empty(tmp_path: Path, options: list[str], why: str) -> None:
    outcome = audit(tmp_path / "reports", "--json", *options)
    assert (outcome.status, outcome.stdout) == (4, "")
    assert len([line for line in outcome.lines if why in line]) == 1
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stopped_run_prints_the_rows_until_then(tmp_path: Path, name: str) -> None:
    outcome = audit(tmp_path / "reports", "--json", "-p", "tests.driver.stopper", env={"STOP_AT": f"logreport:{name}"})
    assert outcome.status == 2
    assert parsed(outcome)["run"]["cut_short"]
    assert len(parsed(outcome)["results"]) == 5


def test_programs_read_it(tmp_path: Path) -> None:
    done = piped(tmp_path, "2>/dev/null | python3 -m json.tool --compact | wc -l", "--json", "--definitions-only")
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_a_reader_may_leave_early(tmp_path: Path) -> None:
    """The document of 200 guests is larger than a pipe."""
    fleet = node(tmp_path, *(domain_xml(*GOOD, name=f"guest-{number}") for number in range(200)))
    done = piped(tmp_path / "r", "| head -1", "--json", "--definitions-only", f"--uri={fleet}")
    assert done.stdout == "{\n"
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_full_standard_output_fails_the_run(tmp_path: Path) -> None:
    fleet = node(tmp_path, domain_xml(*GOOD))
    done = piped(tmp_path / "r", ">/dev/full", "--json", "--definitions-only", f"--uri={fleet}")
    assert done.returncode == 1
    assert "reclaim: --json: standard output cannot be written: No space left on device" in done.stderr


def test_a_closed_standard_output_is_refused(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "reclaim", "audit", "--json", "--uri", FLEET, "--reports", str(tmp_path)]
    done = ran("/bin/sh", "-c", '"$@" >&-', "sh", *words)
    assert done.returncode == 4
    assert done.stderr.strip() == "ERROR: --json: standard output is closed"


def test_a_record_that_finds_no_room_is_printed(tmp_path: Path) -> None:
    """A hundred KiB are the largest file of this process, and the record has more."""
    fleet = node(tmp_path, *(domain_xml(disk_xml(), name=f"guest-{number}") for number in range(120)))
    limited = ["-p", "tests.driver.small_files"]
    outcome = audit(tmp_path / "reports", "--json", "--definitions-only", *limited, uri=fleet)
    assert outcome.status == 1
    assert len(parsed(outcome)["results"]) == 480
    assert not list((tmp_path / "reports").glob("*/*/results.json"))
    assert "there is no record of this run" in outcome.stderr


# --notify -------------------------------------------------------------------------------------

HOOK = """#!/bin/sh
{ env | grep ^RECLAIM_ | sort; cat; } >>"LOG"
"""


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A command that writes down what it is given, in the file `heard` beside it."""
    path = tmp_path / "a hook"
    executable(path, HOOK.replace("LOG", str(tmp_path / "heard")))
    return path


def runs(tmp_path: Path, command: str, guests: Sequence[Sequence[str]], *options: str) -> list[Outcome]:
    """Audit one hypervisor as often as it has *guests*."""
    outcomes = []
    for domains in guests:
        fleet = node(tmp_path, *domains)
        outcomes.append(audit(tmp_path / "reports", "--definitions-only", "--notify", command, *options, uri=fleet))
    return outcomes


def test_a_change_is_told_once(tmp_path: Path, hook: Path) -> None:
    good, bad = [domain_xml(*GOOD, name="web")], [domain_xml(disk_xml("sda", "ide"), name="web")]
    heard = tmp_path / "heard"
    runs(tmp_path, f"'{hook}'", [good, good])
    assert not heard.exists(), "the first run has nothing to compare with, and the second found nothing new"
    [outcome] = runs(tmp_path, f"'{hook}'", [bad])
    lines = heard.read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line.startswith("RECLAIM_"))
    fields = {name: value for name, value in given.items() if name not in os.environ}
    newest = runs_in(outcome.reports)[-1]
    assert fields.pop("RECLAIM_BROKEN") == "3"
    assert fields == {
        "RECLAIM_HOST": "test-driver",
        "RECLAIM_MENDED": "0",
        "RECLAIM_MODE": "audit",
        "RECLAIM_REPORT": str(newest / "report.html"),
        "RECLAIM_RESULTS": str(newest / "results.json"),
        "RECLAIM_RUN": newest.name.removesuffix("-2").removesuffix("-3"),
        "RECLAIM_URI": f"test://{tmp_path}/node.xml",
    }
    assert "  web sda disk-bus: compliant → noncompliant" in lines
    heard.unlink()
    runs(tmp_path, f"'{hook}'", [bad])
    assert not heard.exists()
    runs(tmp_path, f"'{hook}'", [good])
    assert "RECLAIM_MENDED=3\n" in heard.read_text(encoding="utf-8")


def test_the_name_of_a_guest_is_no_command(tmp_path: Path, hook: Path) -> None:
    name = "$(touch pwned)`touch pwned`;touch pwned\n'"
    good, bad = domain_xml(*GOOD, name=name), domain_xml(disk_xml("sda", "ide"), name=name)
    runs(tmp_path, f"'{hook}'", [[good], [bad]])
    assert "  $(touch pwned)`touch pwned`;touch pwned" in (tmp_path / "heard").read_text("utf-8")
    assert not [path for folder in (ROOT, tmp_path) for path in folder.glob("**/pwned")]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sh -c 'echo no such host >&2; exit 3'", "--notify sh: status 3: no such host"),
        ("false", "--notify false: status 1: no output"),
        ("sh -c 'kill -9 $$'", "--notify sh: status -9: no output"),
        ("sh -c 'yes | head -c 2000000'", "--notify sh: it printed more than 1048576 bytes, and was ended"),
    ],
)
def test_a_command_that_fails_changes_no_status(tmp_path: Path, command: str, why: str) -> None:
    good, bad = [domain_xml(*GOOD)], [domain_xml(disk_xml("sda", "ide"))]
    before, now = runs(tmp_path, command, [bad, good])
    assert before.status == 1
    assert now.status == 0
    assert f"reclaim: {why}" in now.said


def test_its_output_stays_off_standard_output_and_its_words_off_the_record(tmp_path: Path) -> None:
    good, bad = [domain_xml(*GOOD)], [domain_xml(disk_xml("sda", "ide"))]
    _, now = runs(tmp_path, "echo https://ntfy.example/my-topic", [good, bad], "--json")
    assert parsed(now)["run"]["arguments"][-1] == "--json" or "--notify" in parsed(now)["run"]["arguments"]
    assert "my-topic" not in now.said
    assert not [path for path in now.reports.rglob("*.*") if path.is_file() and b"my-topic" in path.read_bytes()]


# --metrics ------------------------------------------------------------------------------------


def figures(path: Path) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(path.read_text(encoding="utf-8"))
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


@pytest.mark.parametrize(
    "narrow",
    [
        ["--guests", "web"],
        ["-k", "disk_bus or disc-max or disk-discard or fstrim_timer"],
        ["--deselect", "checks/check_disk_bus.py::check_disk_bus[web/sda]"],
        ["--ignore", "checks/check_image_format.py"],
        ["--ignore-glob", "*machine*"],
        ["checks/check_disk_bus.py", "checks/check_disc_max.py"],
        ["-x"],
        ["--maxfail=3"],
        ["--lf"],
        ["--definitions-only"],
    ],
    ids=" ".join,
)
def test_a_choice_leaves_the_figures_of_the_whole_fleet(tmp_path: Path, narrow: list[str]) -> None:
    file = tmp_path / "reclaim.prom"
    target = "checks/" if "checks/" not in narrow[0] else narrow[0]
    audit(tmp_path / "reports", "--metrics", str(file))
    whole = figures(file)
    assert whole["reclaim_last_run_whole", "test-driver"] == 1
    audit(tmp_path / "reports", "--metrics", str(file), *(narrow[1:] if target in narrow else narrow), target=target)
    now = figures(file)
    assert now["reclaim_last_run_whole", "test-driver"] == 0
    for name in ("guests", "results", "findings", "last_whole_run_timestamp_seconds"):
        before = {key: value for key, value in whole.items() if key[0] == f"reclaim_{name}"}
        assert before == {key: value for key, value in now.items() if key[0] == f"reclaim_{name}"}
    assert now["reclaim_last_attempt_success",] == (0 if narrow[0] in ("-x", "--maxfail=3") else 1)


def test_a_choice_alone_shows_no_fleet(tmp_path: Path) -> None:
    file = tmp_path / "reclaim.prom"
    audit(tmp_path / "reports", "--metrics", str(file), "--guests", "web")
    assert not [key for key in figures(file) if key[0] in ("reclaim_guests", "reclaim_findings")]


@pytest.mark.parametrize(
    ("options", "uri"),
    [([], "qemu:///nope"), (["--inventory", "/nowhere/inventory.toml"], FLEET), (["--fix", "--plan"], FLEET)],
    ids=["no-libvirt", "no-inventory", "no-sense"],
)
def test_an_attempt_that_fails_is_seen(tmp_path: Path, options: list[str], uri: str) -> None:
    file = tmp_path / "reclaim.prom"
    audit(tmp_path / "reports", "--metrics", str(file))
    before = figures(file)
    outcome = audit(tmp_path / "reports", "--metrics", str(file), *options, uri=uri)
    assert outcome.status == 4
    now = figures(file)
    assert now.pop(("reclaim_last_attempt_success",)) == 0
    attempt = ("reclaim_last_attempt_timestamp_seconds",)
    assert now.pop(attempt) > before.pop(attempt)
    assert before.pop(("reclaim_last_attempt_success",)) == 1
    assert now == before
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_run_of_another_mode_keeps_the_last_of_each(tmp_path: Path) -> None:
    file = tmp_path / "reclaim.prom"
    audit(tmp_path / "reports", "--metrics", str(file), "--definitions-only")
    before = figures(file)["reclaim_last_run_timestamp_seconds", "test-driver", "audit"]
    audit(tmp_path / "reports", "--metrics", str(file), "--definitions-only", "--plan")
    now = figures(file)
    assert now["reclaim_last_run_timestamp_seconds", "test-driver", "audit"] == before
    assert now["reclaim_last_run_timestamp_seconds", "test-driver", "plan"] >= before


def test_co_is_no_attempt(tmp_path: Path) -> None:
    audit(tmp_path / "reports", "--metrics", str(tmp_path / "reclaim.prom"), "--co")
    assert list(tmp_path.iterdir()) == []


# --junitxml -----------------------------------------------------------------------------------


def test_junit_names_guest_and_requirement(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    outcome = audit(tmp_path / "reports", f"--junitxml={path}", "--definitions-only")
    [suite] = etree.parse(path).iter("testsuite")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert suite.get("name") == "reclaim"
    assert len(cases) == len(outcome.document["results"]) == int(suite.get("tests", 0))
    assert int(suite.get("failures", 0)) == 18
    assert int(suite.get("skipped", 0)) == 7
    bus = cases["wiki/disk-bus/vda"]
    assert bus.get("classname") == "test-driver.wiki"
    assert float(bus.get("time", -1)) >= 0
    failure = bus.find("failure")
    assert failure is not None
    assert str(failure.get("message")).startswith("noncompliant: it is on the bus virtio")
    skipped = cases["vpn-appliance/machine-type"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not-assessable: the machine type acme-appliance-r3 cannot be ordered"
    shown = {one.get("name"): one.get("value") for one in bus.iter("property")}
    assert shown["verdict"] == "noncompliant"
    assert shown["requirement"] == "disk-bus"


def test_a_dot_in_a_name_makes_no_package_for_jenkins(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    fleet = node(tmp_path, domain_xml(*GOOD, name="www.example.org"))
    audit(tmp_path / "reports", f"--junitxml={path}", "--definitions-only", uri=fleet)
    assert {case.get("classname") for case in etree.parse(path).iter("testcase")} == {"test-driver.www_example_org"}
    assert "www.example.org/machine-type" in {case.get("name") for case in etree.parse(path).iter("testcase")}


def test_a_junit_file_that_cannot_be_written_costs_only_itself(tmp_path: Path) -> None:
    fleet = node(tmp_path, domain_xml(*GOOD))
    outcome = audit(tmp_path / "reports", "--junitxml=/dev/full", "--definitions-only", uri=fleet)
    assert outcome.status == 1
    assert "reclaim: --junitxml /dev/full: No space left on device" in outcome.lines
    assert "could not write its page" not in outcome.said
    assert (outcome.folder / "report.html").is_file()
