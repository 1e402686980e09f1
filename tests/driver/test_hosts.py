"""Several hypervisors in one run: one that cannot be reached has a row, and the others are judged and mended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from reclaim.record.record import SCHEMA_FILE
from tests.command import FLEET, ROOT, Outcome, audit, document_of, own_settings, runs
from tests.stalls import machine, none_left, processes
from tests.support import disk_xml, domain_xml, node

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("silent", "banner", "closed")


@pytest.fixture
def places() -> Iterator[list[str]]:
    """The addresses of machines that cannot be reached, each in its own way."""
    with ExitStack() as stack:
        yield [stack.enter_context(machine(kind)) for kind in KINDS]


def of_hosts(reports: Path, hosts: str, *arguments: str, uri: str = FLEET) -> Outcome:
    """Run over *hosts*, of which `local` is libvirt's test driver at *uri*."""
    return audit(reports, "--hosts", hosts, *arguments, uri=None, env={"LIBVIRT_DEFAULT_URI": uri})


def documents(outcome: Outcome) -> dict[str, Any]:
    """The records of the run by the names of their hypervisors."""
    found = [document_of(run) for run in runs(outcome.reports)]
    for document in found:
        jsonschema.validate(document, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    return {document["hypervisor"]["name"]: document for document in found}


def expect_one_row(document: dict[str, Any], place: str) -> None:
    """The hypervisor at *place* could not be reached, and its one row names it."""
    (row,) = document["results"]
    assert (row["requirement"], row["verdict"]) == ("reach-hypervisor", "error")
    assert row["title"] == "The hypervisor can be reached"
    assert (row["guest"], row["disk"], row["backup"], row["changes"]) == (None, None, None, [])
    assert place in row["reason"]
    assert "\n" not in row["reason"]
    assert document["hypervisor"]["libvirt"] == ""


def test_who_is_not_reached_has_a_row_and_the_others_are_judged(tmp_path: Path, places: list[str]) -> None:
    alone = of_hosts(tmp_path / "alone", "local", "--definitions-only")
    hosts = ",".join(f"ssh://root@{place}" for place in places)
    both = of_hosts(tmp_path / "both", f"{hosts},local", "--definitions-only")
    assert both.status == alone.status == 1
    found = documents(both)
    judged = found.pop("test-driver")["results"]
    assert [row["verdict"] for row in judged] == [row["verdict"] for row in alone.document["results"]]
    for place in places:
        expect_one_row(found[place], place)
        assert f"{place} could not be reached: " in both.stdout
    assert both.lines.count("1 hypervisor could not be reached.") == len(places)
    assert "Traceback" not in both.said
    assert none_left(*(place.rpartition(":")[2] for place in places))


def test_a_fix_mends_the_others(tmp_path: Path, places: list[str]) -> None:
    fleet = node(tmp_path, domain_xml(disk_xml(), running=False))
    hosts = ",".join(f"ssh://root@{place}" for place in places)
    outcome = of_hosts(tmp_path / "reports", f"{hosts},local", "--fix", "--force", uri=fleet)
    assert outcome.status == 1
    found = documents(outcome)
    assert "fixed" in {row["verdict"] for row in found["test-driver"]["results"]}
    for place in places:
        expect_one_row(found[place], place)


def test_two_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "--hosts", "ssh://root@one:22,two", "--definitions-only")
    assert outcome.status == 1
    assert sorted(documents(outcome)) == ["test-driver-one:22", "test-driver-two"]
    alone = audit(tmp_path / "alone", "--definitions-only").document["results"]
    for document in documents(outcome).values():
        keys = ("requirement", "guest", "disk", "verdict", "reason", "evidence")
        assert [[row[key] for key in keys] for row in document["results"]] == [
            [row[key] for key in keys] for row in alone
        ]
    folders = sorted(path.name for path in outcome.reports.iterdir() if path.is_dir())
    assert folders == ["test-driver-one_22", "test-driver-two"]


def test_no_selection_hides_it(tmp_path: Path) -> None:
    with machine("closed") as place:
        hosts = f"local,ssh://root@{place}"
        outcome = of_hosts(tmp_path / "some", hosts, "--definitions-only", "-k", "machine-type", "--guests", "web")
        expect_one_row(documents(outcome)["127.0.0.1"], place)
        outcome = of_hosts(tmp_path / "lf", hosts, "--definitions-only", "--lf")
        expect_one_row(documents(outcome)["127.0.0.1"], place)


def test_all_of_several_have_their_rows(tmp_path: Path) -> None:
    with ExitStack() as stack:
        places = [stack.enter_context(machine("closed")) for _ in range(2)]
        junit = tmp_path / "junit.xml"
        hosts = ",".join(f"root@{place}" for place in places)
        outcome = of_hosts(tmp_path / "reports", hosts, f"--junitxml={junit}", "--json")
    assert outcome.status == 1
    assert [document["results"][0]["verdict"] for document in json.loads(outcome.stdout)] == ["error"] * 2
    assert junit.read_text(encoding="utf-8").count("reach-hypervisor") >= 2


def test_the_only_one_is_a_wrong_address(tmp_path: Path) -> None:
    with machine("closed") as place:
        outcome = of_hosts(tmp_path / "reports", f"ssh://root@{place}")
    assert outcome.status == 4
    assert place in outcome.said
    assert not outcome.reports.exists()


def test_wrong_use_is_no_row(tmp_path: Path) -> None:
    outcome = of_hosts(tmp_path / "reports", "local,docker://web")
    assert outcome.status == 4
    assert "--hosts docker://web" in outcome.said


def test_figures_are_those_of_the_last_run_that_reached_it(tmp_path: Path) -> None:
    figures = tmp_path / "figures.prom"
    with machine("closed") as place:
        of_hosts(tmp_path / "reports", f"local,root@{place}", "--definitions-only", f"--metrics={figures}")
    text = figures.read_text(encoding="utf-8")
    assert "reclaim_last_attempt_success 0.0" in text
    assert 'hypervisor="test-driver"' in text
    assert 'hypervisor="127.0.0.1"' not in text


def test_a_name_that_may_be_a_guest_of_the_other_is_not_called_absent(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text('[guest.elsewhere.waive]\ndisk-bus = "it moves soon"\n', encoding="utf-8")
    with machine("closed") as place:
        more = ("--definitions-only", f"--inventory={inventory}")
        alone = of_hosts(tmp_path / "alone", "local", *more)
        both = of_hosts(tmp_path / "both", f"local,root@{place}", *more)
    assert "names guests that are not here: elsewhere" in alone.stdout
    assert "names guests that are not here" not in both.stdout


def stopped(command: list[str], port: str, name: str) -> tuple[int, str]:
    """Run *command*, and send it the signal *name* once an ssh goes to *port*. Return its status and its words."""
    with subprocess.Popen(
        [sys.executable, "-m", "reclaim", *command],
        cwd=ROOT,
        env={**own_settings(), "LIBVIRT_DEFAULT_URI": FLEET},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        end = time.monotonic() + 60
        while not any(line.startswith("ssh ") for line in processes(port)) and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(getattr(signal, name))
        said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("kind", ["silent", "banner"])
@pytest.mark.parametrize("mode", ["audit", "fix"])
def test_who_is_stopped_while_it_connects_leaves_no_process(tmp_path: Path, kind: str, name: str, mode: str) -> None:
    with machine(kind) as place:
        port = place.rpartition(":")[2]
        command = [mode, "--reports", str(tmp_path), "--hosts", f"local,ssh://root@{place}"]
        status, said = stopped(command, port, name)
        assert status == 2, said
        assert "Traceback" not in said
        assert none_left(port)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_so_does_a_verb_that_is_no_run(tmp_path: Path, name: str) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("")
    inventory.chmod(0o600)
    with machine("silent") as place:
        port = place.rpartition(":")[2]
        status, said = stopped(["inventory", "check", str(inventory), "--hosts", f"ssh://root@{place}"], port, name)
        assert (status, said) == (2, "reclaim: stopped: the same command takes it up again\n")
        assert none_left(port)
