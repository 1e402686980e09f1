"""A command in the shell of a hypervisor, which may be another machine, within a limit of time.

timeout(1) ends the command there, and all that the command has started in its group.
"""

from __future__ import annotations

from testinfra.backend.base import CommandResult
from testinfra.host import Host

from reclaim.base.text import last_words
from reclaim.processes import shell_script

#: seconds that a command has to end after SIGTERM
_GRACE_SECONDS = 10
#: timeout(1)'s status of a command that was ended by SIGTERM, and by SIGKILL
_ENDED = (124, 137)


def run(shell: Host, seconds: int, command: str, *arguments: str) -> CommandResult:
    """Run one program, *command*, with nothing to read and in the C locale.

    A `%s` in *command* stands for one of *arguments*, which is quoted.
    """
    return shell.run(f"{_bounded(seconds, command)} </dev/null", *arguments)


def run_script(
    shell: Host, seconds: int, script: str, *arguments: str
) -> CommandResult:
    """Run *script* by /bin/sh, with *arguments* as $1 and on."""
    command = shell_script.command(len(arguments))
    return run(shell, seconds, command, script, *arguments)


def output(
    shell: Host, seconds: int, most: int, command: str, *arguments: str
) -> str | None:
    """Return the output of *command*; None if it is empty, or has *most* bytes or more."""
    limited = f"{_bounded(seconds, command)} </dev/null 2>/dev/null"
    result = shell.run(f"{limited} | head -c {most}", *arguments)
    if result.rc != 0 or not 0 < len(result.stdout_bytes) < most:
        return None
    return str(result.stdout)


def why_failed(result: CommandResult, seconds: int, words: str | None = None) -> str:
    """Return why a command that had so many *seconds* failed: the time was over, or its last words.

    *words* are taken for its stderr if they are given.
    """
    if result.rc in _ENDED:
        return f"no answer within {seconds} s"
    said = result.stderr if words is None else words
    return last_words(said, silent=f"status {result.rc}")


def _bounded(seconds: int, command: str) -> str:
    return f"LC_ALL=C timeout -k {_GRACE_SECONDS} {seconds} {command}"
