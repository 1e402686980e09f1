"""Commands in shell scripts, by tree-sitter's bash grammar: which words are sure, and where each one lies.

Nothing is run. A variable counts where the script assigns it once, and to text. What else comes from
an expansion is uncertain, and a word says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePosixPath

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

#: stands in a word for what is not known
UNKNOWN = "\ufffd"
_DEEPEST = 5


@dataclass(frozen=True)
class Word:
    """One word of a command. `start` and `end` are byte offsets in the file; None where it comes from elsewhere.

    `splits`: what is unknown of it may be several words, or none.
    """

    text: str
    start: int | None = None
    end: int | None = None
    splits: bool = False

    @property
    def is_sure(self) -> bool:
        return UNKNOWN not in self.text

    @property
    def may_be_options(self) -> bool:
        """Could it hold an option that we do not see?"""
        return self.splits and self.text.startswith((UNKNOWN, "-"))


@dataclass(frozen=True)
class Call:
    """One command with its words, without what only wraps it (sudo, nice, …).

    New options go to byte `insert` of the file, in the form `form`; None where they cannot.
    """

    words: tuple[Word, ...]
    line: int
    insert: int | None = None
    form: str = " {}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.words[0].text).name if self.words else ""


@dataclass
class Script:
    """The commands of a job in their order, and what of it nobody understood."""

    calls: list[Call] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


#: what runs another command: its options that take a value, and how many words come before the command
_WRAPPERS: dict[str, tuple[str, int]] = {
    "sudo": ("-u -g -h -p -C -r -t -T -U -D --user --group --chdir", 0),
    "doas": ("-u -C", 0),
    "nice": ("-n", 0),
    "ionice": ("-c -n --class --classdata", 0),
    "nohup": ("", 0),
    "time": ("-f -o", 0),
    "exec": ("-a", 0),
    "command": ("", 0),
    "env": ("-u -C -S --unset --chdir", 0),
    "timeout": ("-k -s --kill-after --signal", 1),
    "flock": ("-w -E --timeout --conflict-exit-code", 1),
    "chrt": ("-T -P -D", 1),
    "setsid": ("", 0),
    "stdbuf": ("-i -o -e", 0),
    "systemd-inhibit": ("", 0),
    "systemd-cat": ("-t -p --identifier", 0),
    "chronic": ("", 0),
    "taskset": ("", 1),
}
_SHELLS = ("sh", "bash", "dash", "ksh", "zsh")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


def parse(source: bytes, *, offset: int = 0, first_line: int = 1, depth: int = 0) -> Script:
    """The commands in *source*, which lies at byte *offset* of its file."""
    root = _parser().parse(source).root_node
    script = Script()
    if root.has_error:
        bad = next((node for node in _all(root) if node.is_error or node.is_missing), root)
        script.unclear.append(f"line {first_line + bad.start_point[0]} cannot be parsed as shell")
        return script
    variables = _variables(root, source)
    for node in _all(root):
        if node.type != "command":
            continue
        words: list[Word] = []
        for child in (node.child_by_field_name("name"), *node.children_by_field_name("argument")):
            if child is not None:
                words += _words(child, source, variables, offset)
        take(script, words, first_line + node.start_point[0], source, offset, depth=depth)
    return script


def take(script: Script, words: list[Word], line: int, source: bytes, offset: int = 0, *, depth: int = 0) -> None:
    """Add the command made of *words* to *script*; a shell that is given a script is looked into."""
    words = unwrapped(words)
    if not words:
        return
    name = PurePosixPath(words[0].text).name
    if name in _SHELLS and depth < _DEEPEST:
        inner = _given_script(words)
        if inner is not None:
            _look_into(script, inner, line, source, offset, depth=depth)
            return
        operand = next((word for word in words[1:] if not word.text.startswith("-")), None)
        if operand is not None:
            script.unclear.append(f"line {line}: it runs {operand.text}: declare that as the job")
        return
    script.calls.append(Call(tuple(words), line, words[0].end))


def _given_script(words: list[Word]) -> Word | None:
    """What follows `-c`."""
    for number, word in enumerate(words[1:-1], start=1):
        if re.fullmatch(r"-[a-z]*c", word.text):
            return words[number + 1]
        if not word.text.startswith("-"):
            return None
    return None


def _look_into(script: Script, word: Word, line: int, source: bytes, offset: int, *, depth: int) -> None:
    if not word.is_sure:
        script.unclear.append(f"line {line}: what the shell is given there is put together when it runs")
        return
    text = word.text.encode("utf-8", errors="surrogateescape")
    start = None
    if word.start is not None and word.end is not None:
        raw = source[word.start - offset : word.end - offset]
        if raw[:1] in (b"'", b'"') and raw[1:-1] == text:  # as it lies in the file, so that it can be edited there
            start = word.start + 1
    inner = parse(text, offset=start or 0, first_line=line, depth=depth + 1)
    if start is None:
        for number, call in enumerate(inner.calls):
            lost = tuple(replace(one, start=None, end=None) for one in call.words)
            inner.calls[number] = replace(call, words=lost, insert=None)
    script.calls += inner.calls
    script.unclear += inner.unclear


def unwrapped(words: list[Word]) -> list[Word]:
    """*words* without the commands that only run another one, and without assignments before it."""
    while words:
        name = PurePosixPath(words[0].text).name
        if _ASSIGNMENT.match(words[0].text):
            words = words[1:]
            continue
        if name not in _WRAPPERS:
            return words
        valued, operands = _WRAPPERS[name]
        rest = words[1:]
        while rest and rest[0].text.startswith("-"):
            rest = rest[2:] if rest[0].text in valued.split() else rest[1:]
        rest = rest[operands:]
        if name == "flock" and rest and rest[0].text in ("-c", "--command"):
            rest = [Word("sh"), *rest]
        words = rest
    return words


# Words ----------------------------------------------------------------------------------------


def _all(node: Node) -> Iterator[Node]:
    """*node* and everything below it, in the order of the text."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += reversed(one.children)


def _variables(root: Node, source: bytes) -> dict[str, list[str]]:
    """The variables that are assigned once and to text: their words where they are split, and quoted as one."""
    found: dict[str, list[str]] = {}
    lost: set[str] = set()
    for node in _all(root):
        if node.type in ("for_statement", "select_statement"):
            name = node.child_by_field_name("variable")
            lost.add(_text(name, source) if name is not None else "")
        if node.type == "command" and _text(node.child(0), source) in ("read", "mapfile", "readarray", "getopts"):
            lost.update(_text(word, source) for word in node.children)
        if node.type != "variable_assignment":
            continue
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        key = _text(name, source)
        if key in found or any(_text(child, source) == "+=" for child in node.children):
            lost.add(key)
        found[key] = []
        if value is None:
            continue
        parts = value.named_children if value.type == "array" else [value]
        words = [_static(part, source, found, lost) for part in parts]
        if any(UNKNOWN in word for word in words):
            # a path with something unknown in it is still known to be no option
            found[key] = [UNKNOWN if word.startswith((UNKNOWN, "-")) else word for word in words]
        else:
            found[key] = words
    return {key: words for key, words in found.items() if key not in lost}


def _static(node: Node, source: bytes, known: dict[str, list[str]], lost: set[str]) -> str:
    usable = {key: words for key, words in known.items() if key not in lost}
    return " ".join(word.text for word in _words(node, source, usable, 0, split=False))


def _text(node: Node | None, source: bytes) -> str:
    return "" if node is None else source[node.start_byte : node.end_byte].decode("utf-8", errors="surrogateescape")


def _words(
    node: Node, source: bytes, variables: dict[str, list[str]], offset: int, *, split: bool = True
) -> list[Word]:
    """The words that *node* becomes: one, but where an expansion without quotes is split."""
    start, end = node.start_byte + offset, node.end_byte + offset
    if node.type == "command_name" and node.named_child_count == 1:
        return _words(node.named_children[0], source, variables, offset, split=split)
    name = _expanded(node, source)
    if split and name is not None:
        if name not in variables:
            return [Word(UNKNOWN, start, end, splits=True)]
        return [Word(word, splits=UNKNOWN in word) for value in variables[name] for word in value.split()]
    if split and node.type == "string" and len(node.named_children) == 1:
        array = re.fullmatch(r'"\$\{(\w+)\[@\]\}"|"\$@"', _text(node, source))
        if array is not None:
            values = variables.get(array[1] or "")
            return [Word(value) for value in values] if values else [Word(UNKNOWN, start, end, splits=True)]
    text = _value(node, source, variables)
    unquoted = node.type in ("concatenation", "command_substitution", "process_substitution")
    return [Word(text, start, end, splits=UNKNOWN in text and unquoted)]


def _expanded(node: Node, source: bytes) -> str | None:
    """The name in `$NAME` or `${NAME}`; None where it is anything else."""
    if node.type in ("simple_expansion", "expansion"):
        match = re.fullmatch(r"\$(\w+)|\$\{(\w+)\}", _text(node, source))
        return (match[1] or match[2]) if match else "?"
    return None


def _value(node: Node, source: bytes, variables: dict[str, list[str]]) -> str:
    """What *node* stands for, with UNKNOWN for what is not known."""
    text = _text(node, source)
    if node.type in ("word", "number", "variable_name"):
        return re.sub(r"\\(\n)?(.?)", lambda match: match[2] or "", text, flags=re.DOTALL)
    if node.type == "raw_string":
        return text[1:-1]
    if node.type == "string_content":
        return re.sub(r'\\([$`"\\])|\\\n', lambda match: match[1] or "", text)
    if node.type in ("string", "concatenation"):
        # the text between the parts is the quotes, and blanks that belong to the string
        parts, position = [], node.start_byte + (node.type == "string")
        for child in node.named_children:
            parts.append(source[position : child.start_byte].decode("utf-8", errors="surrogateescape"))
            parts.append(_value(child, source, variables))
            position = child.end_byte
        return "".join(parts)
    name = _expanded(node, source)
    if name in variables:
        return " ".join(variables[name or ""])
    return UNKNOWN
