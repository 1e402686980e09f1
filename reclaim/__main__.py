"""`python -m reclaim undo RUN`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reclaim.errors import ReclaimError
from reclaim.text import printable
from reclaim.undo import undo


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 not everything could be taken back, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="python -m reclaim", description="What is done beside `pytest checks/`.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    take_back = verbs.add_parser("undo", help="take back what a --fix run changed, the last change first")
    take_back.add_argument("run", metavar="RUN", type=Path, help="the run's folder below reports/")
    options = parser.parse_args(arguments)
    try:
        return 0 if undo(options.run, print) else 1
    except ReclaimError as exc:
        print(f"reclaim: {printable(str(exc))}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
