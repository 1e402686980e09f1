"""The options of a run, for pytest's parser and for the help of the command alike."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Option:
    """One option. `settings` are argparse's."""

    flag: str
    help: str
    settings: dict[str, Any] = field(default_factory=dict)
    #: the verbs of the command that take it
    verbs: tuple[str, ...] = ("audit", "plan", "fix")


@dataclass(frozen=True)
class Group:
    """Options that are listed together."""

    name: str
    title: str
    options: tuple[Option, ...]


_FLAG: dict[str, Any] = {"action": "store_true"}


def given(text: str) -> str:
    """Return *text*. If it is empty, as a variable of a shell is that is not set, it means no default.

    Raises argparse.ArgumentTypeError then.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty")
    return text


def place(text: str) -> Path:
    """Return the path *text*. Raises argparse.ArgumentTypeError if it is empty: Path would take the current folder."""
    return Path(given(text))


GROUPS = (
    Group(
        "reclaim",
        "reclaim: the guests",
        (
            Option(
                "--uri",
                "libvirt URI (default: from --hosts, $LIBVIRT_DEFAULT_URI, qemu:///system)",
                {"type": given},
            ),
            Option(
                "--guests",
                "only the guests whose names match; !GLOB excludes those that match; may be repeated",
                {"metavar": "GLOB,…", "action": "append"},
            ),
            Option(
                "--inventory",
                "TOML file: policy, guests that differ, ssh, backups",
                {"metavar": "FILE", "type": place},
            ),
            Option(
                "--backups",
                "a folder with copies of disk images, to judge them too; may be repeated",
                {"metavar": "DIR", "type": place, "action": "append", "default": []},
            ),
        ),
    ),
    Group(
        "reclaim-mode",
        "reclaim: what is done to them",
        (
            Option(
                "--plan",
                "show the changes of --fix as diffs; change nothing",
                _FLAG,
                (),
            ),
            Option(
                "--fix",
                "fix the findings; changes that need a power cycle stay pending",
                _FLAG,
                (),
            ),
            Option(
                "--restart",
                "with --fix: power-cycle guests that need it, roll back those that do not come back",
                _FLAG,
                ("fix",),
            ),
            Option(
                "--parallel",
                "mend up to N guests side by side if they share no image, each with its own way back; needs --restart",
                {"metavar": "N", "type": int, "default": 1},
                ("fix",),
            ),
            Option(
                "--force",
                "with --fix or --plan: fix even if another requirement must hold first; the report notes it",
                _FLAG,
                ("plan", "fix"),
            ),
        ),
    ),
    Group(
        "reclaim-depth",
        "reclaim: how far reclaim looks",
        (
            Option(
                "--definitions-only",
                "judge the definitions; look into no guest",
                _FLAG,
            ),
            Option(
                "--boot-stopped",
                "start the guests that are off, one at a time, judge them, and shut them down again",
                _FLAG,
            ),
            Option(
                "--prove",
                "write a file in each filesystem of the guests, delete it, trim, and count the bytes that come back",
                _FLAG,
            ),
        ),
    ),
    Group(
        "reclaim-reports",
        "reclaim: the reports",
        (
            Option(
                "--reports",
                "the folder of the reports (default: reports/ of a checkout, /var/lib/reclaim/reports for root, "
                "else ~/.local/state/reclaim/reports)",
                {"metavar": "DIR", "type": place},
            ),
            Option(
                "--keep",
                "keep the newest N runs of each hypervisor, and every run that can still be undone; remove the others",
                {"metavar": "N", "type": int},
            ),
            Option(
                "--json",
                "print the record of the run on standard output, and all else on standard error",
                _FLAG,
            ),
            Option(
                "--run-json",
                "write the end of the run for programs, one JSON object, also if the run is refused",
                {"metavar": "FILE", "type": place},
            ),
            Option(
                "--notify",
                "run a command of yours if something newly broke or was mended since the run before; it reads the "
                "comparison, and has RECLAIM_HOST, RECLAIM_BROKEN, RECLAIM_MENDED, RECLAIM_REPORT",
                {"metavar": "COMMAND"},
            ),
            Option(
                "--metrics",
                "write figures for Prometheus' textfile collector",
                {"metavar": "FILE", "type": place},
            ),
        ),
    ),
)


#: testinfra declares it
HOSTS = Option(
    "--hosts",
    "other hypervisors, such as ssh://root@kvm1; the libvirt URI follows",
    {"metavar": "HOST,…", "type": given},
)


def every() -> Iterator[Option]:
    for group in GROUPS:
        yield from group.options


def listed(values: list[str] | str | None) -> tuple[str, ...]:
    """Return the names of lists with commas, without blanks around them and without empty ones."""
    lists = [values] if isinstance(values, str) else values or []
    names = [name.strip() for text in lists for name in text.split(",")]
    return tuple(filter(None, names))
