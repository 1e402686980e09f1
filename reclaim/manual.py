"""The man page reclaim(1), made from the verbs, their parsers and the options of a run."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from reclaim import options, verbs
from reclaim.verbs import RunVerb, Verb

_STATUSES = (
    ("0", "everything that was judged holds"),
    ("1", "a requirement does not hold, or looking failed"),
    ("2", "the run was stopped; for the other verbs: wrong use"),
    (
        "4",
        "the command line or the inventory is wrong, or another run changes the same hypervisor",
    ),
    ("5", "there was nothing to judge"),
    ("6", "nothing is wrong, but something could not be looked at"),
)
_FILES = (
    ("/var/lib/reclaim/reports", "the reports of root's runs"),
    ("~/.local/state/reclaim/reports", "those of another user ($XDG_STATE_HOME)"),
)


def page(groups: Iterable[tuple[str, Iterable[Verb]]]) -> str:
    """Return the man page for audit, plan and fix, and for the verbs in *groups*."""
    lines = [
        '.TH RECLAIM 1 "" reclaim "User Commands"',
        ".SH NAME",
        "reclaim \\- make KVM guests give their freed space back to the host",
        ".SH SYNOPSIS",
        *_synopsis(["audit|plan|fix", "[options]", "[pytest's options]"]),
        ".br",
        *_synopsis(["verb", "[arguments]"]),
        ".SH DESCRIPTION",
        "reclaim looks at every layer between a file that is deleted in a guest and a block that is freed on the host.",
        "It names the layer that keeps the space, mends it if you ask for that, and counts the bytes that come back.",
        "An audit changes nothing.",
        ".SH RUNS",
    ]
    for run in verbs.RUNS:
        lines += _item(f"reclaim {run.name}", run.more)
    lines += _options_of_runs(verbs.RUNS)
    for title, listed in groups:
        lines.append(f'.SH "{_roff(title).upper()}"')
        for verb in listed:
            lines += _verb(verb)
    for title, rows in (("EXIT STATUS", _STATUSES), ("FILES", _FILES)):
        lines.append(f'.SH "{title}"')
        for name, meaning in rows:
            lines += _item(name, f"{meaning}.")
    return "\n".join([*lines, ".SH SEE ALSO", ".BR virsh (1),", ".BR fstrim (8)", ""])


def _options_of_runs(runs: Iterable[RunVerb]) -> Iterator[str]:
    yield ".SH OPTIONS"
    yield "These are for audit, plan and fix, beside all options of pytest (reclaim help pytest)."
    names = [run.name for run in runs]
    for group in options.GROUPS:
        for option in group.options:
            if not option.verbs:
                continue
            value = option.settings.get("metavar", "URI")
            is_flag = option.settings.get("action") == "store_true"
            shown = option.flag if is_flag else f"{option.flag} {value}"
            only = (
                ""
                if len(option.verbs) == len(names)
                else f" ({', '.join(option.verbs)})"
            )
            yield from _item(shown, f"{verbs.without_mode(option.help)}{only}.")
    hosts = options.HOSTS
    yield from _item(f"{hosts.flag} {hosts.settings['metavar']}", f"{hosts.help}.")


def _verb(verb: Verb) -> Iterator[str]:
    parser = verbs.parser(verb)
    usage = " ".join(parser.format_usage().split()[1:])
    yield from _item(usage.replace("[-h] ", ""), f"{verb.help}.")
    rows = [row for action in parser._actions for row in _arguments(action)]  # noqa: SLF001 (argparse has no other way)
    if rows:
        yield ".RS"
        for shown, text in rows:
            yield from _item(shown, f"{text}.")
        yield ".RE"


def _arguments(action: argparse.Action) -> Iterator[tuple[str, str]]:
    """Yield *action* and its help; of a verb's own verbs, each of them."""
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 (argparse has no other way)
        for verb in action._choices_actions:  # noqa: SLF001
            yield verb.dest, verb.help or ""
    elif action.dest != "help":
        yield _shown(action), action.help or ""


def _shown(action: argparse.Action) -> str:
    value = action.metavar or action.dest.upper()
    if not action.option_strings:
        return str(value)
    flag = action.option_strings[0]
    return flag if action.nargs == 0 else f"{flag} {value}"


def _item(term: str, text: str) -> list[str]:
    return [".TP", f".B {_roff(term)}", _roff(text)]


def _synopsis(words: list[str]) -> list[str]:
    return [".B reclaim", _roff(" ".join(words))]


def _roff(text: str) -> str:
    """Return *text* as troff(1) prints it: a hyphen that is typed stays one, and no line begins with a request."""
    escaped = (
        text.replace("\\", "\\e")
        .replace("-", "\\-")
        .replace("…", "...")
        .replace("`", "")
    )
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
