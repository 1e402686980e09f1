"""The road from end to end, on a guest as they were in 2013: audit, plan, fix, power cycle, proof.

Every step is the command that a user types; nothing here looks into reclaim itself.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import guest as lab
from lab import machines

ROOT = Path(__file__).resolve().parent.parent
NAME = "reclaim-lab-2013"
CHURN_MIB = 300
LOCKED_SECONDS = 600


@dataclass(frozen=True)
class Step:
    """One command of the road: what it is typed for, its options, and the exit status it must end with."""

    title: str
    options: tuple[str, ...]
    status: int


ROAD = (
    Step("The audit finds every fault, and changes nothing", (), 1),
    Step("The plan shows each change, and changes nothing", ("--plan",), 1),
    Step("The fix mends what needs no power cycle; the rest is pending", ("--fix",), 1),
    Step("The fix with a power cycle mends the rest", ("--fix", "--restart"), 0),
    Step("The audit has nothing to say any more", (), 0),
)


def command_for(name: str, reports: Path, *options: str) -> list[str]:
    """Return the command by which a user runs `pytest checks/` for the guest *name*, or the guests of a glob."""
    return [
        sys.executable,
        "-m",
        "pytest",
        "checks/",
        "--guests",
        name,
        "--reports",
        str(reports),
        *options,
    ]


def audit(name: str, reports: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `pytest checks/` for the guest *name* as a user would, and return what it said.

    Somebody else's --fix on the same hypervisor is waited for.
    """
    command = command_for(name, reports, *options)
    deadline = time.monotonic() + LOCKED_SECONDS
    while True:
        done = subprocess.run(
            command, cwd=ROOT, text=True, capture_output=True, check=False
        )
        if (
            "another --fix is under way" not in done.stderr
            or time.monotonic() > deadline
        ):
            return done
        time.sleep(1)


def record(reports: Path) -> dict[str, Any]:
    """The results.json of the latest run."""
    (latest,) = reports.glob("*/latest/results.json")
    found: dict[str, Any] = json.loads(latest.read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Walk the road; exit status 1 where a step does not end as it must."""
    reports = ROOT / "reports"
    say(
        f"Making the guest {NAME}: {machines.here(machines.OLD)}, a virtio disk, "
        "/dev/vda1 in fstab, no discard, no timer"
    )
    lab.destroy(NAME)
    made = lab.create(NAME)
    try:
        before = lab.allocated(made)
        lab.churn(made, CHURN_MIB)
        grown = lab.allocated(made)
        say(
            f"The guest wrote and deleted {CHURN_MIB} MiB: its image went from {mib(before)} to {mib(grown)}"
        )
        for step in ROAD:
            say(f"{step.title}: pytest checks/ {shlex.join(step.options)}")
            done = audit(NAME, reports, *step.options)
            print(done.stdout + done.stderr, flush=True)
            if done.returncode != step.status:
                say(f"that ended with status {done.returncode}, not {step.status}")
                return 1
        after = lab.allocated(made)
        say(
            f"The image: {mib(before)} when new, {mib(grown)} with what was deleted in it, {mib(after)} now"
        )
        return 0 if after < grown else 1
    finally:
        lab.destroy(NAME)


def mib(count: int) -> str:
    """*count* bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def say(text: str) -> None:
    print(f"\n==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
