"""How the command starts pytest: on its own checks, with its own configuration, and without other plugins."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

from reclaim import options
from reclaim.base import streams, typed
from reclaim.base.home import CHECKS, HOME, PACKAGE
from reclaim.base.text import printable, trouble
from reclaim.habits import Start

_CONFIGURATION = PACKAGE / "run.ini"
#: plugins of pytest that reclaim is made with, by the names of their entry points. Others are left out:
#: a plugin that reorders or repeats tests must not get at guests
_PLUGINS = ("metadata", "html", "pytest11.testinfra")
#: parts of pytest for other tests than checks; they have no options
_UNUSED = ("unittest", "subtests")
#: a list of rows has no page, unless one of the others asks for it
_LISTING = ("--co", "--collect-only")
_OF_PAGE = ("--html", "--css", "--self-contained-html")


def run(verb: str, words: list[str]) -> int:
    """Run `reclaim audit`, `plan` or `fix` with *words* behind it. Return the exit status."""
    arguments = [
        *("-c", str(_CONFIGURATION)),
        *("--rootdir", str(HOME)),
        *("--confcutdir", str(HOME)),
        "--disable-plugin-autoload",
        *_loaded(words),
        *(word for name in _UNUSED for word in ("-p", f"no:{name}")),
        *([] if verb == "audit" else [f"--{verb}"]),
        str(CHECKS),
    ]
    os.environ.pop("PYTEST_PLUGINS", None)  # they are for the user's own tests
    start = Start(verb, tuple(words))
    status = _started(start, [*arguments, *words])
    _note_refusal(start, status)
    return status


def _started(start: Start, arguments: list[str]) -> int:
    """Run pytest with *arguments*. Return the exit status."""
    if typed.here() is None:
        return _refuse("the current folder is gone: change to another")
    try:
        status = int(pytest.main(arguments, plugins=[start]))
        if sys.stdout is not None:
            sys.stdout.flush()
    except (
        KeyboardInterrupt
    ):  # pytest hears it itself from the moment in which its session begins
        print("reclaim: stopped before anything was judged", file=sys.stderr)  # noqa: T201
        return int(pytest.ExitCode.INTERRUPTED)
    except BrokenPipeError:
        streams.stop_printing()
        return 1
    except (
        OSError
    ) as exc:  # from pytest's reporter: reclaim's own files have their lines
        streams.stop_printing()
        _refuse(f"the output cannot be written: {trouble(exc)}")
        return 1
    return status


def _note_refusal(start: Start, status: int) -> None:
    """Write the file of --run-json if the run ended before the plugin could do that."""
    if not start.mistakes:
        return
    from reclaim.report import run_json  # noqa: PLC0415 (start-up)

    path = _file_named(start.words, run_json.FLAG)
    if path is None:
        return
    try:
        run_json.begin(path)
    except OSError:
        return  # the command line is wrong in this too
    lost = run_json.write(path, None, start.verb, status, start.mistakes)
    if lost:
        _say(f"reclaim: {lost}")


def _file_named(words: Sequence[str], flag: str) -> Path | None:
    """Return the file that *flag* names in *words*, which may be wrong otherwise; None if there is none."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument(flag, dest="file", type=options.place)
    before = words[: words.index("--")] if "--" in words else words
    try:
        known, _ = parser.parse_known_args(list(before))
    except argparse.ArgumentError:
        return None
    return known.file if isinstance(known.file, Path) else None


def _refuse(why: str) -> int:
    """Print *why* as pytest prints a wrong usage, and return its status."""
    _say(f"ERROR: {why}")
    return int(pytest.ExitCode.USAGE_ERROR)


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr)  # noqa: T201


def show_pytests_help() -> int:
    """Print the help of pytest with its own options and those of reclaim."""
    arguments = [*_loaded([]), "--disable-plugin-autoload", "--help"]
    return int(
        pytest.main(["-c", str(_CONFIGURATION), *arguments], plugins=[Start("audit")])
    )


def _loaded(words: Sequence[str]) -> list[str]:
    """Return the options that load the plugins for a run with *words* behind its verb."""
    names = {entry.name for entry in metadata.entry_points(group="pytest11")}
    if _only_lists(words):
        names.discard("html")
    chosen = [name for name in _PLUGINS if name in names]
    return [word for name in (*chosen, "reclaim.asleep") for word in ("-p", name)]


def _only_lists(words: Sequence[str]) -> bool:
    """True if *words* ask for a list of the rows, and not for a page."""
    flags = [word.partition("=")[0] for word in words]
    return not {*_LISTING}.isdisjoint(flags) and {*_OF_PAGE}.isdisjoint(flags)
