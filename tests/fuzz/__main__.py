"""Fuzz for long: `python -m tests.fuzz [--seconds N] [--seed N] [--record FILE] [TARGET …]`.

What is a fault is written to tests/fuzz/seeds/TARGET/, from where the tests take it up from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.command import ROOT
from tests.fuzz.drive import give, silence
from tests.fuzz.mutate import random_input
from tests.fuzz.targets import SEEDS, TARGETS, Target, chosen

#: inputs in a row of one target
_BATCH = 20


def main() -> int:
    """Status 1 where there was a fault."""
    options = _parser().parse_args()
    random = Random(options.seed)
    silence()
    counts: Counter[str] = Counter()
    faults: dict[tuple[str, str], Path] = {}
    end = time.monotonic() + options.seconds
    targets = list(chosen(options.targets))
    while time.monotonic() < end:
        one = random.choice(targets)
        for _ in range(_BATCH):
            data = random_input(random, one.seeds)
            counts[one.name] += 1
            if (key := _fault(one, data)) and key not in faults:
                faults[key] = _kept(one, data)
                print(f"{one.name}: {key[1]}: {faults[key].relative_to(ROOT)}", flush=True)  # noqa: T201
    print(f"{sum(counts.values())} inputs, {len(faults)} faults; {dict(sorted(counts.items()))}")  # noqa: T201
    if options.record:
        _add(options.record, counts, len(faults))
    return 1 if faults else 0


def _fault(one: Target, data: bytes) -> tuple[str, str] | None:
    """Which fault an input shows: its target, and exception and place."""
    try:
        give(one, data)
    except Exception as exc:  # noqa: BLE001 (every exception is what is looked for)
        frames = traceback.extract_tb(exc.__traceback__)
        last = next((frame for frame in reversed(frames) if "/reclaim/" in frame.filename), frames[-1])
        said = str(exc).partition("\n")[0][:80] if isinstance(exc, AssertionError) else ""
        return one.name, f"{type(exc).__name__} at {Path(last.filename).name}:{last.lineno} {said}".strip()
    return None


def _kept(one: Target, data: bytes) -> Path:
    path = SEEDS / one.name / hashlib.sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _add(path: Path, counts: Counter[str], faults: int) -> None:
    """Add up what was tried, over all passes."""
    known: dict[str, Any] = {"counts": {}, "faults": 0}
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
    total = Counter(known["counts"]) + counts
    document = {"counts": dict(sorted(total.items())), "faults": known["faults"] + faults}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the parsers.")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--record", type=Path, help="a file that what was tried is added to")
    parser.add_argument("targets", metavar="TARGET", nargs="*", choices=[[], *TARGETS], help="(default: all)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
