"""The standard streams of this process: one that is closed is opened, and one without a reader leads nowhere."""

from __future__ import annotations

import os
import sys

from reclaim.base import stdout


def open_closed() -> None:
    """Open the standard streams that are closed: a file or socket that is opened later would take their place."""
    for number, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(number)
        except OSError:
            # the lowest number that is free
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            name = ("stdin", "stdout", "stderr")[number]
            if name == "stdout":
                stdout.was_closed()
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def stop_printing() -> None:
    """Print nowhere: the reader of a pipe is gone, as head(1) is after its lines."""
    # https://docs.python.org/3/library/signal.html#note-on-sigpipe
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
