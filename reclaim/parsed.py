"""The options of a run, from those that pytest parsed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from reclaim import habits, options
from reclaim.base import home, stdout
from reclaim.base.errors import ReclaimError
from reclaim.base.text import printable
from reclaim.engine.part import Options
from reclaim.files import whole

#: of each pair only one may be given, and why
_EXCLUSIVE = (
    ("fix", "plan", "--plan changes nothing and --fix does"),
    (
        "boot_stopped",
        "definitions_only",
        "--boot-stopped looks into guests and --definitions-only into none",
    ),
    (
        "prove",
        "definitions_only",
        "--prove writes in the guests and --definitions-only looks into none",
    ),
)
#: options that change how others work, and of those the ones of which one must be given
_ONLY_WITH = (("restart", ("fix",)), ("force", ("fix", "plan")))


def options_of(config: pytest.Config, metrics_file: Path | None) -> Options:
    """Return the options of the command line. Raises pytest.UsageError if they contradict each other."""
    option = config.option
    _expect_no_contradiction(option)
    folder = config.invocation_params.dir
    guests, given_hosts = options.listed(option.guests), getattr(option, "hosts", None)
    if option.guests is not None and not guests:
        raise pytest.UsageError("--guests: no name is given")
    hosts = tuple(dict.fromkeys(options.listed(given_hosts)))
    if given_hosts is not None and not hosts:
        raise pytest.UsageError("--hosts: no host is given")
    return Options(
        hosts=hosts,
        uri=option.uri,
        guests=guests,
        inventory=option.inventory,
        backups=tuple(folder / path for path in option.backups),
        mode="fix" if option.fix else "plan" if option.plan else "audit",
        restart=option.restart,
        parallel=option.parallel,
        force=option.force,
        boot_stopped=option.boot_stopped,
        prove=option.prove,
        definitions_only=option.definitions_only,
        reports=folder / (option.reports or home.reports()),
        keep=option.keep,
        metrics=metrics_file,
        run_json=folder / option.run_json if option.run_json else None,
        notify=_command_of_notice(option),
        arguments=habits.arguments(config),
        started_in=folder,
    )


def _command_of_notice(option: Any) -> tuple[str, ...]:
    if option.notify is None:
        return ()
    from reclaim.report import notify  # noqa: PLC0415 (start-up)

    try:
        return tuple(notify.expected(option.notify))
    except ReclaimError as exc:
        raise pytest.UsageError(printable(str(exc))) from exc


def _expect_no_contradiction(option: Any) -> None:
    """Raise pytest.UsageError for options that do not go together, and for --keep if it would keep nothing."""
    if option.json and option.collectonly:
        raise pytest.UsageError(
            "--json prints the record of a run, and --co makes none: give one of them"
        )
    if option.run_json and option.collectonly:
        raise pytest.UsageError(
            "--run-json writes the end of a run, and --co makes none: give one of them"
        )
    if option.json and not stdout.is_reserved():
        raise pytest.UsageError(
            "--json: it comes too late in PYTEST_ADDOPTS or a configuration: give it on the command line"
        )
    for flag, needs in _ONLY_WITH:
        if getattr(option, flag) and not any(getattr(option, need) for need in needs):
            raise pytest.UsageError(f"--{flag} goes with --{' or --'.join(needs)}")
    for first, second, why in _EXCLUSIVE:
        if getattr(option, first) and getattr(option, second):
            raise pytest.UsageError(f"{why}: give one of them")
    if option.parallel < 1:
        raise pytest.UsageError(f"--parallel {option.parallel}: give 1 or more")
    if option.parallel > 1 and not option.restart:
        raise pytest.UsageError("--parallel goes with --restart")
    if option.parallel > 1 and option.boot_stopped:
        raise pytest.UsageError(
            "--boot-stopped starts guests one at a time, and --parallel several: give one of them"
        )
    if option.keep is not None and option.keep < 1:
        raise pytest.UsageError(
            f"--keep {option.keep}: keep at least the run that is made now"
        )


def file_of_metrics(config: pytest.Config) -> Path | None:
    """Return the file of --metrics, if it is given. Raises pytest.UsageError if it cannot be written."""
    given = config.option.metrics
    if not given:
        return None
    path: Path = config.invocation_params.dir / given
    if not os.path.isdir(path.parent):  # noqa: PTH112 (False for a name that is too long)
        raise pytest.UsageError(f"--metrics {given}: there is no folder {path.parent}")
    try:
        whole.expect_file(path)
    except OSError as exc:
        raise pytest.UsageError(f"--metrics {given}: {exc.strerror}") from exc
    return path
