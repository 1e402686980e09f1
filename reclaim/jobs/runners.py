"""Programs that run others: find, xargs, ssh, screen, su, …"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import PurePosixPath

from reclaim.jobs.reader import Reader
from reclaim.jobs.values import State, found_by
from reclaim.jobs.words import (
    UNKNOWN,
    Word,
    is_sure,
    shown,
    texts_of,
    without_options,
)
from reclaim.jobs.wrappers import SHELLS


def _find(shell: Reader, words: list[Word], line: int) -> None:
    """`find PATH… -exec COMMAND {} ;`: the command gets the files that are found."""
    shell.emit(words[:1], line)
    texts = texts_of(words)
    marks = found_by(shell.values, texts[1:])
    position = 1
    while position < len(words):
        if texts[position] not in ("-exec", "-execdir", "-ok", "-okdir"):
            position += 1
            continue
        end = _end_of_exec(texts, position)
        command = words[position + 1 : end]
        for mark in marks[:8]:
            shell.take(_with_text(command, "{}", mark), line)
        position = end + 1


def _end_of_exec(texts: list[str], position: int) -> int:
    for number in range(position, len(texts)):
        if texts[number] in (";", "+"):
            return number
    return len(texts)


def _with_text(command: list[Word], place: str, text: str) -> list[Word]:
    """*command* with *text* in each *place*."""
    return [replace(word, text=word.text.replace(place, text)) for word in command]


_XARGS_VALUED = frozenset(
    "-I -n -P -d -L -s -a -E --max-args --max-procs --delimiter --replace --arg-file --max-lines".split()  # noqa: SIM905
)


def _xargs(shell: Reader, words: list[Word], line: int) -> None:
    """The command gets the words of standard input after its own, or in the place that -I names."""
    command, place = _command_of_xargs(words[1:])
    if not command:
        return
    given = shell.words_of_stdin or [shell.script.origins.mark()]
    for text in given[:8]:
        if place:
            shell.take(_with_text(command, place, text), line)
        else:
            shell.take([*command, Word(text)], line)


def _command_of_xargs(words: list[Word]) -> tuple[list[Word], str]:
    """The command that xargs runs, and the place that -I names."""
    rest, place = list(words), ""
    while rest and rest[0].text.startswith("-"):
        option = rest.pop(0).text
        if re.fullmatch(r"-I.+", option):
            place = option[2:]
        if option in _XARGS_VALUED and rest:
            value = rest.pop(0).text
            if option == "-I":
                place = value
    return rest, place


def _parallel(shell: Reader, words: list[Word], line: int) -> None:
    text = " ".join(texts_of(words[1:]))
    may_copy = re.search(r"rsync|cp|scp|dd|qemu-img|tar", text)
    if may_copy or len(words) == 1:
        shell.skip(
            f"line {line}: parallel {shown(text)[:80]}: reclaim does not read the commands that it runs"
        )
    else:
        shell.emit(words, line)


def _screen(shell: Reader, words: list[Word], line: int) -> None:
    """`screen -dmS NAME COMMAND`."""
    rest = list(words[1:])
    is_told = False
    while rest and rest[0].text.startswith("-"):
        option = rest.pop(0).text
        if option.endswith("X"):
            is_told = True
        if option[-1:] in "StcepsThXQ" and rest:
            rest.pop(0)
    if is_told or not rest:
        shell.skip(
            f"line {line}: screen: reclaim does not know the commands that run in it"
        )
        return
    with shell.beside():
        shell.take(rest, line)


def _tmux(shell: Reader, words: list[Word], line: int) -> None:
    if len(words) > 2 and words[1].text in ("new", "new-session", "new-window", "neww"):
        with shell.beside():
            shell.look_into(words[-1], line)
    else:
        shell.skip(
            f"line {line}: tmux: reclaim does not know the commands that run in it"
        )


def _su(shell: Reader, words: list[Word], line: int) -> None:
    """`su - USER -c 'SCRIPT'`."""
    for option, script in pairwise(words[1:]):
        if re.fullmatch(r"-l?c|--command", option.text):
            with shell.own():
                shell.look_into(script, line)
            return
    name = PurePosixPath(words[0].text).name
    shell.skip(
        f"line {line}: {name}: reclaim does not know the commands that run there"
    )


_SSH_VALUED = "BbcDEeFIiJLlmOoPpQRSWw"


def _ssh(shell: Reader, words: list[Word], line: int) -> None:
    """Read the commands that run on another machine, and never edit them."""
    operands = _operands_of_ssh(words[1:])
    if not operands:
        return
    host, *command = operands
    name = shown(host.text)
    state = State({"PWD": (UNKNOWN,)})
    with shell.set_for_now(host=name or "another machine", state=state, functions={}):
        if command and not _reads_a_script(command):
            text = " ".join(texts_of(command))
            with shell.set_for_now(text=replace(shell.text, offset=None)):
                shell.look_into(Word(text), line)
        elif shell.given.here is not None:
            shell.heredoc(shell.given.here)
        else:
            shell.skip(
                f"line {line}: ssh {name}: its commands there come from elsewhere"
            )


def _operands_of_ssh(words: list[Word]) -> list[Word]:
    rest = list(words)
    while rest and re.match("-.", rest[0].text, re.DOTALL):
        letters = rest.pop(0).text[1:]
        # behind the letter of an option with a value the rest of the word is that value
        takes_next = re.fullmatch(f"[^{_SSH_VALUED}]*[{_SSH_VALUED}]", letters)
        if takes_next and rest:
            rest.pop(0)
    return rest


def _reads_a_script(command: list[Word]) -> bool:
    """True for a shell without operands: it reads standard input."""
    program, *others = command
    if program.text not in SHELLS:
        return False
    return not without_options(texts_of(others))


def _run_parts(shell: Reader, words: list[Word], line: int) -> None:
    folder = UNKNOWN
    if len(words) > 1:
        folder = words[-1].text
    shell.skip(
        f"line {line}: run-parts runs the scripts in {shown(folder)}: declare the script there that copies images"
    )


#: commands that virsh reads one a line
_MOST_OF_VIRSH = 500


def _virsh(shell: Reader, words: list[Word], line: int) -> None:
    """Without a command of its own it takes those that it is given, one a line."""
    given = None
    if not _names_a_command(words):
        given = shell.text_given()
    if given is None:
        shell.emit(words, line)
        return
    if not is_sure(given) or re.search(r"[$`\\]", given):
        shell.skip(f"line {line}: virsh: its commands are put together when it runs")
        return
    if given.count("\n") + given.count(";") > _MOST_OF_VIRSH:
        shell.skip(f"line {line}: virsh: its commands are too many to be read")
        return
    commands = []
    for part in re.split(r"[;\n]", given):
        command = part.strip()
        if command and not command.startswith("#"):
            commands.append(command)
    shell.emit([*words, Word(" ; ".join(commands))], line)


def _names_a_command(words: list[Word]) -> bool:
    """True if virsh is given a command behind its options."""
    is_value = False
    for word in words[1:]:
        if is_value:
            is_value = False
        elif not word.text.startswith("-"):
            return True
        else:
            is_value = word.text in _VIRSH_VALUED
    return False


_VIRSH_VALUED = ("-c", "--connect", "-d", "-e", "-l", "-k", "-K")


def _ip(shell: Reader, words: list[Word], line: int) -> None:
    """`ip netns exec NAME COMMAND`."""
    verb = " ".join(texts_of(words[1:3]))
    if verb in ("netns exec", "vrf exec") and len(words) > 4:
        shell.take(words[4:], line)
    else:
        shell.emit(words, line)


RUNNERS: dict[str, Callable[[Reader, list[Word], int], None]] = {
    "find": _find,
    "xargs": _xargs,
    "parallel": _parallel,
    "screen": _screen,
    "tmux": _tmux,
    "su": _su,
    "runuser": _su,
    "ssh": _ssh,
    "run-parts": _run_parts,
    "virsh": _virsh,
    "ip": _ip,
}
