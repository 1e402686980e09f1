"""The table of the lab matrix: whole, and what docs/matrix.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.matrix import CASES, JUDGED, Case, build, page
from lab.matrix.installations import INSTALLATIONS, installation_of, layout
from reclaim.requirement import catalogue


def named(case: Case) -> set[str]:
    texts = [*vars(case.audit).values(), *(vars(case.mended).values() if case.mended else ()), *case.left]
    return {name for text in texts for name in text.split()}


def test_the_page_is_what_the_last_run_recorded() -> None:
    assert page.PATH.read_text(encoding="utf-8") == page.page(page.recorded()), "run python3 -m lab.matrix.page"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_last_run_saw_what_is_expected(case: Case) -> None:
    for run, rows in page.recorded().get(case.name, {}).items():
        if run == "allocated":
            continue
        expected = case.mended if run == "mended" and case.mended else case.audit
        for key, verdict in rows.items():
            slug, _, disk = key.partition(":")
            if slug in JUDGED and (slug != "trim-backlog" or run == "audit"):
                assert verdict == expected.verdict(slug, disk or None), f"{case.name}, {run}: {key}"


def test_only_what_is_named_as_judged_is_expected() -> None:
    assert set(page.slugs()) >= JUDGED
    assert {name.partition(":")[0] for case in CASES for name in named(case)} <= JUDGED
    assert CASES[0].audit.verdict("guest-access", None) == "compliant"
    assert CASES[0].audit.verdict("a-new-requirement", "vda") is None


def test_what_no_run_has_recorded_is_left_blank() -> None:
    case, slug = CASES[0], page.slugs()[0]
    text = page.page({case.name: {"audit": {slug: "noncompliant"}, "mended": {}}})
    lines = text.partition("## Verdicts of the audit")[2].splitlines()
    row = next(line for line in lines if line.startswith(f"| {case.name} "))
    assert row.split(" | ")[1] == "`F`"
    assert not "".join(row.split(" | ")[2:]).strip(" |")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_names_what_there_is(case: Case) -> None:
    for name in named(case):
        slug, _, disk = name.partition(":")
        assert slug in catalogue()
        assert not disk or (disk in case.targets and "disk" in catalogue()[slug].parameters)


@pytest.mark.parametrize("case", [case for case in CASES if case.mended], ids=lambda case: case.name)
def test_what_was_found_is_mended_or_left_for_a_reason(case: Case) -> None:
    assert case.mended
    fixed = set(case.mended.fixed.split())
    by_the_restart = {"disc-max"} if "live-definition" in fixed else set()
    assert set(case.audit.noncompliant.split()) <= {*fixed, *case.left, *by_the_restart}
    assert {name.partition(":")[0] for name in case.mended.noncompliant.split()} == set(case.left)
    assert not case.audit.fixed


def test_every_name_is_one_guests() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_disks_of_a_guest_are_those_of_one_debian(case: Case) -> None:
    disks = [disk.image for disk in case.disks]
    assert len(set(map(installation_of, disks))) == 1
    assert layout(disks[0]).root
    assert not case.counted or case.mended


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_an_installation_names_what_there_is(name: str) -> None:
    installation = INSTALLATIONS[name]
    folder = Path(build.__file__).parent
    for script in (*installation.scripts, installation.builder):
        assert (folder / script).is_file()
    roots = {one.root for one in installation.layouts.values()} - {None, "btrfs"}
    assert roots == set(installation.roots)
    others = [other for other in INSTALLATIONS if other != name]
    assert not any(set(installation.layouts) & set(INSTALLATIONS[other].layouts) for other in others)
    assert build.key(name) not in map(build.key, others)


def test_the_bytes_that_were_counted_are_on_the_page() -> None:
    counts = {"mended": 300 << 20, "deleted": 364 << 20, "trimmed": 301 << 20}
    text = page.page({"trixie": {"audit": {}, "mended": {}, "allocated": counts}})
    assert "| trixie | 300 | 364 | 301 |" in text.splitlines()
