"""`python -m reclaim undo RUN`, `python -m reclaim verify-backup COPY`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reclaim.errors import ReclaimError
from reclaim.hypervisor import Hypervisor, connect
from reclaim.inventory import Inventory
from reclaim.text import printable
from reclaim.undo import undo
from reclaim.verify import verify


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done; 1 not everything could be taken back, or the copy differs; 2 it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m reclaim", description="What is done beside `pytest checks/`.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    take_back = verbs.add_parser("undo", help="take back what a --fix run changed, the last change first")
    take_back.add_argument("run", metavar="RUN", type=Path, help="the run's folder below reports/")
    compare = verbs.add_parser("verify-backup", help="compare a copy with its disk image")
    compare.add_argument("copy", metavar="COPY", help="the copy of a disk image")
    compare.add_argument("--image", help="the image, or a snapshot of it (default: that of the disk whose name fits)")
    compare.add_argument("--uri", help="libvirt URI of the guests (default: qemu:///system)")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "verify-backup":
            return 0 if verify(options.copy, _hypervisor(options), options.image, print) else 1
        return 0 if undo(options.run, print) else 1
    except ReclaimError as exc:
        print(f"reclaim: {printable(str(exc))}", file=sys.stderr)  # noqa: T201
        return 2


def _hypervisor(options: argparse.Namespace) -> Hypervisor | None:
    """The hypervisor whose guests' disks may be meant; None where the image is given and no libvirt answers."""
    try:
        return connect(options.uri, None, Inventory(), readonly=True)
    except ReclaimError:
        if options.image is None or options.uri is not None:
            raise
        return None


if __name__ == "__main__":
    sys.exit(main())
