"""Writes docs/matrix.md: `python3 -m lab.matrix.page`."""

from __future__ import annotations

import sys
from pathlib import Path

from lab.matrix import CASES, Case
from reclaim.requirement import catalogue

PATH = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"
_LETTERS = {"compliant": ".", "fixed": "+", "noncompliant": "F", "not-applicable": "-", "not-assessable": "?"}
_HEAD = """\
# The lab matrix

Real guests, each built from Debian's packages, booted, audited and, where the second table has it, mended with
`--fix --restart` by `tests/guest/test_matrix.py`, which compares every verdict with the ones here.
Both tables are written from `lab/matrix/__init__.py` by `python3 -m lab.matrix.page`.

The letters are those of the terminal: `.` compliant, `F` noncompliant, `?` not assessable, `-` not applicable,
`+` fixed. Where a guest has several disks and they differ, there is a letter for each.
"""


def page() -> str:
    """Return the text of docs/matrix.md."""
    return "\n".join([_HEAD, *_guests(), "", *_audited(), "", *_mended(), "", *_left(), ""])


def slugs() -> list[str]:
    """The requirements that a guest or its disks have by default, in their order."""
    return [
        one.slug
        for one in catalogue().values()
        if {"guest", "disk"} & set(one.parameters) and not one.option and not one.policy
    ]


def _guests() -> list[str]:
    lines = ["## The guests", "", "| guest | machine | disks | what it is |", "|---|---|---|---|"]
    for case in CASES:
        disks = ", ".join(f"{disk.image} ({disk.bus}{', unmap' if disk.discard else ''})" for disk in case.disks)
        lines.append(f"| {case.name} | {case.machine}{', OVMF' if case.firmware else ''} | {disks} | {case.about} |")
    return lines


def _audited() -> list[str]:
    return ["## What the audit says", "", *_table({case.name: _row(case, mended=False) for case in CASES})]


def _mended() -> list[str]:
    rows = {case.name: _row(case, mended=True) for case in CASES if case.mended}
    return [
        "## What `--fix --restart` says",
        "",
        "A second run changes nothing, and every mount is there again. Mending writes new initramfs images: where the",
        "old ones are more than is tolerated, `trim-backlog` is `+` as well, or waits for a `disc-max` that stays `F`.",
        "",
        *_table(rows),
    ]


def _left() -> list[str]:
    lines = [
        "What must stay as it is, and the words of the reason:",
        "",
        "| guest | requirement | reason |",
        "|---|---|---|",
    ]
    for case in CASES:
        lines += [f"| {case.name} | {slug} | … {words} … |" for slug, words in case.left.items()]
    return lines


def _table(rows: dict[str, list[str]]) -> list[str]:
    head = "| guest | " + " | ".join(slugs()) + " |"
    return [head, "|---" * (len(slugs()) + 1) + "|", *(f"| {name} | {' | '.join(row)} |" for name, row in rows.items())]


def _row(case: Case, *, mended: bool) -> list[str]:
    expected = case.mended if mended and case.mended else case.audit
    found = []
    for slug in slugs():
        letters = [_LETTERS[expected.verdict(slug, disk)] for disk in case.targets]
        found.append(f"`{letters[0] if len(set(letters)) == 1 else ''.join(letters)}`")
    return found


def main() -> int:
    """Write the page."""
    PATH.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
