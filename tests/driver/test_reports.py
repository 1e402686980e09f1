"""What a run leaves: the record, a report that suits its size, the index, figures; and the verbs beside pytest."""

from __future__ import annotations

import json
import os
import re
import resource
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from lxml import html as lxml_html

from bench.definitions import node
from reclaim.record import record
from tests import records
from tests.command import Outcome, audit, reclaim
from tests.hostile import TAG, domain


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("run")
    return audit(folder / "reports", "--plan", "--metrics", str(folder / "reclaim.prom"))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """More rows than pytest-html is good for."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "node.xml").write_bytes(node(180))
    return audit(folder / "reports", uri=f"test://{folder / 'node.xml'}")


def is_static(path: Path) -> bool:
    return "Made by reclaim from results.json" in path.read_text(encoding="utf-8")


def test_the_record_of_a_run_follows_the_schema(outcome: Outcome) -> None:
    schema = json.loads(record.SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(outcome.document)
    assert any(row["changes"] for row in outcome.document["results"])


def test_pytest_html_carries_the_rows_of_a_small_run(outcome: Outcome) -> None:
    report = outcome.folder / "rows.html"
    assert not is_static(report)
    assert is_static(outcome.folder / "report.html")
    assert 'href="rows.html"' in (outcome.folder / "report.html").read_text(encoding="utf-8")
    page = lxml_html.document_fromstring(report.read_text(encoding="utf-8"))
    (blob,) = page.xpath("//*[@id='data-container']/@data-jsonblob")
    assert sum(map(len, json.loads(blob)["tests"].values())) == len(outcome.document["results"])
    assert page.xpath("//a[@href='report.html']")
    assert "Generated html report" not in outcome.stdout, "the line of the report is enough"


def test_a_large_run_has_no_table_of_pytest_html_and_says_so(large: Outcome) -> None:
    rows = large.document["results"]
    assert len(rows) > 2000
    report = large.folder / "report.html"
    assert is_static(report)
    page = lxml_html.document_fromstring(report.read_text(encoding="utf-8"))
    assert len(page.xpath("//table[@class='rows']/tbody/tr")) == len(rows)
    assert f"this run has {len(rows):,}" in page.xpath("string(//p[@class='remark'])")
    assert not (large.folder / "rows.html").exists()
    assert "Generated html report" not in large.stdout


def test_html_goes_where_it_is_asked_for_and_the_archive_has_a_page_too(tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    done = audit(tmp_path / "reports", "--html", str(mine), "--guests", "wiki")
    text = mine.read_text(encoding="utf-8")
    assert 'http-equiv="Content-Security-Policy"' in text
    assert 'href="assets/style.css"' in text
    assert (tmp_path / "assets/style.css").is_file()
    assert is_static(done.folder / "report.html")
    assert not (done.folder / "rows.html").exists()
    assert "Generated html report" in done.stdout


def test_a_page_of_pytest_html_is_self_contained_if_that_is_asked_for(tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    audit(tmp_path / "reports", "--html", str(mine), "--self-contained-html", "--guests", "wiki")
    assert "<style" in mine.read_text(encoding="utf-8")
    assert "assets/" not in mine.read_text(encoding="utf-8")
    assert not (tmp_path / "assets").exists()


def test_html_that_is_no_file_is_left_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = audit(tmp_path / "reports", "--html", str(pipe), "--guests", "wiki")
    assert pipe.is_fifo()
    assert "no regular file" in done.said
    assert is_static(done.folder / "report.html")
    assert not list(done.folder.glob(".*"))


def test_without_pytest_html_there_is_a_report(tmp_path: Path) -> None:
    done = audit(tmp_path / "reports", "-p", "no:html", "--guests", "wiki")
    assert done.status == 1
    assert is_static(done.folder / "report.html")


def test_the_filesystem_of_the_images_is_in_record_page_and_index(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 8192)
    (tmp_path / "node.xml").write_text(f"<node>{domain('web', str(image))}</node>", encoding="utf-8")
    done = audit(tmp_path / "reports", uri=f"test://{tmp_path / 'node.xml'}")
    [space] = done.document["filesystems"]
    assert image.is_relative_to(space["mount"])
    assert space["images"] == 1
    assert 0 < space["used_before"] < space["size"]
    assert {disk["filesystem"] for disk in done.document["storage"]} == {space["mount"]}
    page = lxml_html.document_fromstring((done.folder / "report.html").read_text(encoding="utf-8"))
    assert page.xpath("//table[@class='levels']/tbody/tr/th")[0].text_content() == space["mount"]
    index = lxml_html.document_fromstring((done.reports / "index.html").read_text(encoding="utf-8"))
    assert index.xpath("//ul[@class='mounts']//svg/@aria-label")[0].startswith(space["mount"])


def test_the_index_has_the_run(outcome: Outcome) -> None:
    page = lxml_html.document_fromstring((outcome.reports / "index.html").read_text(encoding="utf-8"))
    (href,) = page.xpath("//table[@class='runs']//a/@href")
    assert (outcome.reports / href).is_file()


def test_figures_are_written(outcome: Outcome) -> None:
    text = (outcome.reports.parent / "reclaim.prom").read_text(encoding="utf-8")
    assert 'reclaim_results{hypervisor="test-driver",verdict="noncompliant"} 18.0' in text


def test_keep_leaves_so_many_runs(tmp_path: Path) -> None:
    for _ in range(3):
        audit(tmp_path / "reports", "--keep", "2", "--guests", "web")
    found = [path for path in (tmp_path / "reports/test-driver").iterdir() if not path.is_symlink()]
    assert len(found) == 2
    assert (tmp_path / "reports/test-driver/latest/report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--keep", "0"), "--keep 0: keep at least", id="keep nothing"),
        pytest.param(("--keep", "many"), "--keep: invalid int value", id="no number"),
        pytest.param(("--metrics", "/nonexistent/x.prom"), "there is no folder /nonexistent", id="no folder"),
        pytest.param(("--metrics", f"/{'a' * 300}/x.prom"), "there is no folder /aaa", id="no name of a folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = audit(tmp_path / "reports", *arguments)
    assert done.status == 4
    assert words in done.stderr
    assert not done.reports.exists()


def test_an_index_that_cannot_be_written_does_not_take_the_run_with_it(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    (reports / "index.html").mkdir(parents=True)
    (reports / "index.html/mine").write_text("", encoding="ascii")
    done = audit(reports, "--guests", "web", "--definitions-only")
    assert done.status == 0
    assert "INTERNALERROR" not in done.said
    assert "cannot be written" in done.stdout
    assert (done.folder / "report.html").is_file()


# The verbs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kib", "words", "left"),
    [(4, "there is no record of this run", []), (16, "pytest-html could not write its page", ["results.json"])],
)
def test_a_run_whose_reports_find_no_room_says_so_in_a_line(
    tmp_path: Path, kib: int, words: str, left: list[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, limits[1]))
    try:
        done = audit(tmp_path / "reports", "--definitions-only")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.status == 1
    assert f"reclaim: {words}" in done.stdout
    assert "Traceback" not in done.said
    (folder,) = (path for path in (tmp_path / "reports").glob("*/*-audit") if not path.is_symlink())
    assert [path.name for path in folder.iterdir()] == left
    if left:
        assert "build-2013" in done.stdout.partition("6 of 8 guests")[2]


def test_a_report_is_made_again_from_the_record_alone(outcome: Outcome, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "results.json").write_bytes((outcome.folder / "results.json").read_bytes())
    done = reclaim("report", folder)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder / "report.html"))
    first = (folder / "report.html").read_bytes()
    reclaim("report", folder / "results.json")
    assert (folder / "report.html").read_bytes() == first
    assert b"disk-bus of wiki vda: noncompliant" in first


def test_a_page_of_several_runs(outcome: Outcome, tmp_path: Path) -> None:
    other = records.archive(tmp_path, records.document(records.whole("elsewhere"), hypervisor=TAG.replace("/", "")))
    assert reclaim("report", outcome.folder, other).returncode == 2
    page = tmp_path / "both.html"
    assert reclaim("report", outcome.folder, other, "--output", page).returncode == 0
    text = page.read_text(encoding="utf-8")
    assert "2 hypervisors" in text
    assert "elsewhere" in text
    assert "<img" not in text


def test_two_runs_of_one_host_on_one_page_have_rows_of_their_own(tmp_path: Path) -> None:
    runs = [
        records.archive(tmp_path, records.document(records.whole("a"), started=records.EPOCH + timedelta(days=number)))
        for number in range(2)
    ]
    page = tmp_path / "both.html"
    assert reclaim("report", *runs, runs[0], runs[0] / "results.json", "--output", page).returncode == 0
    ids = lxml_html.document_fromstring(page.read_text(encoding="utf-8")).xpath("//@id")
    assert len(set(ids)) == len(ids)
    assert len([one for one in ids if one.startswith("row-")]) == 2 * len(records.whole("a"))


def test_a_diff_ends_with_one_where_something_broke(tmp_path: Path) -> None:
    good = records.archive(tmp_path / "1", records.document([records.row("disc-max", "compliant", "a")]))
    bad = records.archive(tmp_path / "2", records.document([records.row("disc-max", "noncompliant", "a")]))
    worse, better = reclaim("diff", good, bad), reclaim("diff", bad, good)
    assert (worse.returncode, worse.stdout) == (1, "newly broken: 1\n  a disc-max: compliant → noncompliant\n")
    assert (better.returncode, better.stdout) == (0, "newly mended: 1\n  a disc-max: noncompliant → compliant\n")


@pytest.mark.parametrize("verb", [("report", "nowhere"), ("diff", "nowhere", "nowhere"), ("index", "nowhere")])
def test_a_verb_about_nothing_says_so_in_one_line(verb: tuple[str, ...]) -> None:
    done = reclaim(*verb)
    assert done.returncode == 2
    assert done.stdout == ""
    # the reports of a checkout in use have runs
    run = r"file or folder, and no run (below \S+|of this name below \S+; the newest: \S+)"
    assert re.fullmatch(rf"reclaim: nowhere: there is no such (folder|{run})\n", done.stderr)


def test_the_index_is_made_by_hand(tmp_path: Path) -> None:
    for name in ("kvm1", "kvm2"):
        records.archive(tmp_path, records.document(records.whole("a"), hypervisor=name))
    done = reclaim("index", tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "index.html"))
    assert "2 runs" in (tmp_path / "index.html").read_text(encoding="utf-8")


# The terminal ---------------------------------------------------------------------------------


def test_there_is_no_colour_where_nobody_watches(outcome: Outcome) -> None:
    assert "\x1b" not in outcome.said
    assert "+      <driver" in outcome.stdout  # the plan is in it, in full
