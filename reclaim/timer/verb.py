"""The verb: its arguments, and the service that they ask for."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reclaim import options
from reclaim.base import home, typed
from reclaim.base.errors import ReclaimError, Untrusted
from reclaim.files import trust, whole
from reclaim.inventory import read_inventory
from reclaim.options import Option
from reclaim.report import notify
from reclaim.timer import install, manager
from reclaim.timer.install import Say
from reclaim.timer.units import ScheduledRun

#: options of a run that a timer does not take: the mode is --mode, and no timer stops guests
_LEFT_OUT = (
    "--plan",
    "--fix",
    "--restart",
    "--parallel",
    "--force",
    "--json",
    "--run-json",
)
_ACTIONS = ("install", "remove", "status")


def _options() -> Iterator[Option]:
    yield from (option for option in options.every() if option.flag not in _LEFT_OUT)
    yield options.HOSTS


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=_ACTIONS, metavar="|".join(_ACTIONS))
    timed = parser.add_argument_group("install: the timer")
    timed.add_argument(
        "--calendar",
        metavar="WHEN",
        default="weekly",
        help="a calendar expression of systemd.time(7), such as 'Mon 04:00' (default: weekly)",
    )
    timed.add_argument(
        "--mode",
        choices=("audit", "plan", "fix"),
        default="audit",
        help="fix changes guests without a person at hand: it needs --unattended (default: audit)",
    )
    timed.add_argument(
        "--unattended",
        action="store_true",
        help="with --mode fix: yes, change guests on a schedule",
    )
    of_the_run = parser.add_argument_group("install: its runs")
    for option in _options():
        shown = option.help.replace("%", "%%")
        of_the_run.add_argument(option.flag, help=shown, **option.settings)


def run(given: argparse.Namespace, say: Say) -> int:
    """Do the action. Return the exit status. Raises ReclaimError."""
    systemd = manager.ours()
    if given.action == "install":
        wanted = schedule(given)
        install.install(wanted, systemd, say)
        for note in _notes(wanted):
            say(note)
        return 0
    _expect_bare(given)
    if given.action == "remove":
        install.remove(systemd, say)
        return 0
    return 0 if install.status(systemd, say) else 1


def _notes(wanted: ScheduledRun) -> Iterator[str]:
    """Yield a line if others could change the program that root is to run."""
    for path in (Path(wanted.program[0]), home.PACKAGE) if wanted.is_root else ():
        try:
            trust.expect(path)
        except Untrusted as exc:
            yield f"note: {exc.path} {exc.wrong}, so another user could change what root runs here"
            return
        except OSError:
            continue  # it cannot be seen, so nothing is known of it


def _expect_bare(given: argparse.Namespace) -> None:
    """Raise ReclaimError if an option is given that only install takes."""
    plain = argparse.ArgumentParser(allow_abbrev=False)
    declare(plain)
    for name, value in vars(plain.parse_args([given.action])).items():
        if getattr(given, name) != value:
            raise ReclaimError(
                f"--{name.replace('_', '-')}: only reclaim timer install takes it"
            )


def schedule(given: argparse.Namespace) -> ScheduledRun:
    """Return the service that *given* asks for, with every path absolute. Raises ReclaimError if it could not run."""
    if given.mode == "fix" and not given.unattended:
        raise ReclaimError(
            "--mode fix: it changes guests without a person at hand; give --unattended too if you mean that"
        )
    _expect_run(given)
    if given.inventory is not None:
        read_inventory(given.inventory)
    writable = [_reports(given.reports)]
    if given.metrics is not None:
        writable.append(_folder_of("--metrics", given.metrics))
    return ScheduledRun(
        program=tuple(typed.program()),
        arguments=tuple(_words(given)),
        mode=given.mode,
        calendar=given.calendar,
        is_root=os.geteuid() == 0,
        writable=tuple(writable),
        notifies=given.notify is not None,
    )


def _expect_run(given: argparse.Namespace) -> None:
    """Raise ReclaimError for options that every run would refuse."""
    for flag, values in (("--guests", given.guests), ("--hosts", given.hosts)):
        if values is not None and not options.listed(values):
            raise ReclaimError(f"{flag}: no name is given")
    if given.keep is not None and given.keep < 1:
        raise ReclaimError(f"--keep {given.keep}: keep at least one run")
    for flag in ("--boot-stopped", "--prove"):
        if given.definitions_only and getattr(given, _name(flag)):
            raise ReclaimError(
                f"{flag} looks into guests and --definitions-only into none: give one of them"
            )


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _reports(given: Path | None) -> str:
    folder = (given or home.reports()).absolute()
    if given is not None and not folder.is_dir():
        raise ReclaimError(f"--reports {given}: there is no such folder; make it first")
    return str(folder)


def _folder_of(flag: str, path: Path) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ReclaimError(f"{flag} {path}: there is no folder {folder}")
    try:
        whole.expect_file(path)
    except OSError as exc:
        raise ReclaimError(f"{flag} {path}: {exc.strerror}") from exc
    return str(folder)


def _words(given: argparse.Namespace) -> Iterator[str]:
    """Yield the options of the run, and the address that this user set as the default of libvirt."""
    default = os.environ.get("LIBVIRT_DEFAULT_URI")
    if default and given.uri is None and given.hosts is None:
        yield from ("--uri", default)
    for option in _options():
        value = getattr(given, _name(option.flag))
        if option.flag == "--notify" and value is not None:
            value = _command(value)
        yield from _as_given(option, value)


def _as_given(option: Option, value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _as_given(option, each)
    elif value is True:
        yield option.flag
    elif value is not None and value is not False:
        text = str(value.absolute()) if isinstance(value, Path) else str(value)
        # joined: it may begin with a dash
        yield f"{option.flag}={text}"


def _command(text: str) -> str:
    """Return the command of --notify with the absolute path of its program: a service has a PATH of its own."""
    program, *words = notify.expected(text)
    found = shutil.which(program)
    return shlex.join([os.path.abspath(found or program), *words])  # noqa: PTH100 (links stay)
