"""The table of faults: `python -m tests.faults.page` runs what counts, and writes docs/faults.md.

What was counted stays in docs/faults.json, by test; a run of some of them only (`--only WORD`) keeps the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.command import ROOT
from tests.faults.table import FAULTS, Fault

COUNTS = ROOT / "docs/faults.json"
PAGE = ROOT / "docs/faults.md"
#: the names of counts that are plural, for a single one
_ONE = {
    "addresses": "address",
    "changes": "change",
    "cuts": "cut",
    "cycles": "cycle",
    "deaths of libvirtd": "death of libvirtd",
    "guests": "guest",
    "inputs": "input",
    "kills": "kill",
    "points": "point",
    "runs": "run",
    "states": "state",
}
_HEAD = """# Faults, and how reclaim behaves then

Each row is a fault that a machine, a person or a guest can cause while reclaim runs. The test in the third column
shows how reclaim behaves. The last column has the counts that the tests recorded in docs/faults.json when
`make faults-table` last ran. `make test` runs a part of these tests each time. `make kills`, `make soak` and
`make fuzz` run all of them.

"""


def main() -> int:
    options = _parser().parse_args()
    known: dict[str, Any] = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.exists() else {}
    if options.noted:
        known.update(gathered(options.noted))
    elif not options.page_alone:
        known.update(_counted(options.only))
    if options.fuzz:
        known["fuzz"] = json.loads(options.fuzz.read_text(encoding="utf-8"))
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    COUNTS.write_text(text, encoding="utf-8")
    PAGE.write_text(page(json.loads(text)), encoding="utf-8")
    print(PAGE)  # noqa: T201
    return 0


def _counted(only: str | None) -> dict[str, Any]:
    """Run the tests that count, and gather what they noted."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = ["-k", only] if only else []
        command = [sys.executable, "-m", "pytest", "-q", "tests/faults", "tests/fuzz", "tests/guest", *chosen]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "RECLAIM_FAULTS": folder}, check=False)
        return gathered(Path(folder))


def gathered(folder: Path) -> dict[str, Any]:
    """What tests noted in *folder*, by their node ids."""
    noted = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return {one["test"]: one["counts"] for one in noted}


def page(known: dict[str, Any]) -> str:
    rows = ["| fault | behaviour | shown by | counted |", "|---|---|---|---|"]
    rows += [f"| {one.fault} | {one.happens} | `{one.test}` | {_words(one, known)} |" for one in FAULTS]
    return _HEAD + "\n".join(rows) + "\n"


def _words(one: Fault, known: dict[str, Any]) -> str:
    """The counts of a test, or of all that a row of many is made of."""
    found: dict[str, int] = {}
    for test, counts in known.items():
        if test == one.test or test.startswith((one.test + "[", one.test + "::")):
            for name, count in counts.items():
                found[name] = found.get(name, 0) + count
    if one.fuzzed and "fuzz" in known:
        found["inputs of long runs"] = sum(known["fuzz"]["counts"].values())
    counted = {name: count for name, count in found.items() if count and not name.startswith("ended with")}
    shown = [_in_words(count, name) for name, count in counted.items()]
    return ", ".join(shown) or "–"


def _in_words(count: int, name: str) -> str:
    return f"{count} {_ONE.get(name, name) if count == 1 else name}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.page", description="Write docs/faults.md.")
    parser.add_argument("--only", metavar="WORD", help="run these tests alone (pytest's -k)")
    parser.add_argument("--page-alone", action="store_true", help="run nothing: the page from what was counted before")
    parser.add_argument("--noted", type=Path, help="run nothing: take what tests noted in this folder")
    parser.add_argument("--fuzz", type=Path, help="what `python -m tests.fuzz --record FILE` has written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
