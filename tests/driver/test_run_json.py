"""`--run-json FILE`: the end of a run for programs, also of one that was refused or stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.command import SAMPLES, audit, reclaim, runs
from tests.support import disk_xml, domain_xml, node

if TYPE_CHECKING:
    from pathlib import Path


def read(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_text(encoding="utf-8"))
    assert list(document) == ["schema", "status", "sentence", "id", "mode", "went_wrong", "errors", "hypervisors"]
    assert document["schema"] == 1
    assert isinstance(document, dict)
    return document


def test_a_run_names_its_files_and_its_outcome(tmp_path: Path) -> None:
    file = tmp_path / "end.json"
    done = audit(tmp_path / "reports", "--definitions-only", "--run-json", str(file))
    document = read(file)
    assert (
        (document["status"], document["mode"], document["went_wrong"])
        == (done.status, "audit", False)
        == (
            1,
            "audit",
            False,
        )
    )
    assert document["id"] == done.folder.name
    assert document["sentence"] in done.stdout
    assert document["errors"] == []
    (hypervisor,) = document["hypervisors"]
    assert list(hypervisor) == [
        "name",
        "host",
        "uri",
        "reached",
        "folder",
        "results",
        "report",
        "journal",
        "outcome",
    ]
    assert (hypervisor["name"], hypervisor["host"], hypervisor["reached"]) == ("test-driver", None, True)
    assert hypervisor["folder"] == hypervisor["outcome"]["folder"] == str(done.folder)
    assert hypervisor["results"] == str(done.folder / "results.json")
    assert hypervisor["report"] == str(done.folder / "report.html")
    assert hypervisor["journal"] is None
    assert hypervisor["outcome"] == done.document["outcome"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_fix_names_its_journal_and_its_changes(tmp_path: Path) -> None:
    fleet = node(tmp_path, domain_xml(disk_xml(), running=False))
    file = tmp_path / "end.json"
    done = audit(tmp_path / "reports", "--fix", "--run-json", str(file), uri=fleet)
    (hypervisor,) = read(file)["hypervisors"]
    assert hypervisor["journal"] == str(done.folder / "journal.jsonl")
    applied = [change for row in done.document["results"] for change in row["changes"] if change["applied"]]
    assert hypervisor["outcome"]["applied"] == len(applied) > 0


def test_several_hypervisors_are_listed_by_the_words_that_named_them(tmp_path: Path) -> None:
    file = tmp_path / "end.json"
    audit(tmp_path / "reports", "--definitions-only", "--hosts", "one,two", "--run-json", str(file))
    document = read(file)
    assert [each["host"] for each in document["hypervisors"]] == ["one", "two"]
    assert len({each["folder"] for each in document["hypervisors"]}) == 2
    assert len(runs(tmp_path / "reports")) == 2


REFUSED = [
    pytest.param(["--bogus"], "--bogus: there is no such option", id="an unknown option"),
    pytest.param(["--keep", "few"], "argument --keep: invalid int value: 'few'", id="a value of another type"),
    pytest.param(["--keep", "0"], "--keep 0: keep at least the run that is made now", id="a value that is refused"),
    pytest.param(["--guests", "none"], "--guests 'none': no guest of", id="no such guest"),
    pytest.param(["checks/nothing"], "checks/nothing: there is no such file", id="no such path"),
    pytest.param(["--co"], "--run-json writes the end of a run, and --co makes none", id="collecting alone"),
    pytest.param(["--uri", "test:///nothing.xml"], "test:///nothing.xml: cannot connect", id="no libvirt"),
]


@pytest.mark.parametrize(("words", "line"), REFUSED)
def test_a_refusal_is_written_too_and_replaces_the_file_before(tmp_path: Path, words: list[str], line: str) -> None:
    file = tmp_path / "end.json"
    file.write_text("of an earlier run", encoding="utf-8")
    done = reclaim("audit", *SAMPLES, "--reports", tmp_path / "reports", "--run-json", file, *words)
    document = read(file)
    assert (document["status"], document["went_wrong"]) == (done.returncode, True) == (4, True)
    assert document["errors"][0].startswith(line)
    assert document["errors"][0] in done.stderr
    assert document["sentence"] == document["errors"][0]
    assert (document["id"], document["hypervisors"]) == (None, [])
    assert runs(tmp_path / "reports") == []


def test_if_there_is_nothing_to_judge_nothing_went_wrong(tmp_path: Path) -> None:
    file = tmp_path / "end.json"
    done = audit(tmp_path / "reports", "--definitions-only", "-k", "nothing", "--run-json", str(file))
    document = read(file)
    assert (done.status, document["status"], document["went_wrong"], document["id"]) == (5, 5, False, None)
    (hypervisor,) = document["hypervisors"]
    assert (hypervisor["folder"], hypervisor["outcome"]) == (None, None)


def test_a_folder_that_is_not_there_is_refused_before_anything_is_judged(tmp_path: Path) -> None:
    done = audit(tmp_path / "reports", "--definitions-only", "--run-json", str(tmp_path / "none/end.json"))
    assert done.status == 4
    assert f"--run-json {tmp_path / 'none/end.json'}: there is no folder {tmp_path / 'none'}" in done.stderr
    assert not (tmp_path / "reports").exists()


def test_no_file_takes_the_place_of_a_device(tmp_path: Path) -> None:
    done = audit(tmp_path / "reports", "--definitions-only", "--run-json", "/dev/full")
    assert done.status == 4
    assert "/dev/full: no regular file" in done.stderr


def test_a_run_of_pytests_own_tests_writes_none(tmp_path: Path) -> None:
    file = tmp_path / "end.json"
    test = tmp_path / "test_one.py"
    test.write_text("def test_one(): pass", encoding="utf-8")
    done = audit(tmp_path / "reports", "--run-json", str(file), target=str(test), uri=None)
    assert done.status == 0, done.said
    assert not file.exists()


@pytest.mark.parametrize("hook", ["configure", "itemcollected", "logreport"])
def test_a_run_that_is_stopped_went_wrong(tmp_path: Path, hook: str) -> None:
    file = tmp_path / "end.json"
    words = ("-p", "tests.driver.stopper", "--run-json", str(file))
    done = audit(tmp_path / "reports", *words, env={"STOP_AT": f"{hook}:SIGTERM"})
    document = read(file)
    assert (done.status, document["status"], document["went_wrong"]) == (2, 2, True)
    outcomes = [each["outcome"] for each in document["hypervisors"] if each["outcome"]]
    assert [outcome["status"] for outcome in outcomes] == ([] if hook == "configure" else [2])


def test_a_path_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "end.json"
    done = audit(tmp_path / "r\udcff", "--definitions-only", "--run-json", str(file))
    assert "Traceback" not in done.said
    (hypervisor,) = read(file)["hypervisors"]
    assert hypervisor["folder"] == str(done.folder), "a program of Python opens it by this"
