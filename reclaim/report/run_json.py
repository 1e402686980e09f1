"""`--run-json FILE`: the end of a run for programs, one JSON object, also of a run that was refused."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reclaim.base.secret import redacted
from reclaim.base.text import printable, trouble
from reclaim.engine import journal
from reclaim.engine.part import Part
from reclaim.engine.run import Run
from reclaim.files import whole
from reclaim.record import results
from reclaim.report import page, summary

SCHEMA = 1
FLAG = "--run-json"
#: the exit statuses of a run that came to its end: everything holds, findings, nothing to judge, not all was seen
_ENDS = (0, 1, 5, 6)


def begin(path: Path) -> None:
    """Remove the file of an earlier run, so that one that is killed leaves none. Raises OSError."""
    if not os.path.isdir(path.parent):  # noqa: PTH112 (False for a name that is too long)
        raise OSError(0, f"there is no folder {path.parent}")
    whole.expect_file(path)
    path.unlink(missing_ok=True)


def write(
    path: Path, run: Run | None, mode: str, status: int, errors: Sequence[str]
) -> str:
    """Write the end of *run*, None if there was none, to *path*. Return why that failed, or ""."""
    document = of_run(run, mode, status, errors)
    # a path that is not UTF-8 has surrogates (PEP 383), which only an escape can write
    text = json.dumps(document, indent=2)
    try:
        whole.write(path, [f"{text}\n"])
    except OSError as exc:
        return f"{FLAG} {path}: {trouble(exc)}"
    return ""


def of_run(
    run: Run | None, mode: str, status: int, errors: Sequence[str]
) -> dict[str, Any]:
    """Return the end of *run*, None if there was none, as the file has it."""
    parts = run.parts if run is not None else []
    hypervisors = [_of_part(part) for part in parts]
    outcomes = [each["outcome"] for each in hypervisors if each["outcome"]]
    is_told = [outcome["went_wrong"] for outcome in outcomes]
    is_lost = any(part.found is not None and not part.is_written for part in parts)
    lines = [printable(line) for text in errors for line in text.splitlines()]
    return {
        "schema": SCHEMA,
        "status": status,
        "sentence": _sentence(parts, lines),
        "id": run.id if run is not None and outcomes else None,
        "mode": mode,
        "went_wrong": status not in _ENDS or is_lost or any(is_told),
        "errors": lines,
        "hypervisors": hypervisors,
    }


def _sentence(parts: Sequence[Part], lines: Sequence[str]) -> str:
    records = [part.found for part in parts if part.found is not None]
    if records:
        return summary.figures(records).sentence
    return lines[0] if lines else "No guest was judged."


def _of_part(part: Part) -> dict[str, Any]:
    record, host = part.found, part.hypervisor.host
    folder = part.folder.absolute() if part.is_written else None

    def path(name: str) -> str | None:
        is_there = folder is not None and (folder / name).is_file()
        return str(folder / name) if folder is not None and is_there else None

    return {
        "name": printable(part.hypervisor.name),
        "host": redacted(host) if host is not None else None,
        "uri": redacted(part.hypervisor.uri),
        "reached": not part.unreached,
        "folder": str(folder) if folder is not None else None,
        "results": path(results.NAME),
        "report": path(page.NAME),
        "journal": path(journal.NAME),
        "outcome": record.outcome.model_dump(mode="json") if record else None,
    }
