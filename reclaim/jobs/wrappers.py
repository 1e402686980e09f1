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
    """*words* without the commands that only run another one and the assignments before it; does it detach?"""
    detaches = False
    for _ in range(_DEEPEST):
        while words and _ASSIGNMENT.match(words[0].text):
            words = words[1:]
        if not words:
            return [], detaches
        name = PurePosixPath(words[0].text).name
        wrapper = WRAPPERS.get(name)
        if wrapper is None or _asks_only(name, words):
            return words, detaches
        rest, options = _without_options(words[1:], wrapper.valued.split())
        detaches = detaches or (wrapper.detaches and not _WAITS.intersection(options))
        rest = rest[wrapper.operands :]
        if "--chdir" in options or "-C" in options or "-D" in options or not rest:
            return (
                [words[0]] if not rest else [Word("unknown-folder"), *rest]
            ), detaches
        words = _after(name, rest, options)
    return words, detaches


def _asks_only(name: str, words: list[Word]) -> bool:
    """`command -v rsync` tells where it is; `env -S` and `runuser NAME -c` take a script."""
    options = {word.text for word in words[1:3]}
    if name == "command":
        return bool(options & {"-v", "-V"})
    return name == "runuser" and not options & {"-u", "--user"}


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
    if name == "flock" and (
        {"-c", "--command"} & set(options) or rest[0].text in ("-c", "--command")
    ):
        script = rest[1:] if rest[0].text in ("-c", "--command") else rest
        return [Word("sh"), Word("-c"), *script]
    return rest
