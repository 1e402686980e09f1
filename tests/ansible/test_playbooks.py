"""The playbooks on one hypervisor, from the bundle to nothing: what is ok, changed and failed, and what is fetched."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from tests.ansible.playing import Controller
from tests.command import document_of, runs

pytestmark = pytest.mark.slow

_INVENTORY = """\
[[window]]
on = ["kvm1", "test-driver"]
from = "00:00"
to = "00:01"
zone = "UTC"

[guest.erp]
waive.machine-type = "the vendor supports no other"
"""


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_from_a_bundle_to_nothing(controller: Controller, bundles: Path) -> None:
    host = controller.host("kvm1", reclaim_python="/usr/bin/python3", reclaim_bundles=str(bundles))
    missing = controller.play("audit")
    assert (missing.status, missing.counts("kvm1")) == (2, (0, 0, 1))
    assert "run the playbook reclaim.fleet.install first" in missing.said
    inventory = controller.folder / "reclaim.toml"
    inventory.touch()
    missing = controller.play("audit", "-e", f"reclaim_inventory={inventory}")
    assert "run the playbook reclaim.fleet.install first" in missing.said

    planned = controller.play("install", "--check")
    assert (planned.status, planned.counts("kvm1")[2]) == (0, 0)
    assert not host.home.exists()
    installed = controller.play("install")
    assert (installed.status, installed.counts("kvm1")) == (0, (3, 0, 0)), installed.said
    assert stat.S_IMODE(host.home.stat().st_mode) == 0o700
    assert controller.play("install").counts("kvm1") == (0, 0, 0)

    audited = controller.play("audit")
    assert (audited.status, audited.counts("kvm1")) == (0, (0, 0, 0)), "findings are ok"
    (run,) = runs(host.folder / "reports")
    fetched = controller.fetched / "kvm1" / run.name
    assert _modes(fetched) == {"results.json": 0o600, "report.html": 0o600}
    assert stat.S_IMODE(fetched.parent.stat().st_mode) == 0o700
    assert (fetched / "results.json").read_bytes() == (run / "results.json").read_bytes()
    assert document_of(run)["outcome"]["verdicts"]["noncompliant"] > 0

    removed = controller.play("uninstall")
    assert (removed.status, removed.counts("kvm1")) == (0, (1, 0, 0))
    assert not host.home.exists()
    assert runs(host.folder / "reports") == [run], "undo needs the reports"
    assert controller.play("uninstall").counts("kvm1") == (0, 0, 0)


def test_a_plan_a_fix_and_its_undo(controller: Controller) -> None:
    host = controller.host("kvm1")
    host.stands_in()
    planned = controller.play("fix", "--check", "--diff")
    assert (planned.status, planned.counts("kvm1")) == (0, (1, 0, 0))
    assert "discard=" in planned.said, "the diffs of the plan"
    assert [words[0] for words in host.words()] == ["plan"]
    assert not list(host.folder.rglob("journal.jsonl"))

    fixed = controller.play("fix")
    assert (fixed.status, fixed.counts("kvm1")) == (0, (1, 0, 0))
    (run,) = runs(host.folder / "reports", "journal.jsonl")
    fetched = controller.fetched / "kvm1" / run.name
    assert _modes(fetched) == {"results.json": 0o600, "report.html": 0o600, "journal.jsonl": 0o600}
    assert (fetched / "journal.jsonl").read_bytes() == (run / "journal.jsonl").read_bytes()
    applied = document_of(fetched)["outcome"]["applied"]
    assert applied > 0

    asked = controller.play("undo", "--check")
    assert (asked.status, asked.counts("kvm1")) == (0, (1, 0, 0))
    assert document_of(run)["outcome"]["applied"] == applied
    undone = controller.play("undo")
    assert (undone.status, undone.counts("kvm1")) == (0, (1, 0, 0))
    assert f"{applied} of {applied} changes were taken back." in undone.said
    assert document_of(fetched)["outcome"]["applied"] == 0, "the record is fetched again"
    again = controller.play("undo")
    assert (again.status, again.counts("kvm1")) == (0, (0, 0, 0))


def test_windows_and_waivers_of_the_one_inventory_reach_the_host(controller: Controller, tmp_path: Path) -> None:
    inventory = tmp_path / "house.toml"
    inventory.write_text(_INVENTORY, encoding="utf-8")
    controller.variables["reclaim_inventory"] = str(inventory)
    host = controller.host("kvm1")
    host.stands_in()
    played = controller.play("fix", "--check", "--diff")
    assert (played.status, played.counts("kvm1")) == (0, (1, 0, 0))
    assert "the vendor supports no other" not in played.said, "the inventory is not shown"
    copied = host.home / "inventory.toml"
    assert (copied.read_text(encoding="utf-8"), stat.S_IMODE(copied.stat().st_mode)) == (_INVENTORY, 0o600)
    (run,) = runs(host.folder / "reports")
    rows: list[dict[str, Any]] = document_of(run)["results"]
    waived = [row for row in rows if row["verdict"] == "waived"]
    assert [(row["guest"], row["requirement"]) for row in waived] == [("erp", "machine-type")]
    assert document_of(run)["run"]["inventory_hypervisors"] == ["kvm1", "test-driver"], "of the window"

    inventory.write_text("[guest.erp]\nwave = 1\n", encoding="utf-8")
    refused = controller.play("audit")
    assert (refused.status, refused.counts("kvm1")) == (2, (0, 0, 1))
    assert "wave" in refused.said


def test_options_reach_the_run(controller: Controller) -> None:
    host = controller.host("kvm1", reclaim_guests="web*,mail,!mail", reclaim_options=["-k", "disk-bus or machine-type"])
    host.stands_in()
    assert controller.play("audit").status == 0
    (words,) = host.words()
    assert words[1:] == [
        "--uri",
        controller.hosts["kvm1"]["reclaim_uri"],
        "--reports",
        str(host.folder / "reports"),
        "--guests",
        "web*,mail,!mail",
        "-k",
        "disk-bus or machine-type",
    ]
    host.jobs[0].rename(host.folder / "seen")
    # as one types them
    assert controller.play("audit", "-e", "reclaim_options='--definitions-only --guests mail'").status == 0
    assert host.words()[0][-3:] == ["--definitions-only", "--guests", "mail"]


def test_a_name_of_the_inventory_leads_out_of_no_folder(controller: Controller) -> None:
    name = "../../kvm1"
    host = controller.host(name)
    host.stands_in()
    controller.variables["reclaim_options"] = ["--definitions-only"]
    assert controller.play("audit").status == 0
    assert [path.name for path in controller.fetched.iterdir()] == ["__.._kvm1"]


def test_the_cases_of_junit_are_tasks_and_hosts(controller: Controller, tmp_path: Path) -> None:
    controller.host("kvm1").stands_in()
    env = {"ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit", "JUNIT_OUTPUT_DIR": str(tmp_path / "junit")}
    assert controller.play("audit", env=env).status == 0
    (file,) = (tmp_path / "junit").iterdir()
    cases = etree.parse(file).findall(".//testcase")
    assert any("[kvm1]" in str(case.get("name")) and "Run reclaim" in str(case.get("name")) for case in cases)
    assert not [case for case in cases if case.find("failure") is not None]
