"""Records of runs that nobody made, of any size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reclaim.base.verdict import Verdict
from reclaim.record.outcome import outcome_of
from reclaim.record.record import Record
from reclaim.requirement import catalogue

GIB = 1024**3
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
DIFF = "--- one (before)\n+++ one (after)\n@@ -1,2 +1,2 @@\n <disk>\n-<target bus='virtio'/>\n+<target bus='scsi'/>"


def change(**more: Any) -> dict[str, Any]:
    return {
        "kind": "definition",
        "target": "definition of one",
        "diff": DIFF,
        "applied": False,
        "undone": False,
        **more,
    }


def row(
    requirement: str, verdict: str, guest: str | None = "one", disk: str | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "requirement": requirement,
        "title": catalogue()[requirement].title if requirement in catalogue() else requirement,
        "guest": guest,
        "disk": disk,
        "backup": None,
        "verdict": verdict,
        "reason": None if verdict in ("compliant", "not-applicable") else f"why {requirement} is {verdict}",
        "evidence": "it was seen" if verdict in ("compliant", "fixed") else None,
        "changes": [],
        "seconds": 0.001,
        "rolled_back": False,
        "left_off": False,
        "failed": False,
        **more,
    }


def outcome(rows: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return the outcome of a run with *rows*, as results.json has it."""
    judged: list[Any] = []
    for each in rows:
        changes = [SimpleNamespace(**change) for change in each["changes"]]
        judged.append(SimpleNamespace(**{**each, "verdict": Verdict(each["verdict"]), "changes": changes}))
    return {**outcome_of(judged, "/reports/kvm1/run").model_dump(mode="json"), **more}


def storage(guest: str = "one", disk: str = "sda", **more: Any) -> dict[str, Any]:
    return {
        "guest": guest,
        "disk": disk,
        "path": f"/images/{guest}-{disk}.qcow2",
        "virtual": 20 * GIB,
        "allocated_before": 9 * GIB,
        "allocated_after": 5 * GIB,
        "used": 4 * GIB,
        **more,
    }


def filesystem(mount: str | None = "/var/lib/libvirt/images", **more: Any) -> dict[str, Any]:
    return {
        "folder": mount or "/images",
        "mount": mount,
        "type": "ext4",
        "source": "/dev/mapper/vg-images",
        "images": 2,
        "size": 100 * GIB,
        "used_before": 90 * GIB,
        "used_after": 80 * GIB,
        "free_before": 5 * GIB,
        "free_after": 15 * GIB,
        **more,
    }


def _both(disk: dict[str, Any]) -> bool:
    return None not in (disk["allocated_before"], disk["allocated_after"])


def document(
    rows: Sequence[dict[str, Any]],
    disks: Sequence[dict[str, Any]] = (),
    *,
    mode: str = "audit",
    hypervisor: str = "kvm1",
    started: datetime = EPOCH,
    arguments: Sequence[str] = ("checks/",),
    **more: Any,
) -> dict[str, Any]:
    return {
        "schema": 2,
        "run": {
            "id": f"{started:%Y%m%dT%H%M%SZ}-{mode}",
            "mode": mode,
            "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
            "ended": f"{started + timedelta(seconds=30):%Y-%m-%dT%H:%M:%SZ}",
            "version": "0.1.0",
            "arguments": list(arguments),
        },
        "outcome": outcome(rows),
        "hypervisor": {"name": hypervisor, "uri": "qemu:///system", "libvirt": "9.0.0", "qemu": "7.2.22"},
        "results": list(rows),
        "storage": list(disks),
        "reclaimed_bytes": max(0, sum(one["allocated_before"] - one["allocated_after"] for one in disks if _both(one))),
        **more,
    }


def record(*arguments: Any, **more: Any) -> Record:
    return Record.model_validate(document(*arguments, **more))


def whole(guest: str, *, broken: bool = False, number: int = 0) -> list[dict[str, Any]]:
    """The rows of one guest with one disk: every requirement of the catalogue."""
    found = []
    for place, one in enumerate(catalogue().values()):
        disk = "sda" if "disk" in one.parameters else None
        bad = broken and (number + place) % 3 == 0
        changes = [change()] if bad else []
        found.append(row(one.slug, "noncompliant" if bad else "compliant", guest, disk, changes=changes))
    return found


def fleet(rows: int, **more: Any) -> dict[str, Any]:
    """A document with at least *rows* rows; every third guest has findings."""
    results: list[dict[str, Any]] = []
    disks = []
    number = 0
    while len(results) < rows:
        name = f"guest-{number:05}"
        results += whole(name, broken=number % 3 == 0, number=number)
        disks.append(storage(name))
        number += 1
    return document(results, disks, **more)


def archive(reports: Path, one: dict[str, Any]) -> Path:
    """Put a document where a run would have left it; returns the run's folder."""
    folder = reports / str(one["hypervisor"]["name"]) / str(one["run"]["id"])
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(one), encoding="utf-8")
    return folder
