"""Programs that run others: find, xargs, ssh, screen, su, …"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

from reclaim.jobs.reader import Reader
from reclaim.jobs.values import State, found_by
from reclaim.jobs.words import UNKNOWN, Origin, Word, is_sure, shown
from reclaim.jobs.wrappers import SHELLS


def _find(shell: Reader, words: list[Word], line: int) -> None:
    """`find PATH… -exec COMMAND {} ;`: the command gets what is found."""
    shell.emit(words[:1], line)
    texts = [word.text for word in words]
    marks = (
        found_by(shell.values, texts[1:])
        or [shell.script.origins.mark(Origin("found", path=UNKNOWN))]
    )[:8]
    position = 1
    while position < len(words):
        if texts[position] not in ("-exec", "-execdir", "-ok", "-okdir"):
            position += 1
            continue
        end = next(
            (one for one in range(position, len(words)) if texts[one] in (";", "+")),
            len(words),
        )
        command = words[position + 1 : end]
        for mark in marks:
            inner = [
                replace(word, text=word.text.replace("{}", mark)) for word in command
            ]
            shell.take(inner, line)
        position = end + 1


_XARGS_VALUED = "-I -n -P -d -L -s -a -E --max-args --max-procs --delimiter --replace --arg-file --max-lines"


def _xargs(shell: Reader, words: list[Word], line: int) -> None:
    """The command gets the words of standard input after its own, or in the place that -I names."""
    rest, place = list(words[1:]), ""
    while rest and rest[0].text.startswith("-"):
        option = rest.pop(0).text
        if option == "-I" and rest:
            place = rest[0].text
        elif re.fullmatch(r"-I.+", option):
            place = option[2:]
        if option in _XARGS_VALUED.split() and rest:
            rest.pop(0)
    if not rest:
        return
    given = shell.words_of_stdin or [shell.script.origins.mark()]
    for text in given[:8]:
        named = (
            [replace(word, text=word.text.replace(place, text)) for word in rest]
            if place
            else rest
        )
        shell.take(named if place else [*rest, Word(text)], line)


def _parallel(shell: Reader, words: list[Word], line: int) -> None:
    texts = [word.text for word in words[1:]]
    text = " ".join(texts)
    if re.search(r"rsync|cp|scp|dd|qemu-img|tar", text) or not texts:
        shell.skip(
            f"line {line}: parallel {shown(text)[:80]}: what it runs is not read"
        )
    else:
        shell.emit(words, line)


def _screen(shell: Reader, words: list[Word], line: int) -> None:
    """`screen -dmS NAME COMMAND`."""
    rest = list(words[1:])
    options = []
    while rest and rest[0].text.startswith("-"):
        options.append(rest.pop(0).text)
        if options[-1][-1:] in "StcepsThXQ" and rest:
            rest.pop(0)
    if not rest or any(one.endswith("X") for one in options):
        shell.skip(f"line {line}: screen: what is run in it is not known")
        return
    with shell.set_for_now(background=shell.background or shell.number()):
        shell.take(rest, line)


def _tmux(shell: Reader, words: list[Word], line: int) -> None:
    if len(words) > 2 and words[1].text in ("new", "new-session", "new-window", "neww"):
        with shell.set_for_now(background=shell.background or shell.number()):
            shell.look_into(words[-1], line)
    else:
        shell.skip(f"line {line}: tmux: what is run in it is not known")


def _su(shell: Reader, words: list[Word], line: int) -> None:
    """`su - USER -c 'SCRIPT'`."""
    for number, word in enumerate(words[1:-1], start=1):
        if word.text in ("-c", "--command") or re.fullmatch(r"-l?c", word.text):
            with shell.own():
                shell.look_into(words[number + 1], line)
            return
    shell.skip(
        f"line {line}: {PurePosixPath(words[0].text).name}: what is run there is not known"
    )


_SSH_VALUED = "BbcDEeFIiJLlmOoPpQRSWw"


def _ssh(shell: Reader, words: list[Word], line: int) -> None:
    """What runs on another machine is read for what it is, and never edited."""
    rest = list(words[1:])
    while rest and rest[0].text.startswith("-") and len(rest[0].text) > 1:
        option = rest.pop(0).text
        letters = [
            number
            for number, letter in enumerate(option)
            if letter in _SSH_VALUED and number
        ]
        if letters and letters[0] == len(option) - 1 and rest:
            rest.pop(0)
    if not rest:
        return
    host, command = rest[0].text, rest[1:]
    state = State({"PWD": (UNKNOWN,)})
    with shell.set_for_now(
        host=shown(host) or "another machine", state=state, functions={}
    ):
        if command and not (
            command[0].text in SHELLS
            and all(one.text[:1] == "-" for one in command[1:])
        ):
            with shell.set_for_now(text=replace(shell.text, offset=None)):
                shell.look_into(Word(" ".join(one.text for one in command)), line)
        elif shell.given.here is not None:
            shell.heredoc(shell.given.here)
        else:
            shell.skip(
                f"line {line}: ssh {shown(host)}: what it runs there comes from elsewhere"
            )


def _run_parts(shell: Reader, words: list[Word], line: int) -> None:
    folder = words[-1].text if len(words) > 1 else UNKNOWN
    shell.skip(
        f"line {line}: run-parts runs what is in {shown(folder)}: declare the script there that copies images"
    )


#: commands that virsh reads one a line
_MOST_OF_VIRSH = 500


def _virsh(shell: Reader, words: list[Word], line: int) -> None:
    """Without a command of its own it takes those that it is given, one a line."""
    takes_more = False
    for word in words[1:]:
        if not takes_more and not word.text.startswith("-"):
            shell.emit(words, line)
            return
        takes_more = not takes_more and word.text in (
            "-c",
            "--connect",
            "-d",
            "-e",
            "-l",
            "-k",
            "-K",
        )
    given = shell.text_given()
    if given is not None and is_sure(given) and not re.search(r"[$`\\]", given):
        commands = (
            one.strip()
            for one in re.split(r"[;\n]", given)
            if not one.lstrip().startswith("#")
        )
        if given.count("\n") + given.count(";") > _MOST_OF_VIRSH:
            shell.skip(f"line {line}: virsh: its commands are too many to be read")
            return
        shell.emit([*words, Word(" ; ".join(filter(None, commands)))], line)
    elif given is not None:
        shell.skip(f"line {line}: virsh: its commands are put together when it runs")
    else:
        shell.emit(words, line)


def _ip(shell: Reader, words: list[Word], line: int) -> None:
    """`ip netns exec NAME COMMAND`."""
    if [word.text for word in words[1:3]] in (
        ["netns", "exec"],
        ["vrf", "exec"],
    ) and len(words) > 4:
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
