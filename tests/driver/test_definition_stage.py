"""What checks of the stage `definition` ask for, as CONTRIBUTING.md has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.requirement import catalogue
from tests.command import audit

DEFINITION = {slug for slug, one in catalogue().items() if one.reads_definitions_only}
#: the raw images of the samples for which no discards are asked: is every block of them allocated?
RAW = {("stat", f"/var/lib/libvirt/images/{name}") for name in ("mail-queue.img", "erp-data.img")}


def watched(folder: Path, *arguments: str, real: bool = False) -> list[tuple[str, str, str]]:
    """Run an audit of the sample fleet; return who asked (slug), how, and for what."""
    path = folder / "watched"
    env = {"RECLAIM_WATCHED": str(path), **({"RECLAIM_REAL": "1"} if real else {})}
    outcome = audit(folder / "reports", "-p", "tests.driver.watching", *arguments, env=env)
    assert outcome.status in (0, 1, 6), outcome.said
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return [(slug, kind, what) for slug, kind, what in lines]


@pytest.mark.parametrize("policy", ["", '[policy]\nbus = "any-discarding"\nmachine = "minimum"\n'])
@pytest.mark.parametrize("real", [False, True])
def test_they_look_into_no_guest_and_open_no_file(tmp_path: Path, policy: str, *, real: bool) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(policy, encoding="utf-8")
    asked = watched(tmp_path, "--definitions-only", "--inventory", str(inventory), real=real)
    assert {slug for slug, kind, _ in asked if kind == "judged"} == DEFINITION
    others = {(kind, what) for _, kind, what in asked if kind != "judged"}
    assert others == (RAW if real else set())


def test_the_watcher_sees_a_check_that_looks_inside(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    asked = watched(tmp_path, "-k", "fstab_uuid or guest_access", real=True)
    assert {(slug, kind) for slug, kind, _ in asked} >= {("fstab-uuid", "inside"), ("guest-access", "inside")}
