"""Fleets: the same verdicts, whatever is left out to judge many guests fast."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bench.definitions import node
from reclaim import plugin
from reclaim.report import html
from reclaim.requirement import catalogue
from tests.command import FLEET, Outcome, audit
from tests.support import disk_xml, domain_xml, engine, opened, subject

if TYPE_CHECKING:
    from pathlib import Path


def verdicts(outcome: Outcome) -> list[tuple[str, str, str, str]]:
    rows = outcome.document["results"]
    return [(row["guest"], row["requirement"], row["disk"] or "", row["verdict"]) for row in rows]


def test_the_short_protocol_says_what_pytests_own_says(tmp_path: Path) -> None:
    """With --setup-show somebody watches pytest's own steps: then they are made."""
    junit = tmp_path / "short.xml", tmp_path / "long.xml"
    short = audit(tmp_path / "short", "--definitions-only", f"--junitxml={junit[0]}")
    long = audit(tmp_path / "long", "--definitions-only", "--setup-show", f"--junitxml={junit[1]}")
    assert "SETUP" in long.stdout
    assert "SETUP" not in short.stdout
    assert (short.status, verdicts(short)) == (long.status, verdicts(long))
    for word in ("<testcase ", "<failure ", "<skipped ", 'name="verdict"'):
        texts = [path.read_text(encoding="utf-8") for path in junit]
        assert texts[0].count(word) == texts[1].count(word) > 0
    pages = [(one.folder / "rows.html").read_text(encoding="utf-8") for one in (short, long)]
    assert pages[0].count("col-verdict") == pages[1].count("col-verdict") == len(verdicts(short))


def test_x_stops_at_the_first_finding(tmp_path: Path) -> None:
    done = audit(tmp_path, "--definitions-only", "-x")
    assert done.status == 1
    assert any(line.strip("! ") == "stopping after 1 failure" for line in done.lines)
    assert any(line.startswith("SAMPLES, stopped early: 1 of ") for line in done.lines)
    assert Counter(verdict for *_, verdict in verdicts(done))["noncompliant"] == 1


def test_a_fleet_too_large_for_pytest_html_gets_the_static_page(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.xml"
    fleet.write_bytes(node(1700))
    done = audit(tmp_path / "reports", "--definitions-only", uri=f"test://{fleet}")
    assert done.status == 1
    assert len(verdicts(done)) > html.MOST
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "data-jsonblob" not in page
    assert page.count('<tr id="row-') == len(verdicts(done))
    assert not (done.folder / "rows.html").exists()


def test_definitions_that_were_dropped_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_KEPT", 0)
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    run: Any = SimpleNamespace(parts=[SimpleNamespace(guests=[guest], unreached="")])
    found = list(plugin._found(run, catalogue()["disk-discard"]))
    assert [one.disk.name for one in found if one.disk] == ["vda"]
    assert "persistent" not in vars(guest)
    assert engine(guest.hypervisor, tmp_path, "audit").run(catalogue()["disk-discard"], subject(guest, "vda")).reason


def test_a_failed_assert_shows_a_guest_by_its_name_only(tmp_path: Path) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml(), metadata="<x:secret xmlns:x='urn:x' passwd='one'/>")).guests[0]
    assert repr(guest) == "<guest one>"
    assert "passwd" not in repr(guest.persistent)
    assert "one" not in repr(guest.hypervisor).replace(FLEET, "").replace(str(tmp_path), "")


def test_no_long_step_passes_without_a_sign_of_life(tmp_path: Path) -> None:
    done = audit(tmp_path, "--definitions-only", "-p", "tests.driver.slowly")
    assert done.status == 1, done.said
    for label in ("listing all that is judged", "writing the record", "writing the report"):
        assert any(line.startswith(f"{label}: ") for line in done.lines), done.said
