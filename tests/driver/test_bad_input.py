"""What a run says when it is asked for something that cannot be: one line, pytest's status, nothing written."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from lxml import html as lxml_html

from tests.command import Outcome, audit
from tests.hostile import ESCAPES, TAG, domain

USAGE_ERROR = 4
NOTHING_COLLECTED = 5


def refused(outcome: Outcome, *words: str) -> None:
    """One clear line with all of *words*, no traceback, the status of a usage error, no file."""
    assert outcome.status == USAGE_ERROR, outcome.said
    (line,) = outcome.lines
    for word in words:
        assert word in line
    assert line.startswith("ERROR: ")
    assert not outcome.reports.is_dir()


def inventory(folder: Path, text: str) -> str:
    path = folder / "inventory.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        pytest.param("qemu:///nowhere", "qemu:///nowhere: cannot connect", id="no such driver path"),
        pytest.param("qemu+unix:///system?socket=/nonexistent/sock", "/nonexistent/sock", id="no socket"),
        pytest.param("nonsense", "nonsense: cannot connect", id="no URI"),
    ],
)
def test_a_hypervisor_that_cannot_be_reached(tmp_path: Path, uri: str, word: str) -> None:
    refused(audit(tmp_path / "reports", uri=uri), word)


def test_a_node_file_that_is_no_xml(tmp_path: Path) -> None:
    node = tmp_path / "node.xml"
    node.write_text("not a node", encoding="ascii")
    refused(audit(tmp_path / "reports", uri=f"test://{node}"), str(node), "cannot connect")


def test_a_host_that_libvirt_cannot_follow_to(tmp_path: Path) -> None:
    refused(audit(tmp_path / "reports", "--hosts", "docker://web", uri=None), "--hosts docker://web", "--uri")


def test_a_glob_that_no_guest_matches(tmp_path: Path) -> None:
    refused(audit(tmp_path / "reports", "--guests", "web,db*"), "--guests 'db*'", "no guest", "wiki")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("this is not TOML", ("not TOML", "line 1:"), id="not TOML"),
        pytest.param('[policy]\nbuss = "scsi"\n', ("policy.buss",), id="unknown key"),
        pytest.param('[policy]\nbus = "ide"\n', ("policy.bus", "any-discarding"), id="unknown value"),
        pytest.param("[policy]\nboot_seconds = 0\n", ("policy.boot_seconds",), id="out of range"),
        pytest.param("[guest.mail]\nthick = 1.5\n", ("guest.mail.thick",), id="wrong type"),
        pytest.param('[guest.mail.waive]\ndisk-buss = "old"\n', ("mail.waive", "disk-buss"), id="unknown requirement"),
    ],
)
def test_an_inventory_that_says_something_impossible(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = inventory(tmp_path, text)
    refused(audit(tmp_path / "reports", "--inventory", path), path, *words)


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    path = str(tmp_path / "missing.toml")
    refused(audit(tmp_path / "reports", "--inventory", path), path, "No such file")


def test_an_inventory_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    path.write_bytes(b"\xff\xfe")
    refused(audit(tmp_path / "reports", "--inventory", str(path)), str(path), "not UTF-8")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(("--restart",), ("--restart", "--fix"), id="restart without fix"),
        pytest.param(("--plan", "--restart"), ("--restart", "--fix"), id="restart with plan"),
        pytest.param(("--fix", "--parallel", "2"), ("--parallel", "--restart"), id="parallel without restart"),
        pytest.param(
            ("--fix", "--restart", "--parallel", "0"), ("--parallel 0", "1 or more"), id="parallel to nothing"
        ),
        pytest.param(
            ("--fix", "--restart", "--boot-stopped", "--parallel", "2"),
            ("--parallel", "--boot-stopped"),
            id="parallel with starts one at a time",
        ),
        pytest.param(("--force",), ("--force", "--fix"), id="force without fix"),
        pytest.param(("--fix", "--plan"), ("--fix", "--plan"), id="fix with plan"),
        pytest.param(("--prove", "--definitions-only"), ("--prove", "--definitions-only"), id="prove without a look"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(audit(tmp_path / "reports", *flags), *words)


@pytest.mark.parametrize("flag", ["--uri", "--inventory", "--backups", "--reports", "--metrics", "--hosts"])
def test_an_empty_value_stands_for_no_default(tmp_path: Path, flag: str) -> None:
    """A variable of a shell that is not set must not lead a run to another hypervisor or folder."""
    outcome = audit(tmp_path / "reports", f"{flag}=")
    assert outcome.status == USAGE_ERROR, outcome.said
    assert f"{flag}: {'no host is given' if flag == '--hosts' else 'the value is empty'}" in outcome.said
    assert not outcome.reports.is_dir()


def test_hosts_without_a_name(tmp_path: Path) -> None:
    refused(audit(tmp_path / "reports", "--hosts", " ,", uri=None), "--hosts: no host is given")


def test_a_host_that_is_named_twice_is_judged_once(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "--definitions-only", "--hosts", "local://, local://")
    assert outcome.status == 1, outcome.said
    assert outcome.document["hypervisor"]["name"] == "test-driver"


@pytest.mark.parametrize("name", [".", "/dev/null"])
def test_a_place_that_takes_no_file_of_metrics(tmp_path: Path, name: str) -> None:
    refused(audit(tmp_path / "reports", "--metrics", name), f"--metrics {name}: no regular file")


def test_a_reports_folder_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "reports"
    path.write_text("mine", encoding="ascii")
    refused(audit(path), "--reports", str(path))
    assert path.read_text(encoding="ascii") == "mine"


def test_a_flag_does_not_swallow_the_path_after_it(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "--guests", "wiki", "--plan", target="checks/check_disk_bus.py")
    assert outcome.status == 1
    assert {row["requirement"] for row in outcome.document["results"]} == {"disk-bus"}
    assert outcome.document["run"]["mode"] == "plan"


# Nothing to judge -----------------------------------------------------------------------------


def test_a_hypervisor_without_guests(tmp_path: Path) -> None:
    node = tmp_path / "node.xml"
    node.write_text("<node/>", encoding="ascii")
    outcome = audit(tmp_path / "reports", uri=f"test://{node}")
    assert outcome.status == NOTHING_COLLECTED
    assert len([line for line in outcome.lines if "has no guests" in line]) == 1
    assert "INTERNALERROR" not in outcome.said


def test_a_guest_without_disks_is_judged_on_the_rest(tmp_path: Path) -> None:
    node = tmp_path / "node.xml"
    node.write_text(f"<node>{domain('pxe')}</node>", encoding="ascii")
    outcome = audit(tmp_path / "reports", uri=f"test://{node}")
    assert outcome.status == 6, "nothing is wrong, and nobody could look into it"
    rows = outcome.document["results"]
    assert {row["guest"] for row in rows} == {"pxe"}
    assert {row["disk"] for row in rows} == {None}


# What pytest's users expect -------------------------------------------------------------------


def test_collect_only_writes_nothing(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "--co", "-q")
    assert outcome.status == 0
    assert "checks/check_disk_bus.py::check_disk_bus[wiki/vda]" in outcome.lines
    assert not outcome.reports.exists()


def test_k_chooses(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "-k", "check_disk_bus and mail")
    assert outcome.status == 0
    rows = {(row["requirement"], row["guest"], row["disk"]) for row in outcome.document["results"]}
    assert rows == {("disk-bus", "mail", "sda"), ("disk-bus", "mail", "sdb")}


def test_a_check_is_chosen_by_its_node_id(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", target="checks/check_disk_bus.py::check_disk_bus[wiki/vda]")
    assert outcome.status == 1
    assert [(row["guest"], row["disk"]) for row in outcome.document["results"]] == [("wiki", "vda")]


def test_x_stops_at_the_first_finding(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "-x")
    assert outcome.status == 1
    assert [row["verdict"] for row in outcome.document["results"]].count("noncompliant") == 1


def test_q_is_the_sentence_the_findings_and_one_line(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "-q", "--definitions-only", "--guests", "web,erp")
    assert outcome.status == 1
    sentence, *findings, last = outcome.lines
    assert sentence.startswith(
        "SAMPLES: 1 of 2 guests does not pass the checks that ran (not all checks ran); 1 passes"
    )
    assert len([line for line in findings if line.startswith("  noncompliant   ")]) == 4
    assert not any(re.fullmatch(r"[-.F?~+Ew]+( +\[ *\d+%\])?", line) for line in outcome.lines), "no letters"
    assert last.startswith("NOT OK (SAMPLES): 4 noncompliant, ")


def test_qq_is_the_sentence_alone(tmp_path: Path) -> None:
    outcome = audit(tmp_path / "reports", "-qq", "--definitions-only", "--guests", "web")
    assert outcome.status == 0
    [sentence] = outcome.lines
    assert sentence.startswith("SAMPLES: 1 of 1 guest passes the checks that ran (not all checks ran)")


@pytest.mark.parametrize("option", ["-v", "-vv"])
def test_v_has_every_row(tmp_path: Path, option: str) -> None:
    outcome = audit(tmp_path / "reports", option, "--definitions-only", "--guests", "erp")
    assert any(
        line.startswith("checks/check_disk_bus.py::check_disk_bus[erp/vda] NONCOMPLIANT") for line in outcome.lines
    )
    assert "  noncompliant   disk-bus vda: it is on the bus virtio" in outcome.lines


def test_junit_has_verdict_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    outcome = audit(tmp_path / "reports", f"--junitxml={path}", "--guests", "wiki")
    assert outcome.status == 1
    cases = etree.parse(path).findall(".//testcase")
    assert len(cases) == len(outcome.document["results"])
    said = {}
    for case in cases:
        values = {one.get("name"): one.get("value") for one in case.iterfind("properties/property")}
        said[values["requirement"]] = (values["verdict"], values["reason"], [str(child.tag) for child in case[1:]])
    assert said["machine-type"] == ("compliant", "", [])
    assert said["disk-bus"] == ("noncompliant", "it is on the bus virtio", ["failure"])
    assert said["guest-access"][0] == "not-assessable"
    assert said["guest-access"][2] == ["skipped"]


# Hostile names --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("hostile")
    node = folder / "node.xml"
    text = domain(TAG, f"/images/{TAG}") + domain(ESCAPES, "/images/x") + domain("two\nlines", "/images/y")
    node.write_text(f"<node>{text}</node>", encoding="utf-8")
    return audit(folder / "reports", "--plan", "-rA", f"--junitxml={folder / 'junit.xml'}", uri=f"test://{node}")


def test_hostile_guests_are_judged_like_any_other(hostile: Outcome) -> None:
    assert hostile.status == 1
    assert {row["guest"] for row in hostile.document["results"]} == {TAG, ESCAPES, "two\nlines"}


def test_no_control_character_reaches_the_terminal(hostile: Outcome) -> None:
    bad = {c for c in hostile.said if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n"}
    assert not bad
    assert "esc\\x9b31m" in hostile.stdout
    assert "\nlines " not in hostile.stdout


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON document; keys (the node ids) are never shown."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def has_live_tag(fragment: str) -> bool:
    """Would a browser make an element of a hostile name in *fragment*?"""
    root = lxml_html.fragment_fromstring(f"<table><tr>{fragment}</tr></table>", create_parent="div")
    return any(one.tag in ("img", "script") or "onerror" in one.attrib for one in root.iter())


def test_no_tag_of_a_name_is_alive_in_the_report(hostile: Outcome) -> None:
    for name in ("report.html", "rows.html"):
        root = lxml_html.document_fromstring((hostile.folder / name).read_text(encoding="utf-8"))
        assert not root.xpath("//*[@onerror]")
        assert not root.xpath("//img[@src='x']")
    (blob,) = root.xpath("//*[@id='data-container']/@data-jsonblob")
    named = [text for text in strings(json.loads(blob)) if "onerror" in text]
    assert any("/images/" in text for text in named), "the planned change shows the name of the image"
    # the script of the report puts these into the page as they are
    assert not [text for text in named if has_live_tag(text)]
    assert has_live_tag(TAG)


def test_every_mistake_of_an_inventory_has_a_line_of_its_own(tmp_path: Path) -> None:
    path = inventory(tmp_path, '[policy]\nboot_second = 5\nboot_seconds = "ten"\npull_plug = "ja"\n[polcy]\n')
    outcome = audit(tmp_path / "reports", "--inventory", path)
    assert outcome.status == 4
    assert [line for line in outcome.stderr.splitlines() if line] == [
        f"ERROR: inventory {path}, line 2 (policy.boot_second): there is no such key (did you mean boot_seconds?)",
        f"ERROR: inventory {path}, line 3 (policy.boot_seconds): give a whole number",
        f"ERROR: inventory {path}, line 4 (policy.pull_plug): give true or false",
        f"ERROR: inventory {path}, line 5 (polcy): there is no such table (did you mean policy?)",
    ]


def test_guests_that_are_not_here_are_mentioned_and_the_others_are_judged(tmp_path: Path) -> None:
    path = inventory(
        tmp_path,
        '[guest."w*".waive]\ndisk-bus = "replaced in spring"\n[guest."web-test-0000"]\nthick = true\n'
        '[[ssh]]\nguests = ["nothere*"]\n[[backup]]\npath = "/b"\nguests = ["nor-here"]\n',
    )
    outcome = audit(tmp_path / "reports", "--inventory", path, "--definitions-only")
    assert outcome.status == 1
    notes = [line for line in outcome.stdout.splitlines() if " here: " in line]
    globs = "nothere* ([[ssh]].guests, line 6), nor-here ([[backup]].guests, line 9)"
    assert notes == [
        "reclaim: the inventory names guests that are not here: web-test-0000 ([guest.web-test-0000], line 3)",
        f"reclaim: globs of the inventory meet no guest here: {globs}",
    ]
    rows = outcome.document["results"]
    assert {row["guest"]: row["verdict"] for row in rows if row["requirement"] == "disk-bus"}["wiki"] == "waived"
