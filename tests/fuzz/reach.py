"""Fuzz the deep parsers by what code an input reaches: `python -m tests.fuzz.reach [--seconds N] [TARGET …]`.

Needs atheris (`pip install -e .[fuzz]`). Where it cannot be had this says so and ends well. Inputs that reach
something new are kept in reports/fuzz/TARGET, for the next time.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time

from tests.command import ROOT

DEEP = ("qcow2-header", "snapshot-table", "backup-jobs", "fstab-rewrite", "facts-answer", "boot-entry")
_CORPUS = ROOT / "reports" / "fuzz"


def main() -> int:
    """Status 1 where there was a fault."""
    options = _parser().parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("skipped: fuzzing by coverage: no atheris here (pip install -e .[fuzz])")  # noqa: T201
        return 0
    names = options.targets or DEEP
    failed = [name for name in names if _fuzz(name, max(1, options.seconds // len(names)))]
    for name in failed:
        print(f"{name}: a fault: its input is in {_CORPUS / name}/crash-*")  # noqa: T201
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> bool:
    """Each target in a process of its own: libFuzzer ends it."""
    command = [sys.executable, "-m", "tests.fuzz.reach_one", name, str(seconds)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode != 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.reach", description="Fuzz by coverage.")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**31, help="taken by the other fuzzer")
    parser.add_argument("targets", metavar="TARGET", nargs="*", help=f"(default: {' '.join(DEEP)})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
