"""The record of one hypervisor's part of a run, as results.json has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import reclaim
from reclaim.base.secret import redacted, redacted_arguments
from reclaim.base.text import printable
from reclaim.engine.part import Options, Part
from reclaim.record.outcome import outcome_of
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
    stopped: bool = False,
    chosen: bool = False,
    inventory_hypervisors: Sequence[str] = (),
) -> dict[str, Any]:
    """The record of one hypervisor's part of a run, as results.json has it (schema 2).

    *cut_short*: not everything was judged; *stopped*: since a signal or a fault ended the run.
    """
    arguments = redacted_arguments(options.arguments)
    disks = part.storage.values()
    rows = list(part.engine.results.values())
    folder = None if part.homeless else printable(str(part.folder.absolute()))
    outcome = outcome_of(rows, folder, cut_short=cut_short, stopped=stopped)
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
            "inventory_hypervisors": list(inventory_hypervisors) or None,
        },
        "outcome": outcome.model_dump(mode="json"),
        "hypervisor": _of_hypervisor(part),
        "results": [result.to_json() for result in rows],
        "storage": [asdict(disk) for disk in disks],
        "filesystems": [asdict(space) for space in part.filesystems.values()],
        "reclaimed_bytes": reclaimed(disks) + part.engine.freed,
    }


def _of_hypervisor(part: Part) -> dict[str, Any]:
    hypervisor = part.hypervisor
    return {
        "name": hypervisor.name,
        "uri": redacted(hypervisor.uri),
        "libvirt": hypervisor.libvirt_version,
        "qemu": hypervisor.qemu_version,
        "reached": not part.unreached,
        "host": redacted(hypervisor.host) if hypervisor.host is not None else None,
        "hostname": hypervisor.hostname,
    }
