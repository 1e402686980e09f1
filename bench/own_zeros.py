"""Scan, punch or rewrite one file as the sparse-backup check and its fixer do, and print the seconds that it took.

python -m bench.own_zeros scan|punch|rewrite FILE
"""

from __future__ import annotations

import json
import sys
import time

from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.files import holes
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory


def main() -> int:
    kind, path = sys.argv[1:]
    # a change asks whether a guest uses the file; here no guest does
    hypervisor = connect("test:///default", None, Inventory())
    used, started = time.process_time(), time.perf_counter()
    scan = holes.scan(path)
    if kind == "punch":
        HolePunch.of(path, scan).apply(hypervisor)
    elif kind == "rewrite":
        SparseRewrite.of(path, scan).apply(hypervisor)
    took = {
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - used,
        "excess": scan.excess,
    }
    sys.stdout.write(f"{json.dumps(took)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
