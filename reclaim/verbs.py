"""The verbs of the command: each has a name, a line of help, its arguments, and the function that does it."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reclaim import options

_COLUMNS = 100
_MODE = re.compile("^with --fix(?: or --plan)?: ")


@dataclass(frozen=True)
class Verb:
    """One verb. *declare* adds its arguments to its parser; *run* returns the exit status."""

    name: str
    help: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class RunVerb:
    """A verb that is a run of pytest: it takes every option of pytest."""

    name: str
    help: str
    more: str


RUNS = (
    RunVerb(
        "audit",
        "judge every requirement; change nothing",
        "Judge every requirement for each guest and disk. Nothing is changed.",
    ),
    RunVerb(
        "plan",
        "show the changes of fix as diffs; change nothing",
        "Audit, and show the changes that `reclaim fix` would make as diffs. Nothing is changed.",
    ),
    RunVerb(
        "fix",
        "mend the findings; undo takes it back",
        "Audit, and mend the findings. Each change is in the run's journal, from which `reclaim undo` takes it back. "
        "Changes that need a power cycle stay pending without --restart.",
    ),
)


def parser(verb: Verb) -> argparse.ArgumentParser:
    """Return the parser of *verb*."""
    made = argparse.ArgumentParser(
        prog=f"reclaim {verb.name}",
        description=f"{verb.help[0].upper()}{verb.help[1:]}.",
        allow_abbrev=False,
    )
    verb.declare(made)
    return made


def declare_uri(parser: argparse.ArgumentParser) -> None:
    """Add --uri to the *parser* of a verb that asks a hypervisor for its guests."""
    parser.add_argument(
        "--uri", help="libvirt URI of the guests (default: qemu:///system)"
    )


def overview(groups: Iterable[tuple[str, Iterable[Verb | RunVerb]]]) -> str:
    """Return the help of the whole command: the verbs in groups, a line for each."""
    lines = [
        "usage: reclaim VERB [arguments]",
        "",
        "Make KVM guests give their freed space back to the host.",
    ]
    for title, verbs in groups:
        lines += ["", f"{title}:"]
        lines += [f"  {verb.name:<14} {verb.help}" for verb in verbs]
    lines += [
        "",
        "help:",
        f"  {'help [VERB]':<14} this page, or the options of a verb",
        f"  {'help pytest':<14} the options of pytest, which audit, plan and fix take too",
        f"  {'--version':<14} print the versions of reclaim, Python, pytest and libvirt's library",
        "",
        "RUN is a run's folder, its name or the beginning of that (20261123T0031), or `latest`.",
    ]
    return "\n".join(lines)


def help_of_run(verb: RunVerb) -> str:
    """Return the help of *verb*: the options of reclaim in groups."""
    columns = min(shutil.get_terminal_size().columns, _COLUMNS)
    made = argparse.ArgumentParser(
        prog=f"reclaim {verb.name}",
        usage=f"reclaim {verb.name} [options] [checks/FILE …]",
        description=verb.more,
        epilog="Every option of pytest works too, such as -k disk-bus (rows whose names match), -x (stop at the first "
        "failure), --lf (the rows that failed last), -q, -v, --junitxml FILE: see `reclaim help pytest`.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=columns),
        add_help=False,
        allow_abbrev=False,
    )
    for group in options.GROUPS:
        taken = [option for option in group.options if verb.name in option.verbs]
        declared = made.add_argument_group(group.title.removeprefix("reclaim: "))
        for option in taken:
            text = without_mode(option.help).replace("%", "%%")
            declared.add_argument(option.flag, help=text, **option.settings)
    declared = made.add_argument_group("other machines")
    hosts = options.HOSTS
    declared.add_argument(hosts.flag, help=hosts.help, **hosts.settings)
    return made.format_help().rstrip()


def without_mode(text: str) -> str:
    """Return the help of an option without the mode that it goes with: for the command that is the verb."""
    return _MODE.sub("", text)


def paragraphs(text: str) -> str:
    """Return *text* wrapped for a terminal; a blank line separates paragraphs."""
    columns = min(shutil.get_terminal_size().columns, _COLUMNS)
    wrapped = (textwrap.fill(part, columns) for part in text.split("\n\n"))
    return "\n\n".join(wrapped)
