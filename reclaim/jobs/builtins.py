"""Builtins of the shell that change what is known: cd, read, set, trap, eval, …"""

from __future__ import annotations

import re
from collections.abc import Callable

from reclaim.jobs.reader import Reader
from reclaim.jobs.words import UNKNOWN, Word, absolute


def _cd(shell: Reader, words: list[Word], line: int) -> None:
    operands = [
        word.text for word in words[1:] if not re.fullmatch(r"-[LPe@n]+|--", word.text)
    ]
    before = shell.state.folder
    target = operands[0] if operands else UNKNOWN
    folder = (
        shell.state.variables.get("OLDPWD", (UNKNOWN,))[0]
        if target == "-"
        else absolute(target, before)
    )
    shell.state.set("OLDPWD", [before])
    shell.state.set("PWD", [folder.rstrip("/") or "/"])


def _popd(shell: Reader, words: list[Word], line: int) -> None:
    shell.state.set("PWD", [shell.state.variables.get("OLDPWD", (UNKNOWN,))[0]])


def _read(shell: Reader, words: list[Word], line: int) -> None:
    names, takes = [], False
    for word in words[1:]:
        if takes:
            takes = False
        elif word.text.startswith("-"):
            takes = word.text in ("-d", "-p", "-t", "-n", "-N", "-u", "-i", "-a")
        else:
            names.append(word.text)
    value = shell.state.line
    if value == UNKNOWN:
        value = shell.script.origins.mark()
    for number, name in enumerate(names or ["REPLY"]):
        shell.state.set(
            name,
            [value if number == 0 or len(names) <= 2 else shell.script.origins.mark()],
        )


def _mapfile(shell: Reader, words: list[Word], line: int) -> None:
    name = (
        words[-1].text
        if len(words) > 1 and not words[-1].text.startswith("-")
        else "MAPFILE"
    )
    shell.state.set(
        name, shell.words_of_stdin or [shell.script.origins.mark()], array=True
    )


def _set(shell: Reader, words: list[Word], line: int) -> None:
    texts = [word.text for word in words[1:]]
    if "--" in texts:
        rest = words[texts.index("--") + 2 :]
        shell.state.arguments = (
            None
            if any(word.splits for word in rest)
            else tuple(word.text for word in rest)
        )


def _shift(shell: Reader, words: list[Word], line: int) -> None:
    arguments = shell.state.arguments
    if arguments is None:
        shell.state.arguments = None
        for key in [
            one for one in shell.script.origins.named if one.startswith("argument ")
        ]:
            del shell.script.origins.named[key]
        return
    count = (
        int(words[1].text)
        if len(words) > 1 and re.fullmatch(r"\d{1,3}", words[1].text)
        else 1
    )
    shell.state.arguments = arguments[count:]


def _unset(shell: Reader, words: list[Word], line: int) -> None:
    for word in words[1:]:
        if word.text in shell.state.variables:
            shell.state.variables[word.text] = ("",)


def _export(shell: Reader, words: list[Word], line: int) -> None:
    shell.declare([word.text for word in words[1:]])


def _printf(shell: Reader, words: list[Word], line: int) -> None:
    """`printf -v NAME …` sets a variable."""
    texts = [word.text for word in words[1:]]
    if texts[:1] == ["-v"] and len(texts) > 1:
        shell.state.set(texts[1].partition("[")[0], [UNKNOWN])
    shell.emit(words, line)


def _alias(shell: Reader, words: list[Word], line: int) -> None:
    shell.aliases |= {
        word.text.partition("=")[0] for word in words[1:] if "=" in word.text
    }


def _unalias(shell: Reader, words: list[Word], line: int) -> None:
    shell.aliases -= {word.text for word in words[1:]}


def _getopts(shell: Reader, words: list[Word], line: int) -> None:
    shell.state.set("OPTARG", [shell.script.origins.mark()])
    if len(words) > 2:
        shell.state.set(words[2].text, [UNKNOWN])


def _eval(shell: Reader, words: list[Word], line: int) -> None:
    if len(words) == 2:
        shell.look_into(words[1], line)
    elif len(words) > 2:
        shell.look_into(Word(" ".join(word.text for word in words[1:])), line)


def _trap(shell: Reader, words: list[Word], line: int) -> None:
    rest = [word for word in words[1:] if word.text not in ("--", "-p", "-l")]
    if len(rest) > 1 and rest[0].text not in ("-", ""):
        shell.traps.append((rest[0], shell.text))


def _source(shell: Reader, words: list[Word], line: int) -> None:
    shell.source(words, line)


BUILTINS: dict[str, Callable[[Reader, list[Word], int], None]] = {
    "cd": _cd,
    "pushd": _cd,
    "popd": _popd,
    "read": _read,
    "mapfile": _mapfile,
    "readarray": _mapfile,
    "set": _set,
    "shift": _shift,
    "unset": _unset,
    "export": _export,
    "declare": _export,
    "local": _export,
    "readonly": _export,
    "typeset": _export,
    "getopts": _getopts,
    "printf": _printf,
    "alias": _alias,
    "unalias": _unalias,
    "eval": _eval,
    "trap": _trap,
    ".": _source,
    "source": _source,
}
