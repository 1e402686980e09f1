"""The beginning of the command `reclaim`: it loads the rest, so that Ctrl-C ends it in one line meanwhile too."""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> int:
    """Load the command and do what the command line asks. Return the exit status: 2 if Ctrl-C came while it loaded."""
    try:
        command = import_module("reclaim.__main__")
    except KeyboardInterrupt:
        print("reclaim: stopped before anything was done", file=sys.stderr)  # noqa: T201
        return 2
    return int(command.main())
