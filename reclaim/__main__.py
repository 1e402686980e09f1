"""The command `reclaim`: audit, plan and fix are runs of pytest, the other verbs need none.

A verb imports its own modules, in its functions: no verb waits for those of the others.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import libvirt
except ModuleNotFoundError as exc:
    raise SystemExit(
        f"reclaim: {sys.executable} has no libvirt binding: install the distribution's (python3-libvirt; "
        "Arch: libvirt-python), and reclaim in a venv that sees it (pipx install --system-site-packages); "
        "or install reclaim[libvirt], which builds one"
    ) from exc

from reclaim import __version__, verbs
from reclaim.base import home, nearest, streams
from reclaim.base.errors import Mistakes, ReclaimError
from reclaim.base.text import dotted, printable, trouble
from reclaim.files import there
from reclaim.processes import bytecode, programs
from reclaim.verbs import RUNS, Verb

if TYPE_CHECKING:
    from reclaim.handles.hypervisor import Hypervisor

_HELP = ("help", "--help", "-h")
_VERSION = ("--version", "-V")
#: the signals of kill(1), and of a terminal that goes away
_STOPPING = (signal.SIGTERM, signal.SIGHUP)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks. Return the exit status.

    A run of pytest has its own statuses (docs/usage.md). Else: 0 done, 1 not everything could be taken back or
    something newly broke, 2 wrong use.
    """
    streams.open_closed()
    home.make_importable()
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        print(_overview(), file=sys.stderr)  # noqa: T201
        return 2
    name, *behind = words
    if name in _VERSION:
        return _show(versions())
    if name in _HELP:
        return _help(behind)
    if name in {verb.name for verb in RUNS}:
        return _run(name, behind)
    verb = _BY_NAME.get(name)
    if verb is None:
        return _refuse(_no_such_verb(name))
    return _do(verb, behind)


def _run(name: str, words: list[str]) -> int:
    if any(word in _VERSION for word in words):
        return _show(versions())
    if any(word in ("--help", "-h") for word in words):
        return _help([name])
    try:
        from reclaim import started  # noqa: PLC0415 (start-up)
    except KeyboardInterrupt:
        return _refuse("stopped before anything was judged")
    return started.run(name, words)


def _do(verb: Verb, words: list[str]) -> int:
    try:
        options_of_verb = verbs.parser(verb).parse_args(words)
    except KeyboardInterrupt:
        return _refuse("stopped before anything was done")
    programs.guard()
    bytecode.guard()
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a name that the locale does not have must stop no undo half way
        sys.stdout.reconfigure(errors="backslashreplace")
    for number in _STOPPING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        status = verb.run(options_of_verb)
    except KeyboardInterrupt:
        return _refuse("stopped: the same command takes it up again")
    except BrokenPipeError:
        streams.stop_printing()
        return 0
    except Mistakes as exc:
        return _refuse("\n".join(exc.lines))
    except ReclaimError as exc:
        return _refuse(printable(str(exc)))
    except OSError as exc:
        return _refuse(printable(trouble(exc)))
    try:
        sys.stdout.flush()
    except OSError as exc:
        return _print_no_more(exc) or int(status)
    return int(status)


def _interrupt(number: int, _frame: object) -> None:
    """Do as Ctrl-C does: what was started ends, and connections are closed."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _no_such_verb(name: str) -> str:
    known = [*(verb.name for verb in RUNS), *_BY_NAME, "help"]
    if name.startswith("-"):
        return f"{printable(name)}: begin with a verb: {', '.join(known)}"
    hint = nearest.near(name, known) or f" (there are: {', '.join(known)})"
    return f"{printable(name)}: there is no such verb{hint}"


def _help(words: list[str]) -> int:
    """Print the help of the whole command, of a verb, or of pytest."""
    if not words:
        return _show(_overview())
    name = words[0]
    if name == "pytest":
        from reclaim import started  # noqa: PLC0415 (start-up)

        return started.show_pytests_help()
    for run in RUNS:
        if run.name == name:
            return _show(verbs.help_of_run(run))
    if name in _BY_NAME:
        return _show(verbs.parser(_BY_NAME[name]).format_help().rstrip())
    return _refuse(_no_such_verb(name))


def _overview() -> str:
    return verbs.overview((("look, and mend", RUNS), *GROUPS))


def _undo(given: argparse.Namespace) -> int:
    from reclaim.engine import journal, undo  # noqa: PLC0415 (start-up)

    folder = _found(given, given.run_, journal.NAME)
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        _say(text)

    is_whole = undo.undo(folder, say, given.inventory, given.uri)
    if is_whole and not lines:
        _say("nothing is left to take back: every change of this run was taken back")
    return 0 if is_whole else 1


def _verify(given: argparse.Namespace) -> int:
    from reclaim.backups import verify  # noqa: PLC0415 (start-up)

    if not os.path.lexists(given.copy):
        raise ReclaimError(f"{given.copy}: there is no such file")
    return 0 if verify.verify(given.copy, _hypervisor(given), given.image, _say) else 1


def _found(given: argparse.Namespace, name: str, holds: str = "") -> Path:
    """Return the run that the user calls *name*."""
    from reclaim.record import runs  # noqa: PLC0415 (start-up)

    return runs.find(name, given.reports or home.reports(), holds)


def _report(given: argparse.Namespace) -> int:
    from reclaim.record import record  # noqa: PLC0415 (start-up)
    from reclaim.report import page, publish  # noqa: PLC0415 (start-up)

    folders = [_found(given, name) for name in given.runs]
    if given.output is None and len(folders) > 1:
        raise ReclaimError("one page of several runs: name the page with --output FILE")
    path = given.output or record.path_of(folders[0]).parent / page.NAME
    publish.write_report(folders, path, shared=given.output is not None)
    return _show(path)


def _diff(given: argparse.Namespace) -> int:
    from reclaim.record import record  # noqa: PLC0415 (start-up)
    from reclaim.report import compare  # noqa: PLC0415 (start-up)

    paths = [record.path_of(_found(given, name)) for name in (given.before, given.now)]
    before, now = map(record.read, paths)
    if paths[0].samefile(paths[1]):
        return _show("note: both are the same run: there is nothing to compare")
    if (
        before.hypervisor.uri != now.hypervisor.uri
        or before.hypervisor.name != now.hypervisor.name
    ):
        _show(
            f"note: two hypervisors, {printable(before.hypervisor.name)} and {printable(now.hypervisor.name)}"
        )
    comparison = compare.compare([before], now)
    for line in compare.lines(comparison):
        _say(line)
    return 1 if comparison.broken else 0


def _index(given: argparse.Namespace) -> int:
    from reclaim.report import archive  # noqa: PLC0415 (start-up)

    if given.keep is not None and given.keep < 1:
        raise ReclaimError(f"--keep {given.keep}: keep at least one run")
    reports = given.reports or home.reports()
    if not there.is_folder(reports):
        raise ReclaimError(f"{reports}: there is no such folder")
    return _show(archive.update(reports, given.keep))


def _rules(given: argparse.Namespace) -> int:
    from reclaim import rules  # noqa: PLC0415 (start-up)

    if given.json:
        return _show(rules.as_json(given.slugs))
    if not given.slugs:
        return _show(rules.overview())
    return _show("\n\n\n".join(map(rules.whole, given.slugs)))


def _inventory(given: argparse.Namespace) -> int:
    from reclaim.inventories import verbs as inventory_verbs  # noqa: PLC0415 (start-up)

    def say(text: str) -> None:
        _say(printable(text))

    def show(text: str) -> int:
        return _show(text, end="")

    return inventory_verbs.run(given, inventory_verbs.Printer(say, show))


def _timer(given: argparse.Namespace) -> int:
    from reclaim.timer import verb as timer_verb  # noqa: PLC0415 (start-up)

    return timer_verb.run(given, _say)


def _merge(given: argparse.Namespace) -> int:
    from reclaim.database import verb as database_verbs  # noqa: PLC0415 (start-up)

    return database_verbs.run_merge(given, _say, _warn)


def _ask(given: argparse.Namespace) -> int:
    from reclaim.database import verb as database_verbs  # noqa: PLC0415 (start-up)

    return database_verbs.run_ask(given, _say, _warn)


def _new(given: argparse.Namespace) -> int:
    from reclaim import scaffold  # noqa: PLC0415 (start-up)

    order = scaffold.Order(given.slug, given.title, given.handle, given.stage)
    scaffold.new(order, _say)
    return 0


def versions() -> str:
    """Return the versions on which a report of a fault depends, on one line."""
    python, library = platform.python_version(), dotted(libvirt.getVersion())
    tests = metadata.version("pytest")
    return f"reclaim {__version__} (Python {python}, pytest {tests}, libvirt {library})"


def _say(text: str) -> None:
    try:
        print(printable(text, lines=True), flush=True)  # noqa: T201
    except OSError as exc:  # no reason to stop an undo half way
        _print_no_more(exc)


def _warn(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


def _show(text: object, end: str = "\n") -> int:
    try:
        print(text, end=end, flush=True)  # noqa: T201
    except OSError as exc:
        return _print_no_more(exc)
    return 0


def _print_no_more(exc: OSError) -> int:
    """Print nothing more to standard output. Return 0 if its reader is gone, and 2 if it takes nothing."""
    streams.stop_printing()
    if isinstance(exc, BrokenPipeError):
        return 0
    return _refuse(f"the output cannot be written: {trouble(exc)}")


def _refuse(why: str) -> int:
    print(f"reclaim: {why}", file=sys.stderr)  # noqa: T201
    return 2


# Arguments ------------------------------------------------------------------------------------


def _declare_reports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reports",
        metavar="DIR",
        type=Path,
        help="the folder of the reports in which RUN is looked for (default: that of the runs)",
    )


def _declare_undo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_",
        metavar="RUN",
        help="the run: its folder, its name or the beginning of that, or latest",
    )
    parser.add_argument(
        "--inventory",
        metavar="FILE",
        type=Path,
        help="how to get into guests (default: that of the run)",
    )
    parser.add_argument(
        "--uri",
        help="the run's libvirt URI: required if it runs a command (default: as the journal has it)",
    )
    _declare_reports(parser)


def _declare_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("copy", metavar="COPY", help="the copy of a disk image")
    parser.add_argument(
        "--image",
        help="the image, or a snapshot of it (default: that of the disk with a matching name)",
    )
    verbs.declare_uri(parser)


def _declare_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="a run: its folder or results.json, its name or the beginning of that, or latest",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="the page to write (default: report.html of the run)",
    )
    _declare_reports(parser)


def _declare_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="RUN", help="the earlier run")
    parser.add_argument("now", metavar="RUN", help="the later run, such as latest")
    _declare_reports(parser)


def _declare_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "reports",
        metavar="REPORTS",
        type=Path,
        nargs="?",
        help="the folder of the reports (default: that of the runs)",
    )
    parser.add_argument(
        "--keep",
        metavar="N",
        type=int,
        help="keep the newest N runs of each hypervisor, and every run that can still be undone; remove the others",
    )


def _declare_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "slugs", metavar="SLUG", nargs="*", help="a requirement, such as disk-bus"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _declare_new(parser: argparse.ArgumentParser) -> None:
    from reclaim import scaffold  # noqa: PLC0415 (start-up)
    from reclaim.requirement import STAGES  # noqa: PLC0415 (start-up)

    parser.add_argument("slug", metavar="SLUG", help="its name, such as disk-serial")
    parser.add_argument(
        "title",
        metavar="TITLE",
        help="the good state, such as 'The disk has a serial number'",
    )
    parser.add_argument(
        "--for",
        dest="handle",
        metavar="HANDLE",
        required=True,
        help=", ".join(scaffold.HANDLES),
    )
    parser.add_argument(
        "--stage", metavar="STAGE", required=True, help=", ".join(STAGES)
    )


def _declare_inventory(parser: argparse.ArgumentParser) -> None:
    from reclaim.inventories import verbs as inventory_verbs  # noqa: PLC0415 (start-up)

    inventory_verbs.declare(parser)


def _declare_timer(parser: argparse.ArgumentParser) -> None:
    from reclaim.timer import verb as timer_verb  # noqa: PLC0415 (start-up)

    timer_verb.declare(parser)


def _declare_merge(parser: argparse.ArgumentParser) -> None:
    from reclaim.database import verb as database_verbs  # noqa: PLC0415 (start-up)

    database_verbs.declare_merge(parser)


def _declare_ask(parser: argparse.ArgumentParser) -> None:
    from reclaim.database import verb as database_verbs  # noqa: PLC0415 (start-up)

    database_verbs.declare_ask(parser)


#: a new verb has a row here, in the group in which the help lists it
GROUPS: tuple[tuple[str, tuple[Verb, ...]], ...] = (
    (
        "after a run",
        (
            Verb(
                "undo",
                "take back the changes of a fix, the last change first",
                _declare_undo,
                _undo,
            ),
            Verb(
                "report",
                "make report.html of a run again; one page of several runs",
                _declare_report,
                _report,
            ),
            Verb(
                "diff",
                "compare two runs; status 1 if something newly broke",
                _declare_diff,
                _diff,
            ),
            Verb("index", "make index.html of all runs again", _declare_index, _index),
            Verb(
                "merge",
                "merge the runs of many hypervisors into one SQLite file",
                _declare_merge,
                _merge,
            ),
            Verb(
                "ask",
                "ask that file: who is silent, the worst, bytes, newly broken, or SQL",
                _declare_ask,
                _ask,
            ),
        ),
    ),
    (
        "more",
        (
            Verb(
                "inventory",
                "write an inventory, check it, or explain what it means for a guest",
                _declare_inventory,
                _inventory,
            ),
            Verb(
                "verify-backup",
                "compare a copy with its disk image; status 1 if it differs",
                _declare_verify,
                _verify,
            ),
            Verb(
                "rules",
                "list the requirements, or explain one",
                _declare_rules,
                _rules,
            ),
            Verb(
                "timer",
                "audit on a schedule of systemd: install, remove, status",
                _declare_timer,
                _timer,
            ),
            Verb(
                "new",
                "write a new requirement into this checkout: check, fixer, test, and its rows",
                _declare_new,
                _new,
            ),
        ),
    ),
)
_BY_NAME = {verb.name: verb for _, group in GROUPS for verb in group}


def _hypervisor(given: argparse.Namespace) -> Hypervisor | None:
    """The hypervisor whose guests' disks may be meant; None if the image is given and no libvirt answers."""
    from reclaim.handles import hypervisor  # noqa: PLC0415 (start-up)
    from reclaim.inventory import Inventory  # noqa: PLC0415 (start-up)

    try:
        return hypervisor.connect(given.uri, None, Inventory(), readonly=True)
    except ReclaimError:
        if given.image is None or given.uri is not None:
            raise
        return None


if __name__ == "__main__":
    sys.exit(main())
