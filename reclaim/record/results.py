"""results.json: the one record of a run. All reports are made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from reclaim.base.errors import ReclaimError
from reclaim.base.secret import redacted
from reclaim.files import whole

NAME = "results.json"
SCHEMA = 2


def mark_undone(folder: Path, undone: Iterable[tuple[str, str, str]]) -> None:
    """Mark changes in the record in *folder* as undone, each named by its guest, requirement and target.

    If several match, the first that was applied and not undone is marked. A run that was killed has no record.
    Raises ReclaimError if the file is no record, OSError if it cannot be written.
    """
    path = folder / NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for guest, requirement, target in undone:
            changes = [
                change
                for row in record["results"]
                if (row["requirement"], row["guest"]) == (requirement, guest or None)
                for change in row["changes"]
                if change["target"] == redacted(target)
                and change["applied"]
                and not change["undone"]
            ]
            for change in changes[:1]:
                change["undone"] = True
        _count_again(record)
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ReclaimError(
            f"{path}: not a record of a run, so it does not report the changes that were taken back: {exc}"
        ) from exc
    write(folder, written(record))


def _count_again(record: dict[str, Any]) -> None:
    """Count the changes that stand; schema 1 has no such count."""
    if "outcome" in record:
        changes = [change for row in record["results"] for change in row["changes"]]
        standing = [each for each in changes if each["applied"] and not each["undone"]]
        record["outcome"]["applied"] = len(standing)


def write(folder: Path, text: str) -> None:
    """Write the record *text* into *folder*, whole or not at all."""
    whole.write(folder / NAME, [text], durable=True)


def written(record: dict[str, Any]) -> str:
    """Return *record* as JSON, one row a line: people can read it, diff compares it, and it is fast to write."""
    parts = []
    for key, value in record.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            text = (
                "[\n"
                + ",\n".join(json.dumps(row, ensure_ascii=False) for row in value)
                + "\n]"
            )
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def point_latest(folder: Path) -> None:
    """Make `latest`, beside *folder*, a link to it."""
    temporary = folder.parent / ".latest.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    temporary.replace(folder.parent / "latest")


def rfc3339(moment: datetime) -> str:
    # strftime writes the year 500 with three digits
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"
