"""The sample fleet shows every finding that a definition can have: samples.tsv, and the run that docs/usage.md shows.

RECLAIM_DOCS=write pytest tests/driver/test_samples.py      writes both anew
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from reclaim.requirement import catalogue
from tests.command import Outcome, audit
from tests.support import ROOT, WRITES

Row = tuple[str, str | None, str, str]

FINDING, NA, UNKNOWN = "noncompliant", "not-applicable", "not-assessable"
TABLE = Path(__file__).with_name("samples.tsv")
PAGE = ROOT / "docs/usage.md"
README = ROOT / "README.md"


def expected() -> set[Row]:
    """Return the rows of samples.tsv."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream, delimiter="\t"))
    return {(line["guest"], shown_as(line["disk"]), line["requirement"], line["verdict"]) for line in lines}


def shown_as(disk: str) -> str | None:
    return None if disk == "-" else disk


def write(rows: set[Row]) -> None:
    """Write samples.tsv anew, sorted by guest, disk and requirement."""
    shown = sorted((guest, disk or "-", slug, verdict) for guest, disk, slug, verdict in rows)
    lines = ["\t".join(row) + "\n" for row in [("guest", "disk", "requirement", "verdict"), *shown]]
    TABLE.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return audit(tmp_path_factory.mktemp("reports"))


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return audit(tmp_path_factory.mktemp("definitions"), "--definitions-only")


def rows_of(run: Outcome) -> list[Row]:
    """The rows of requirements that a definition alone decides."""
    definition = {slug for slug, one in catalogue().items() if one.reads_definitions_only}
    return [
        (row["guest"], row["disk"], row["requirement"], row["verdict"])
        for row in run.document["results"]
        if row["requirement"] in definition
    ]


def test_every_row_about_a_definition(definitions: Outcome) -> None:
    rows = rows_of(definitions)
    assert definitions.status == 1
    assert len(rows) == len(set(rows)) == len(definitions.document["results"])
    if WRITES:
        write(set(rows))
    assert set(rows) == expected(), "if that is right: RECLAIM_DOCS=write pytest tests/driver/test_samples.py"


def test_a_whole_run_judges_definitions_the_same(outcome: Outcome, definitions: Outcome) -> None:
    assert sorted(rows_of(outcome), key=str) == sorted(rows_of(definitions), key=str)


#: of a bus that passes discards on with every machine type
PASSES = "discards pass through this bus too"
RULE = 'so a move only satisfies this rule; accept it with bus = "any-discarding" in the inventory\'s policy'


def test_every_kind_of_finding_is_there(outcome: Outcome) -> None:
    said = {row["reason"] for row in outcome.document["results"] if row["verdict"] == FINDING}
    for words in (
        "driver discard is absent: QEMU accepts discards and drops them",
        "driver discard is ignore: QEMU accepts discards and drops them",
        "pc-i440fx-1.6 is older than 2.1",
        "pc-i440fx-rhel7.0.0 (as QEMU 1.5) is older than 2.1",
        "there is no virtio-scsi controller for vda",
        "controller 0 is without a model (lsilogic)",
        "controller 0 is lsisas1068",
        "it is on the bus virtio",
        f"it is on the bus sata; {PASSES}, {RULE}",
        f"it is on the bus ide; {PASSES} once disk-discard is mended, {RULE}",
    ):
        assert words in said


def test_what_is_inside_a_guest_is_never_passed_on_the_test_driver(outcome: Outcome) -> None:
    inside = {slug for slug, one in catalogue().items() if one.stage in ("access", "names", "inside")}
    rows = [row for row in outcome.document["results"] if row["requirement"] in inside]
    assert rows
    assert {row["verdict"] for row in rows} <= {UNKNOWN, NA}


def test_findings_are_a_failure_and_the_terminal_says_that_these_are_samples(outcome: Outcome) -> None:
    assert outcome.status == 1
    assert outcome.stderr == ""
    assert "SAMPLE DEFINITIONS" in outcome.stdout
    assert "mail" in outcome.stdout


# The run that docs/usage.md shows --------------------------------------------------------------

#: lines of the sample that depend on which requirements there are, and on nothing else
_COUNTED = (
    re.compile(r"(?P<counted>collected \d+ items)"),
    re.compile(r"(?P<guest>[a-z0-9-]+) (?P<counted>[-.F?]+)(?: +\[ *\d+%\])?"),
    re.compile(r"(?P<counted>SAMPLES: \d+ of \d+ guests .*)"),
    re.compile(r"(?P<counted>\d+ not assessable.*)"),
    re.compile(r"=+ (?P<counted>.+) in [\d.]+s =+"),  # how long it took differs each time
)


def anew(line: str, run: list[str]) -> str:
    """Return *line* of the sample as the *run* has it; a line that is not counted stays as it is."""
    for pattern in _COUNTED:
        if (shown := pattern.fullmatch(line.strip())) is None:
            continue
        now = next(filter(None, (like(shown, pattern.fullmatch(other.strip())) for other in run)), None)
        assert now is not None, f"no line of the run is like {line.strip()!r}"
        text, (start, end) = line.strip(), shown.span("counted")
        return line.replace(text, text[:start] + now["counted"] + text[end:])
    return line


def like(shown: re.Match[str], other: re.Match[str] | None) -> re.Match[str] | None:
    """Return *other* if it is about the same: a line of letters is about one guest."""
    if other is None or shown.groupdict().get("guest") != other.groupdict().get("guest"):
        return None
    return other


def test_the_page_shows_this_run(definitions: Outcome) -> None:
    """The sample is the block of indented lines that begins with its command."""
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(r"^    \$ pytest checks/ --uri test://.*\n(?:    .*\n|\n(?=    ))+", text, re.MULTILINE)
    assert block is not None
    sample = block[0]
    shown = "\n".join(anew(line, definitions.lines) for line in sample.split("\n"))
    if WRITES:
        PAGE.write_text(text.replace(sample, shown), encoding="utf-8")
    else:
        assert sample == shown, "RECLAIM_DOCS=write pytest tests/driver/test_samples.py writes it anew"
    findings = re.findall(r"^      (noncompliant +\S.*)$", sample, re.MULTILINE)
    assert findings
    assert {line.strip() for line in definitions.lines} >= set(findings)


def test_the_readme_shows_the_last_lines_of_that_run() -> None:
    text = README.read_text(encoding="utf-8")
    last = re.compile(r"^    SAMPLES: .*\n    next: .*\n    report: .*\n", re.MULTILINE)
    ours, theirs = last.search(text), last.search(PAGE.read_text(encoding="utf-8"))
    assert ours is not None
    assert theirs is not None
    if WRITES:
        README.write_text(text.replace(ours[0], theirs[0]), encoding="utf-8")
    else:
        assert ours[0] == theirs[0], "RECLAIM_DOCS=write pytest tests/driver/test_samples.py writes it anew"
