"""Builtins of the shell that change the known variables and folders: cd, read, set, trap, eval, …"""

from __future__ import annotations

import re
from collections.abc import Callable

from reclaim.jobs.reader import Reader
from reclaim.jobs.values import arguments_of
from reclaim.jobs.words import UNKNOWN, Word, absolute, texts_of


def _cd(shell: Reader, words: list[Word], line: int) -> None:
    before = shell.state.folder
    target = _target_of_cd(words)
    folder = absolute(target, before)
    if target == "-":
        folder = shell.state.first_word("OLDPWD")
    shell.state.set("OLDPWD", [before])
    shell.state.set("PWD", [folder.rstrip("/") or "/"])


def _target_of_cd(words: list[Word]) -> str:
    for word in words[1:]:
        if not re.fullmatch(r"-[LPe@n]+|--", word.text):
            return word.text
    return UNKNOWN


def _popd(shell: Reader, words: list[Word], line: int) -> None:
    shell.state.set("PWD", [shell.state.first_word("OLDPWD")])


def _read(shell: Reader, words: list[Word], line: int) -> None:
    names = _names_to_read(words)
    value = shell.state.line
    if value == UNKNOWN:
        value = shell.script.origins.mark()
    first, *others = names or ["REPLY"]
    shell.state.set(first, [value])
    for name in others:
        if len(names) != 2:
            value = shell.script.origins.mark()
        shell.state.set(name, [value])


_READ_VALUED = ("-d", "-p", "-t", "-n", "-N", "-u", "-i", "-a")


def _names_to_read(words: list[Word]) -> list[str]:
    names = []
    is_value = False
    for text in texts_of(words[1:]):
        if is_value:
            is_value = False
        elif text.startswith("-"):
            is_value = text in _READ_VALUED
        else:
            names.append(text)
    return names


def _mapfile(shell: Reader, words: list[Word], line: int) -> None:
    name = "MAPFILE"
    if len(words) > 1 and not words[-1].text.startswith("-"):
        name = words[-1].text
    lines = shell.words_of_stdin or [shell.script.origins.mark()]
    shell.state.set(name, lines, array=True)


def _set(shell: Reader, words: list[Word], line: int) -> None:
    texts = texts_of(words[1:])
    if "--" in texts:
        behind = texts.index("--") + 2
        shell.state.arguments = arguments_of(words[behind:])


def _shift(shell: Reader, words: list[Word], line: int) -> None:
    arguments = shell.state.arguments
    if arguments is None:
        _forget_arguments(shell)
        return
    count = 1
    if len(words) > 1 and re.fullmatch(r"\d{1,3}", words[1].text):
        count = int(words[1].text)
    shell.state.arguments = arguments[count:]


def _forget_arguments(shell: Reader) -> None:
    """Let each argument that is not known be another one from here on."""
    named = shell.script.origins.named
    for key in list(named):
        if key.startswith("argument "):
            del named[key]


def _unset(shell: Reader, words: list[Word], line: int) -> None:
    for word in words[1:]:
        if word.text in shell.state.variables:
            shell.state.set(word.text, [""])
        elif "[" in word.text or not word.is_sure:
            shell.state.forget()  # an element of an array, or a name that is put together


def _export(shell: Reader, words: list[Word], line: int) -> None:
    shell.declare(texts_of(words[1:]))


def _printf(shell: Reader, words: list[Word], line: int) -> None:
    """`printf -v NAME …` sets a variable."""
    texts = texts_of(words[1:])
    if texts[:1] == ["-v"] and len(texts) > 1:
        name = texts[1].partition("[")[0]
        shell.state.set(name, [UNKNOWN])
    shell.emit(words, line)


def _alias(shell: Reader, words: list[Word], line: int) -> None:
    for word in words[1:]:
        name, separator, _ = word.text.partition("=")
        if separator:
            shell.aliases |= {name}


def _unalias(shell: Reader, words: list[Word], line: int) -> None:
    shell.aliases -= set(texts_of(words[1:]))


def _getopts(shell: Reader, words: list[Word], line: int) -> None:
    shell.state.set("OPTARG", [shell.script.origins.mark()])
    if len(words) > 2:
        shell.state.set(words[2].text, [UNKNOWN])


def _eval(shell: Reader, words: list[Word], line: int) -> None:
    if len(words) == 2:
        shell.look_into(words[1], line)
    elif len(words) > 2:
        text = " ".join(texts_of(words[1:]))
        shell.look_into(Word(text), line)


def _trap(shell: Reader, words: list[Word], line: int) -> None:
    operands = []
    for word in words[1:]:
        if word.text not in ("--", "-p", "-l"):
            operands.append(word)
    if len(operands) < 2:
        return
    command = operands[0]
    if command.text not in ("-", ""):
        shell.traps.append((command, shell.text))


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
