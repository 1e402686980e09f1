"""The record of one hypervisor's part of a run, as results.json has it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import reclaim
from reclaim.base.secret import redacted, redacted_arguments
from reclaim.base.text import printable
from reclaim.engine.part import Options, Part
from reclaim.handles.hypervisor import Hypervisor
from reclaim.record.results import SCHEMA, rfc3339
from reclaim.space.measured import reclaimed


def document(
    run_id: str,
    options: Options,
    started: datetime,
    ended: datetime,
    part: Part,
    *,
    cut_short: bool = False,
    chosen: bool = False,
) -> dict[str, Any]:
    """The record of one hypervisor's part of a run, as results.json has it (schema 1)."""
    arguments = redacted_arguments(options.arguments)
    disks = part.storage.values()
    return {
        "schema": SCHEMA,
        "run": {
            "id": run_id,
            "mode": options.mode,
            "started": rfc3339(started),
            "ended": rfc3339(ended),
            "version": reclaim.__version__,
            "arguments": [printable(argument) for argument in arguments],
            "folder": printable(str(options.started_in))
            if options.started_in
            else None,
            "cut_short": cut_short,
            "chosen": chosen,
        },
        "hypervisor": _of_hypervisor(part.hypervisor),
        "results": [result.to_json() for result in part.engine.results.values()],
        "storage": [asdict(disk) for disk in disks],
        "filesystems": [asdict(space) for space in part.filesystems.values()],
        "reclaimed_bytes": reclaimed(disks) + part.engine.freed,
    }


def _of_hypervisor(hypervisor: Hypervisor) -> dict[str, Any]:
    return {
        "name": hypervisor.name,
        "uri": redacted(hypervisor.uri),
        "libvirt": hypervisor.libvirt_version,
        "qemu": hypervisor.qemu_version,
    }
