"""Writes docs/matrix.md: `python3 -m lab.matrix.page`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.matrix import CASES, Case
from reclaim.requirement import catalogue

PATH = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"
#: the verdicts of the last run of `make matrix`: by guest, by run, by requirement and disk
RECORD = PATH.with_suffix(".json")
_LETTERS = {
    "compliant": ".",
    "fixed": "+",
    "pending": "~",
    "noncompliant": "F",
    "not-applicable": "-",
    "not-assessable": "?",
    "waived": "w",
    "error": "E",
}
_HEAD = """\
# The lab matrix

These are real guests, built from Debian's packages. `tests/guest/test_matrix.py` boots and audits each of them, and
mends those in the second table with `--fix --restart`. Both tables show the verdicts that the last run of `make matrix`
recorded in docs/matrix.json. A cell is blank if that run recorded none. The test compares each verdict with the one
that `lab/matrix/__init__.py` expects.

The letters are those of the terminal: `.` compliant, `F` noncompliant, `?` not assessable, `-` not applicable,
`+` fixed, `~` pending, `w` waived, `E` error. If the disks of a guest have different verdicts, the cell has a letter
for each.
"""


#: the host's bytes of a root's image, in the order in which they are counted
COUNTS = ("mended", "deleted", "trimmed")
#: by guest: "audit" and "mended" with verdicts, "allocated" with bytes
Runs = Mapping[str, Mapping[str, Mapping[str, Any]]]


def recorded() -> Runs:
    """Return the record of the last run: guest, "audit" or "mended", "requirement" or "requirement:disk"."""
    found: Runs = (
        json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    )
    return found


def page(verdicts: Runs) -> str:
    """Return the text of docs/matrix.md with the *verdicts* of a run."""
    return "\n".join(
        [
            _HEAD,
            *_guests(),
            "",
            *_audited(verdicts),
            "",
            *_mended(verdicts),
            "",
            *_left(),
            "",
            *_allocated(verdicts),
            "",
        ]
    )


def slugs() -> list[str]:
    """The requirements that a guest or its disks have by default, in their order."""
    return [
        one.slug
        for one in catalogue().values()
        if {"guest", "disk"} & set(one.parameters) and not one.option and not one.policy
    ]


def _guests() -> list[str]:
    lines = [
        "## The guests",
        "",
        "| guest | machine | disks | description |",
        "|---|---|---|---|",
    ]
    for case in CASES:
        disks = ", ".join(
            f"{disk.image} ({disk.bus}{', unmap' if disk.discard else ''})"
            for disk in case.disks
        )
        lines.append(
            f"| {case.name} | {case.machine}{', OVMF' if case.firmware else ''} | {disks} | {case.about} |"
        )
    return lines


def _audited(verdicts: Runs) -> list[str]:
    return [
        "## Verdicts of the audit",
        "",
        *_table({case.name: _row(case, verdicts, "audit") for case in CASES}),
    ]


def _mended(verdicts: Runs) -> list[str]:
    rows = {case.name: _row(case, verdicts, "mended") for case in CASES if case.mended}
    return [
        "## Verdicts after `--fix --restart`",
        "",
        "A second run changes nothing, and every mount is there again. Mending writes new initramfs images: if the old",
        "ones take more than is tolerated, `trim-backlog` is `+` as well, or waits for a `disc-max` that stays `F`.",
        "",
        *_table(rows),
    ]


def _left() -> list[str]:
    lines = [
        "Requirements that must stay as they are, and words of the reason:",
        "",
        "| guest | requirement | reason |",
        "|---|---|---|",
    ]
    for case in CASES:
        lines += [
            f"| {case.name} | {slug} | … {words} … |"
            for slug, words in case.left.items()
        ]
    return lines


def _allocated(runs: Runs) -> list[str]:
    lines = [
        "## Bytes on the host",
        "",
        "MiB that the root's image takes on the host: once the guest is mended and trimmed, after 64 MiB were written",
        "and deleted in it, and after it is trimmed again.",
        "",
        "| guest | mended | deleted | trimmed |",
        "|---|---|---|---|",
    ]
    for case in CASES:
        counts = runs.get(case.name, {}).get("allocated")
        if counts:
            mebibytes = (f"{counts[name] / 2**20:.0f}" for name in COUNTS)
            lines.append(f"| {case.name} | {' | '.join(mebibytes)} |")
    return lines


def _table(rows: dict[str, list[str]]) -> list[str]:
    head = "| guest | " + " | ".join(slugs()) + " |"
    return [
        head,
        "|---" * (len(slugs()) + 1) + "|",
        *(f"| {name} | {' | '.join(row)} |" for name, row in rows.items()),
    ]


def _row(case: Case, verdicts: Runs, run: str) -> list[str]:
    said = verdicts.get(case.name, {}).get(run, {})
    cells = []
    for slug in slugs():
        letters = [_LETTERS[said[key]] for key in _keys(slug, case) if key in said]
        shown = letters[0] if len(set(letters)) == 1 else "".join(letters)
        cells.append(f"`{shown}`" if shown else "")
    return cells


def _keys(slug: str, case: Case) -> list[str]:
    """The names of a requirement's rows: one of the guest, or one for each disk."""
    return [slug, *(f"{slug}:{disk}" for disk in case.targets)]


def main() -> int:
    """Write the page."""
    PATH.write_text(page(recorded()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
