"""Commands that run another one: sudo, nice, systemd-run, …; and which words are the other one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from reclaim.jobs.words import Word


@dataclass(frozen=True)
class Wrapper:
    """Options that take the next word, how many words come before the command, and whether it goes on by itself."""

    valued: str = ""
    operands: int = 0
    detaches: bool = False


WRAPPERS: dict[str, Wrapper] = {
    "sudo": Wrapper(
        "-u -g -h -p -C -r -t -T -U -D -R --user --group --chdir --host --prompt"
    ),
    "doas": Wrapper("-u -C"),
    "nice": Wrapper("-n --adjustment"),
    "ionice": Wrapper("-c -n -p --class --classdata"),
    "nohup": Wrapper(),
    "time": Wrapper("-f -o --format --output"),
    "exec": Wrapper("-a"),
    "command": Wrapper(),
    "builtin": Wrapper(),
    "coproc": Wrapper(detaches=True),
    "env": Wrapper("-u -C --unset --chdir"),
    "timeout": Wrapper("-k -s --kill-after --signal", 1),
    "flock": Wrapper("-w -E --timeout --wait --conflict-exit-code", 1),
    "chrt": Wrapper("-T -P -D", 1),
    "setsid": Wrapper(),
    "stdbuf": Wrapper("-i -o -e"),
    "systemd-inhibit": Wrapper("--what --who --why --mode"),
    "systemd-cat": Wrapper("-t -p --identifier --priority"),
    "chronic": Wrapper(),
    "cronic": Wrapper(),
    "taskset": Wrapper("", 1),
    "sshpass": Wrapper("-p -f -d -P"),
    "cgexec": Wrapper("-g"),
    "nocache": Wrapper("-n"),
    "numactl": Wrapper("-m -N -C"),
    "setpriv": Wrapper("--reuid --regid --groups"),
    "trickle": Wrapper("-u -d -w -t -l -n"),
    "busybox": Wrapper(),
    "eatmydata": Wrapper(),
    "run-one": Wrapper(),
    "ssh-agent": Wrapper("-a -t -E -P -O"),
    "dotlockfile": Wrapper("-r -i -P", 1),
    "logsave": Wrapper("", 1),
    "unbuffer": Wrapper(),
    "cpulimit": Wrapper("-l -p -e -P --limit"),
    "caffeinate": Wrapper(),
    "runuser": Wrapper("-u -g -G --user --group"),
    "systemd-run": Wrapper(
        "-p -u -E -H -M --property --unit --slice --uid --gid --description --setenv --on-calendar --on-active "
        "--on-boot --nice --working-directory --service-type --timer-property --host --machine",
        detaches=True,
    ),
}
SHELLS = ("sh", "bash", "dash", "ksh", "zsh", "ash", "mksh", "rbash")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
#: what makes systemd-run wait for the command
_WAITS = {"--scope", "--wait", "-P", "--pipe", "-t", "--pty"}
#: nothing wraps more than this
_DEEPEST = 20


def unwrapped(words: list[Word]) -> tuple[list[Word], bool]:
    """Return *words* without the assignments before the command and without the commands that only run another one.

    The second value is True if one of these makes the command go on by itself.
    """
    detaches = False
    for _ in range(_DEEPEST):
        words = _without_assignments(words)
        if not words:
            return [], detaches
        name = PurePosixPath(words[0].text).name
        wrapper = WRAPPERS.get(name)
        if wrapper is None or _asks_only(name, words):
            return words, detaches
        rest, options = _without_options(words[1:], wrapper.valued.split())
        rest = rest[wrapper.operands :]
        if wrapper.detaches and _WAITS.isdisjoint(options):
            detaches = True
        if not rest:
            return [words[0]], detaches
        if not _MOVES.isdisjoint(options):
            return [Word("unknown-folder"), *rest], detaches
        words = _after(name, rest, options)
    return words, detaches


#: options by which the command runs in another folder
_MOVES = frozenset(("--chdir", "-C", "-D"))


def _without_assignments(words: list[Word]) -> list[Word]:
    for number, word in enumerate(words):
        if not _ASSIGNMENT.match(word.text):
            return words[number:]
    return []


def _asks_only(name: str, words: list[Word]) -> bool:
    """True for `command -v rsync`, which prints its path, and for `runuser NAME -c`, which takes a script."""
    options = {word.text for word in words[1:3]}
    if name == "command":
        return not options.isdisjoint(("-v", "-V"))
    if name != "runuser":
        return False
    return options.isdisjoint(("-u", "--user"))


def _without_options(
    rest: list[Word], valued: list[str]
) -> tuple[list[Word], list[str]]:
    options: list[str] = []
    position = 0
    while position < len(rest) and rest[position].text.startswith("-"):
        text = rest[position].text
        options.append(text.partition("=")[0])
        position += 1
        if text == "--":
            break
        if text in valued:
            position += 1
    return rest[position:], options


def _after(name: str, rest: list[Word], options: list[str]) -> list[Word]:
    """flock takes a script after its file: `flock FILE -c 'SCRIPT'`."""
    if name != "flock":
        return rest
    if rest[0].text in _SCRIPT_OPTIONS:
        rest = rest[1:]
    elif _SCRIPT_OPTIONS.isdisjoint(options):
        return rest
    return [Word("sh"), Word("-c"), *rest]


_SCRIPT_OPTIONS = frozenset(("-c", "--command"))
