"""What `--prove` costs, beside what the guest itself needs to write, sync, delete and trim as much.

    python -m bench.prove [--canary 64] [--rounds 3]

In one real guest, in turn, in one run: the proof of its root filesystem, and one command in the guest that does the
same without anybody who counts. The constant is what the proof of the smallest canary takes beyond the guest's own
time for that; the median of the rounds counts. Ends with 1 where the rest is above the target. Skipped where no guest
can run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from lab import guest as lab
from lab import host
from lab.guest import LabGuest
from reclaim.base.errors import ProbeError
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory, Policy
from reclaim.space.proof import prove

TARGET = 1.3
SMALLEST = 4
NAME = "reclaim-lab-bench-prove"
_OWN = (
    "set -e; f=/var/tmp/own; dd if=/dev/urandom of=$f bs=1M count={} conv=fsync status=none; sync -f /; "
    "rm $f; sync -f /; fstrim -v / >/dev/null"
)


def main() -> int:
    arguments = _parser().parse_args()
    if reasons := host.missing():
        sys.stdout.write(
            f"prove: skipped, no real guest can run here: {'; '.join(reasons)}\n"
        )
        return 0
    lab.destroy(NAME)
    made = lab.create(NAME, machine="pc", discard="unmap")
    try:
        ours: dict[int, list[float]] = {SMALLEST: [], arguments.canary: []}
        own: dict[int, list[float]] = {SMALLEST: [], arguments.canary: []}
        guest = _seen(made.name)
        for _ in range(arguments.rounds):
            for size, times in ours.items():
                own[size].append(_by_itself(made, size))
                times.append(_proof(guest, size))
    finally:
        lab.destroy(NAME)
    constant = statistics.median(ours[SMALLEST]) - statistics.median(own[SMALLEST])
    ratio = (statistics.median(ours[arguments.canary]) - constant) / statistics.median(
        own[arguments.canary]
    )
    lines = (
        f"{arguments.canary} MiB in a real guest ({host.accelerator()}); median of {arguments.rounds} rounds:",
        f"  pytest checks/ --prove, of it the proof  {_seconds(ours[arguments.canary])}",
        f"  constant (by one of {SMALLEST} MiB)               {constant:6.2f} s",
        f"  the guest by itself                      {_seconds(own[arguments.canary])}",
        f"  ratio without the constant {ratio:.2f} (target: at most {TARGET:.1f})",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if ratio <= TARGET else 1


def _seen(name: str) -> Guest:
    """The guest as reclaim has it, looked into once."""
    hypervisor = connect(host.URI, None, Inventory())
    guest = next(one for one in hypervisor.guests if one.name == name)
    if isinstance(problem := guest.look_inside(), ProbeError):
        raise SystemExit(f"prove: nothing to be measured: {problem}")
    return guest


def _proof(guest: Guest, mebibytes: int) -> float:
    """Seconds for the proof of the guest's one filesystem."""
    guest.learned.clear()
    guest.hypervisor.inventory = Inventory(policy=Policy(canary_mib=mebibytes))
    started = time.perf_counter()
    (one,) = prove(guest)
    seconds = time.perf_counter() - started
    if not one.holds or one.canary != mebibytes * 1024 * 1024:
        raise SystemExit(f"prove: nothing to be measured: {one.told}")
    return seconds


def _by_itself(made: LabGuest, mebibytes: int) -> float:
    started = time.perf_counter()
    done = lab.run(made, _OWN.format(mebibytes))
    if done.code != 0:
        raise SystemExit(f"prove: the guest failed: {done.err}")
    return time.perf_counter() - started


def _seconds(rounds: list[float]) -> str:
    return f"{statistics.median(rounds):6.2f} s  ({', '.join(f'{one:.2f}' for one in rounds)})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.prove", description="The proof, beside the guest's own time."
    )
    parser.add_argument("--canary", type=int, default=64, help="MiB")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(main())
