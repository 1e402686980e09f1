"""pytest's habits in a run of reclaim: paths, -k, --lf, and the options that are refused, each in one line."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reclaim import options
from reclaim.base import nearest
from reclaim.base.home import CHECKS, HOME, make_importable
from reclaim.base.secret import redacted
from reclaim.base.text import printable, some
from reclaim.engine.run import Run
from reclaim.requirement import catalogue

if TYPE_CHECKING:
    from reclaim.record.record import Record

_CACHE = "reclaim keeps no cache: --lf reads the newest records of the reports"
_AT_ONCE = (
    "reclaim looks into all guests at once by itself, and fixes one at a time; "
    "run without it"
)
#: the options of pytest and of other plugins that reclaim cannot obey, by their names in pytest's parser
_REFUSED = {
    "stepwise": (
        "--sw",
        "reclaim finishes one guest before the next; stop with -x, go on with --lf",
    ),
    "stepwise_skip": ("--sw-skip", "reclaim finishes one guest before the next"),
    "stepwise_reset": ("--sw-reset", _CACHE),
    "newfirst": ("--nf", "reclaim judges in the order of guests; new guests as well"),
    "cacheshow": ("--cache-show", _CACHE),
    "cacheclear": ("--cache-clear", _CACHE),
    "pyargs": (
        "--pyargs",
        "the checks are no installed package; -k chooses among them",
    ),
    "doctestmodules": ("--doctest-modules", "the checks have no doctests"),
    "setupplan": ("--setup-plan", "the checks have no set-up; --co lists the rows"),
    "setuponly": ("--setup-only", "the checks have no set-up; --co lists the rows"),
    "numprocesses": ("-n", _AT_ONCE),
    "forked": ("--forked", _AT_ONCE),
    "boxed": ("--boxed", _AT_ONCE),
    "reruns": ("--reruns", "a row is judged once; --lf judges the failed ones again"),
}
#: options of plugins that the command does not load
_FOREIGN = dict([*_REFUSED.values(), ("--dist", _AT_ONCE), ("--tx", _AT_ONCE)])
#: the parts of pytest without which no check is collected, judged or shown
_NEEDED = ("terminal", "python", "runner", "skipping", "debugging", "metadata")
#: parts of an expression of -k
_WORD = re.compile(r"[\w:+\-.\[\]\\/]+")
_OPERATORS = ("and", "or", "not")
#: guests that a message names
_NAMED = 6

#: a row: the URI of its hypervisor, its requirement, guest, disk and path
Key = tuple[str, str, "str | None", "str | None", "str | None"]


@dataclass(frozen=True)
class Start:
    """A plugin for pytest when the command starts it: the verb, and the words that the user typed behind it."""

    verb: str
    words: tuple[str, ...] = ()
    #: the lines with which the command line was refused before reclaim had its options
    mistakes: list[str] = field(default_factory=list, hash=False)

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.prog = f"reclaim {self.verb}"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_parse(self) -> Generator[None, object, object]:
        """Shorten a mistake to its line: pytest adds its usage, and names configuration that is ours."""
        try:
            return (yield)
        except pytest.UsageError as exc:
            self.mistakes.extend(map(_line, map(str, exc.args)))
            raise pytest.UsageError(*self.mistakes) from exc


def _line(text: str) -> str:
    _, is_from_argparse, mistake = text.partition(": error: ")
    return mistake.partition("\n")[0] if is_from_argparse else text


def start_of(config: pytest.Config) -> Start | None:
    """Return how the command started this run, or None if pytest was started by itself."""
    for plugin in config.pluginmanager.get_plugins():
        if isinstance(plugin, Start):
            return plugin
    return None


# Options --------------------------------------------------------------------------------------


def expect_known_options(
    config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    """Raise pytest.UsageError, with one line for each option that does not exist and the nearest that does."""
    _, unknown = parser.parse_known_and_unknown_args(
        args, namespace=copy.copy(config.option)
    )
    flags = dict.fromkeys(
        word.partition("=")[0] for word in unknown if word.startswith("-")
    )
    if not flags:
        return
    ours = [option.flag for option in options.every()]
    known = [*ours, *getattr(parser, "_opt2dest", {})]
    raise pytest.UsageError(*(_unknown_option(flag, known) for flag in flags))


def _unknown_option(flag: str, known: list[str]) -> str:
    for foreign, why in _FOREIGN.items():
        if flag == foreign or (len(foreign) == 2 and flag.startswith(foreign)):
            return f"{printable(flag)}: {why}"
    return f"{printable(flag)}: there is no such option{nearest.near(flag, known)}"


def expect_workable(config: pytest.Config) -> None:
    """Raise pytest.UsageError for an option that would do nothing here, or break the run."""
    option = config.option
    if sys.flags.optimize:
        raise pytest.UsageError(
            "python -O or PYTHONOPTIMIZE: Python leaves out the asserts of the checks, and they accept everything; "
            "run without it"
        )
    for name, (flag, why) in _REFUSED.items():
        if getattr(option, name, None):
            raise pytest.UsageError(f"{flag}: {why}")
    if getattr(option, "dist", "no") != "no":
        raise pytest.UsageError(f"--dist: {_AT_ONCE}")
    for name in _NEEDED:
        if not config.pluginmanager.hasplugin(name):
            raise pytest.UsageError(
                f"-p no:{name}: reclaim needs this part of pytest; to print less give -q"
            )
    if option.importmode == "importlib":
        raise pytest.UsageError(
            "--import-mode importlib: the checks are a package and import each other by name"
        )
    start = start_of(config)
    if start is not None:
        _expect_own_configuration(config, start)


def _expect_own_configuration(config: pytest.Config, start: Start) -> None:
    if config.rootpath != HOME:
        raise pytest.UsageError(
            f"--rootdir: reclaim {start.verb} judges its own checks, in {HOME}"
        )
    if config.inipath is None or config.inipath.name != "run.ini":
        raise pytest.UsageError(
            f"-c: reclaim {start.verb} has a configuration of its own; give options on the command line"
        )
    if start.verb != "fix" and config.option.fix:
        other = "changes nothing" if start.verb == "audit" else "only shows changes"
        raise pytest.UsageError(
            f"--fix: reclaim {start.verb} {other}; give reclaim fix"
        )
    if start.verb == "audit" and config.option.plan:
        raise pytest.UsageError("--plan: give reclaim plan")


def expect_collecting(config: pytest.Config) -> None:
    """Raise pytest.UsageError if pytest's configuration, another than the checkout's, would collect no checks."""
    files, functions = config.getini("python_files"), config.getini("python_functions")
    if "check_*.py" in files and "check_*" in functions:
        return
    used = f"the configuration {config.inipath}" if config.inipath else "this run"
    raise pytest.UsageError(
        f"{used} collects no checks: run without -c and --rootdir, or run reclaim audit"
    )


# Paths ----------------------------------------------------------------------------------------


def settle_paths(config: pytest.Config) -> None:
    """Find the paths of the command line, and make them those of the run.

    Raises pytest.UsageError for one that does not exist, or that is no check of this reclaim's.
    """
    start = start_of(config)
    folder = config.invocation_params.dir
    if start is None:
        for argument in config.args:
            _expect_check(argument, folder / argument.partition("::")[0])
        return
    given = [path for path in config.option.file_or_dir if path != str(CHECKS)]
    config.args = [_settled(path, folder) for path in given] or [str(CHECKS)]


def _settled(argument: str, folder: Path) -> str:
    """Return *argument* with an absolute path: relative to *folder*, or to the folder above the checks."""
    name, colons, test = argument.partition("::")
    for above in (folder, HOME):
        path = above / name
        if path.exists() and CHECKS in (path.resolve(), *path.resolve().parents):
            _expect_check(argument, path)
            return f"{path.resolve()}{colons}{test}"
    raise pytest.UsageError(_no_such_path(argument, name))


def expect_no_near_miss(config: pytest.Config) -> None:
    """Raise pytest.UsageError if a path that does not exist is nearly that of the checks."""
    for argument in config.args:
        name = argument.partition("::")[0].rstrip("/")
        if nearest.near(name, ["checks"]) and not Path(name).exists():
            make_importable()
            raise pytest.UsageError(_no_such_path(argument, name))


def _expect_check(argument: str, path: Path) -> None:
    name, _, test = argument.partition("::")
    real = path.resolve()
    if CHECKS not in (real, *real.parents):
        return
    if not real.exists():
        raise pytest.UsageError(_no_such_path(argument, name))
    names = [check for check, file in _checks() if file == real]
    wanted = test.partition("[")[0]
    if wanted and names and wanted not in names:
        raise pytest.UsageError(
            f"{printable(argument)}: there is no check {printable(wanted)} in this file; "
            f"it has {', '.join(names)}"
        )


def _checks() -> Iterator[tuple[str, Path]]:
    for requirement in catalogue().values():
        code = requirement.check.__code__
        yield requirement.check.__name__, Path(code.co_filename).resolve()


def _no_such_path(argument: str, name: str) -> str:
    known = [f"checks/{file.name}" for _, file in _checks()]
    hint = nearest.near(f"checks/{Path(name).name}", known)
    if nearest.near(Path(name).name, ["checks"]):
        hint = "; did you mean checks/?"
    return (
        f"{printable(argument)}: there is no such file or folder of checks"
        f"{hint or '; -k chooses among requirements, and --guests among guests'}"
    )


# Choosing rows --------------------------------------------------------------------------------


def selects_nothing(run: Run, expression: str) -> str:
    """Return the line for a -k *expression* that selects no row, with the names that are near."""
    guests = [guest.name for guest in run.guests]
    slugs = list(catalogue())
    near = ""
    for word in _WORD.findall(expression):
        if word not in _OPERATORS and not near:
            near = nearest.near(word.replace("_", "-"), [*slugs, *guests])
    shown = some([*map(printable, guests)], _NAMED)
    hint = near or f" (requirements: {', '.join(slugs)}; guests: {shown})"
    return f"-k {printable(expression)!r} selects no row{hint}"


def failed_before(run: Run, keys: Iterable[Key]) -> set[Key] | None:
    """Return those of *keys* whose newest verdict in the reports is a failure, or None if there is no earlier run."""
    from reclaim.record import runs  # noqa: PLC0415 (start-up)

    newest: dict[Key, str] = {}
    for part in run.parts:
        uri = part.hypervisor.uri
        waiting = {key for key in keys if key[0] == uri}
        for record in runs.earlier(part.folder, redacted(uri)):
            if waiting <= newest.keys():
                break
            newest = _outcomes(record, uri) | newest
    return {key for key in keys if newest.get(key) == "failed"} if newest else None


def _outcomes(record: Record, uri: str) -> dict[Key, str]:
    """Return pytest's outcomes for the rows of *record*, which is of *uri*."""
    return {
        (uri, row.requirement, row.guest, row.disk, row.backup): row.verdict.outcome
        for row in record.results
    }


def arguments(config: pytest.Config) -> tuple[str, ...]:
    """Return the words of the command line that are the user's."""
    start = start_of(config)
    given: Any = start.words if start is not None else config.invocation_params.args
    return tuple(map(str, given))
