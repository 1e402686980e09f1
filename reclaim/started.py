"""How the command starts pytest: on its own checks, with its own configuration, and without other plugins."""

from __future__ import annotations

import os
import sys
from importlib import metadata

import pytest

from reclaim.base.home import CHECKS, HOME, PACKAGE
from reclaim.habits import Start

_CONFIGURATION = PACKAGE / "run.ini"
#: plugins of pytest that reclaim is made with, by the names of their entry points. Others are left out:
#: a plugin that reorders or repeats tests must not get at guests
_PLUGINS = ("metadata", "html", "pytest11.testinfra")


def run(verb: str, words: list[str]) -> int:
    """Run `reclaim audit`, `plan` or `fix` with *words* behind it. Return the exit status."""
    arguments = [
        *("-c", str(_CONFIGURATION)),
        *("--rootdir", str(HOME)),
        *("--confcutdir", str(HOME)),
        "--disable-plugin-autoload",
        *_loaded(),
        *([] if verb == "audit" else [f"--{verb}"]),
        str(CHECKS),
    ]
    start = Start(verb, tuple(words))
    try:
        status = int(pytest.main([*arguments, *words], plugins=[start]))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        stop_printing()
        return 1
    return status


def stop_printing() -> None:
    """Print nowhere: the reader of a pipe is gone, as head(1) is after its lines."""
    # https://docs.python.org/3/library/signal.html#note-on-sigpipe
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_pytests_help() -> int:
    """Print the help of pytest with its own options and those of reclaim."""
    arguments = [*_loaded(), "--disable-plugin-autoload", "--help"]
    return int(
        pytest.main(["-c", str(_CONFIGURATION), *arguments], plugins=[Start("audit")])
    )


def _loaded() -> list[str]:
    names = {entry.name for entry in metadata.entry_points(group="pytest11")}
    chosen = [name for name in _PLUGINS if name in names]
    return [word for name in (*chosen, "reclaim.asleep") for word in ("-p", name)]
