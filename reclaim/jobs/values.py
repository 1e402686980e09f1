"""What words of a shell script stand for, as far as the script itself says it; nothing is run."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tree_sitter import Node

from reclaim.jobs.grammar import text_of
from reclaim.jobs.words import (
    LONGEST,
    UNKNOWN,
    Origin,
    Origins,
    Word,
    absolute,
    is_sure,
)

#: variables that are kept apart; more are not known
_MOST = 500
#: words of one value
MOST_WORDS = 512
#: expansions within expansions
_DEEPEST = 30


@dataclass(frozen=True)
class Text:
    """A piece of shell: its bytes, where it lies in the job's file (None: elsewhere), its first line, its file."""

    source: bytes
    offset: int | None = 0
    first_line: int = 1
    file: str = ""

    def line(self, node: Node) -> int:
        return int(self.first_line + node.start_point[0])

    def place(self, position: int) -> int | None:
        return None if self.offset is None else self.offset + position


@dataclass
class State:
    """What is known at one point of a script: variables (an array has several words), arguments, standard input."""

    variables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    arguments: tuple[str, ...] | None = None
    arrays: frozenset[str] = frozenset()
    #: a line of what is read by `read`
    line: str = UNKNOWN
    #: names that stand for other variables (`declare -n`)
    references: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return " ".join(self.variables.get("PWD", (UNKNOWN,)))

    def set(self, name: str, words: Iterable[str], *, array: bool = False) -> None:
        kept = tuple(one if len(one) <= LONGEST else UNKNOWN for one in words)
        if len(kept) > MOST_WORDS:
            kept = (UNKNOWN,)
        if name in self.references:
            name = self._referred(name)
        if name not in self.variables and len(self.variables) >= _MOST:
            return
        self.variables[name] = kept
        self.arrays = (
            (self.arrays | {name})
            if array
            else (self.arrays - {name} if name in self.arrays else self.arrays)
        )

    def _referred(self, name: str) -> str:
        """The variable that *name* stands for; where that is not known, any may be set."""
        other = self.references[name]
        if not other.isidentifier() or other in self.references:
            self.forget()
            return name
        return other

    def forget(self) -> None:
        """Anything may have been set."""
        self.variables = {
            name: words if name == "PWD" else (UNKNOWN,)
            for name, words in self.variables.items()
        }

    def copy(self) -> State:
        return State(
            dict(self.variables),
            self.arguments,
            self.arrays,
            self.line,
            dict(self.references),
        )


def joined(states: list[State]) -> State:
    """What is known if any of *states* may be the case."""
    first, *others = states
    result = first.copy()
    for other in others:
        for name in {*result.variables, *other.variables}:
            ours, theirs = result.variables.get(name), other.variables.get(name)
            if ours != theirs:
                result.variables[name] = _either(ours, theirs)
        result.arrays |= other.arrays
        result.references |= other.references
        if result.arguments != other.arguments:
            result.arguments = None
    return result


def _either(
    ours: tuple[str, ...] | None, theirs: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The words that both begin with, and something unknown."""
    shorter, longer = sorted(
        (ours or (), theirs or ()), key=lambda words: (len(words), sum(map(len, words)))
    )
    if shorter and longer[: len(shorter)] == shorter:
        return (*shorter, UNKNOWN)
    if len(shorter) == len(longer) == 1 and longer[0].startswith(shorter[0]):
        return (shorter[0] + UNKNOWN,)
    return (UNKNOWN,)


@dataclass
class Values:
    """Reads words of one text with what is known now."""

    text: Text
    state: State
    origins: Origins
    #: commands that were read before
    calls: int = 0
    depth: int = 0

    # Words ------------------------------------------------------------------------------------

    def words(self, node: Node) -> list[Word]:
        """The words that *node* becomes: one, but where an expansion without quotes is split."""
        if node.type == "command_name" and node.named_child_count == 1:
            node = node.named_children[0]
        start, end = self.text.place(node.start_byte), self.text.place(node.end_byte)
        if node.type in ("simple_expansion", "expansion", "command_substitution"):
            return [_placed(word, start, end) for word in self._split(node)]
        if node.type == "string" and (listed := self._listed(node)) is not None:
            return [_placed(word, start, end) for word in listed]
        if (
            node.type in ("word", "concatenation")
            and b"{" in self.text.source[node.start_byte : node.end_byte]
        ):
            if braces := self._braces(node):
                return [Word(text, start, end) for text in braces]
        text = self.value(node)
        unquoted = node.type == "concatenation" and any(
            child.type in ("simple_expansion", "expansion", "command_substitution")
            for child in node.named_children
        )
        plain = node.type in ("word", "raw_string") or not any(
            child.type in ("simple_expansion", "expansion", "command_substitution")
            for child in node.named_children
        )
        return [
            Word(
                text,
                start,
                end,
                splits=unquoted and not self._are_names(text),
                is_literal=plain,
            )
        ]

    def _split(self, node: Node) -> list[Word]:
        """An expansion without quotes: what it holds is split at blanks."""
        if node.type == "command_substitution":
            values: tuple[str, ...] = tuple(self.output(node))
        else:
            values = self._elements(node)
        words = [
            word
            for value in values
            for word in (value.split() if " " in value or "\n" in value else [value])
        ]
        return [Word(word, splits=self._may_split(word)) for word in words if word]

    def _may_split(self, text: str) -> bool:
        """A path or a name that something lists is one word; of what else is not known nobody can tell."""
        if is_sure(text):
            return False
        return text[:1] != "/" and not any(
            one.kind != "text" for one in self.origins.within(text)
        )

    def _are_names(self, text: str) -> bool:
        """Is all that is not known of it something without blanks?"""
        unknown = [one for one in text if not is_sure(one)]
        return all((self.origins.of(one) or Origin()).kind != "text" for one in unknown)

    def _elements(self, node: Node) -> tuple[str, ...]:
        """All words of `$NAME`, `${NAME[@]}`, `$@`."""
        raw = text_of(node, self.text.source)
        if raw in ("$@", "$*", "${@}", "${*}"):
            return (
                self.state.arguments if self.state.arguments is not None else (UNKNOWN,)
            )
        array = re.fullmatch(r"\$\{(\w+)\[[@*]\]\}", raw)
        if array is not None:
            return self.state.variables.get(array[1], (UNKNOWN,))
        return (self.value(node),)

    def _listed(self, node: Node) -> list[Word] | None:
        """`"$@"` and `"${NAME[@]}"` are as many words as there are elements."""
        raw = text_of(node, self.text.source)
        if not re.fullmatch(r'"\$(?:@|\{@\}|\{\w+\[@\]\})"', raw):
            return None
        inner = node.named_children[0]
        return [
            Word(one, splits=not is_sure(one) and one == UNKNOWN)
            for one in self._elements(inner)
        ]

    def _braces(self, node: Node) -> list[str] | None:
        """`{a,b}` and `x{a,b}` of text alone."""
        raw = text_of(node, self.text.source)
        found = re.fullmatch(
            r"([^{}$`'\"\\]*)\{([^{}$`\\]*,[^{}$`\\]*)\}([^{}$`'\"\\]*)", raw
        )
        if found is None:
            return None
        parts = [re.sub("['\"]", "", one) for one in found[2].split(",")]
        return [f"{found[1]}{one}{found[3]}" for one in parts][:MOST_WORDS]

    def value(self, node: Node) -> str:
        """What *node* stands for as one text."""
        if self.depth > _DEEPEST:
            return UNKNOWN
        self.depth += 1
        try:
            text = self._value(node)
        finally:
            self.depth -= 1
        return text if len(text) <= LONGEST else UNKNOWN

    def _value(self, node: Node) -> str:
        raw = text_of(node, self.text.source)
        if node.type in ("word", "number", "variable_name", "extglob_pattern", "regex"):
            return re.sub(
                r"\\(\n)?(.?)", lambda match: match[2] or "", raw, flags=re.DOTALL
            )
        if node.type == "raw_string":
            return raw[1:-1]
        if node.type == "ansi_c_string":
            return raw[2:-1] if "\\" not in raw else UNKNOWN
        if node.type == "string_content":
            return re.sub(r'\\([$`"\\])|\\\n', lambda match: match[1] or "", raw)
        if node.type in ("string", "concatenation"):
            return self._parts(node)
        if node.type == "simple_expansion":
            return self._variable(raw[1:])
        if node.type == "expansion":
            return self._expansion(node, raw)
        if node.type == "command_substitution":
            return " ".join(self.output(node))
        return self.origins.mark()

    def _parts(self, node: Node) -> str:
        # the text between the parts is the quotes, and blanks that belong to the string
        parts, position = [], node.start_byte + (node.type == "string")
        for child in node.named_children:
            between = self.text.source[position : child.start_byte]
            parts.append(between.decode("utf-8", errors="surrogateescape"))
            parts.append(self.value(child))
            position = child.end_byte
        return "".join(parts)

    def _variable(self, name: str) -> str:
        arguments = self.state.arguments
        if name.isdecimal() and name != "0":
            if arguments is None:
                return self.origins.mark(key=f"argument {name}")
            number = int(name[:4]) - 1
            return arguments[number] if number < len(arguments) else ""
        if name in ("@", "*"):
            return " ".join(arguments) if arguments is not None else UNKNOWN
        name = self.state.references.get(name, name)
        if name in self.state.variables:
            words = self.state.variables[name]
            return " ".join(words if name not in self.state.arrays else words[:1])
        return self.origins.mark(key=f"variable {name}")

    def _expansion(self, node: Node, raw: str) -> str:
        """`${NAME}`, and what bash can do with it: a default, a piece cut off at either end, a replacement."""
        plain = re.fullmatch(r"\$\{(\w+)\}", raw)
        if plain:
            return self._variable(plain[1])
        array = re.fullmatch(r"\$\{(\w+)\[([@*0])\]\}", raw)
        if array:
            words = self.state.variables.get(array[1], (UNKNOWN,))
            return " ".join(words if array[2] != "0" else words[:1])
        changed = re.match(r"\$\{(\w+)(##|#|%%|%|:-|-|:=|=|:\?|\?)", raw)
        if changed is None:
            return self.origins.mark()
        value, operator = self._variable(changed[1]), changed[2]
        rest = "".join(self.value(child) for child in node.named_children[1:])
        if operator in ("##", "#", "%%", "%"):
            return _cut(value, operator, rest) or self.origins.mark()
        is_set = changed[1] in self.state.variables or (
            changed[1].isdecimal() and self.state.arguments is not None
        )
        if operator in (":-", "-", ":=", "=") and is_set:
            return value or rest
        return value  # the environment may say it, or the caller

    # What commands print ----------------------------------------------------------------------

    def output(self, node: Node) -> list[str]:
        """The words that a substitution, a command or a pipeline prints, as far as they can be told."""
        if self.depth > _DEEPEST:
            return [UNKNOWN]
        self.depth += 1
        try:
            return self._output(node)
        finally:
            self.depth -= 1

    def _output(self, node: Node) -> list[str]:
        if node.type in (
            "command_substitution",
            "process_substitution",
            "subshell",
            "redirected_statement",
        ):
            inner = [
                one
                for one in node.named_children
                if not one.type.endswith("_redirect") and one.type != "comment"
            ]
            return self.output(inner[0]) if len(inner) == 1 else self._of_loop(inner)
        if node.type == "pipeline":
            first, *stages = node.named_children
            found = self.output(first)
            for stage in stages:
                found = self.filtered(found, stage)
            return found
        if node.type == "command":
            return self._printed(node)
        if node.type == "for_statement":
            return self._of_loop(node.named_children)
        return [self.origins.mark()]

    def _of_loop(self, nodes: list[Node]) -> list[str]:
        """A loop over guests prints what its last command prints, for each."""
        body = next((one for one in nodes if one.type == "do_group"), None)
        commands = body.named_children if body is not None else []
        if (
            len(commands) == 1
            and b"domblklist"
            in self.text.source[commands[0].start_byte : commands[0].end_byte]
        ):
            return [self.origins.mark(Origin("image", UNKNOWN, after=self.calls))]
        return [self.origins.mark()]

    def _printed(self, node: Node) -> list[str]:
        words = [
            word.text
            for child in (
                node.child_by_field_name("name"),
                *node.children_by_field_name("argument"),
            )
            if child is not None
            for word in self.words(child)
        ]
        words = (
            words[1:]
            if words[:1] and words[0] in ("sudo", "command") and words[1:2] != ["-v"]
            else words
        )
        name = posixpath.basename(words[0]) if words else ""
        printer = _PRINTERS.get(name)
        found = printer(self, [one for one in words[1:] if one]) if printer else None
        if found is not None:
            return found
        return [
            self.origins.mark(
                key=text_of(node, self.text.source) if name == "date" else ""
            )
        ]

    def filtered(self, found: list[str], stage: Node) -> list[str]:
        """What comes through awk, grep, … of paths and names is still paths and names, maybe not all of them."""
        command = stage
        while command.type == "redirected_statement":
            command = command.named_children[0]
        raw = text_of(command, self.text.source)
        name = re.match(r"\s*(?:\w+=\S*\s+)*\\?([\w./-]*)", raw)
        program = posixpath.basename(name[1]) if name else ""
        if program not in _FILTERS or command.type != "command":
            return [self.origins.mark()]
        if program in ("sort", "uniq", "tac", "tee"):
            return found
        kept = [
            one for one in found if (self.origins.of(one) or Origin()).kind != "text"
        ]
        if not kept:
            return [self.origins.mark()]
        if _TAKES_ALL.search(raw) or program in ("tr", "cut", "column", "xargs"):
            return kept
        return [self._some(one) for one in kept]

    def _some(self, mark: str) -> str:
        origin = self.origins.of(mark) or Origin()
        return self.origins.mark(replace(origin, every=False)) if origin.every else mark


def _placed(word: Word, start: int | None, end: int | None) -> Word:
    """A word of a variable lies elsewhere; one that is not known lies where the expansion is."""
    return word if is_sure(word.text) else replace(word, start=start, end=end)


def _cut(value: str, operator: str, pattern: str) -> str | None:
    """`${NAME#pattern}` and its like, for a value that is known, or a path with something unknown in it."""
    if not is_sure(pattern) or (not is_sure(value) and "/" not in value):
        return None
    if pattern == "*/" and operator == "##":
        return value.rpartition("/")[2]
    if pattern == "/*" and operator == "%":
        return value.rpartition("/")[0]
    if not is_sure(value) or len(value) > 1024:
        return None
    lengths = (
        range(len(value) + 1) if operator in ("#", "%") else range(len(value), -1, -1)
    )
    at_start = operator[0] == "#"
    for length in lengths:
        piece = value[:length] if at_start else value[len(value) - length :]
        if fnmatch.fnmatchcase(piece, pattern):
            return value[length:] if at_start else value[: len(value) - length]
    return value


_FILTERS = frozenset(
    [
        "awk",
        "gawk",
        "mawk",
        "grep",
        "egrep",
        "sed",
        "cut",
        "tail",
        "head",
        "sort",
        "uniq",
        "tr",
        "tac",
        "tee",
        "column",
        "xargs",
    ]
)
#: filters that leave out headings and empty lines alone
_TAKES_ALL = re.compile(
    r"^\s*(?:\\?e?grep\s+(?:-\w+\s+)*['\"]?(?:\^\$|\.|running|\\S|\[\^\[:space:\]\]|\^\\s\*\$|\^ \*\$)['\"]?\s*$"
    r"|tail\s+(?:-n\s*)?\+\d+|head\s+-n\s*-\d+"
    r"|sed\s+(?:-\w+\s+)*['\"]?(?:/\^\$/d|\d+(?:,\d+)?d)['\"]?\s*$"
    r"|[gm]?awk\s+['\"](?:NR\s*>=?\s*\d+\s*|NF\s*|/running/\s*|\$\d\s*==\s*\"?\w+\"?\s*)?(?:\{\s*print\s+\$\d\s*;?\s*\})?['\"]\s*$)"
)


# One printer for each command whose output says something ---------------------------------------


def _echo(values: Values, words: list[str]) -> list[str]:
    return [one for one in words if not re.fullmatch(r"-[neE]+", one)]


def _printf(values: Values, words: list[str]) -> list[str] | None:
    return (
        words[1:]
        if len(words) > 1 and re.fullmatch(r"%s(?:\\n|\\0)?", words[0])
        else None
    )


def _ls(values: Values, words: list[str]) -> list[str] | None:
    paths = [one for one in words if not one.startswith("-")] or ["."]
    found = []
    for given in paths:
        is_relative = not given.startswith("/") and ("*" not in given or "/" in given)
        path = absolute(given, values.state.folder) if is_relative else given
        if "*" in path or "?" in path:
            found.append(path)
        elif is_sure(path):
            # the names in a folder, or the path itself: which of them it is lies on the disk
            found.append(values.origins.mark(Origin("found", path=path)))
    return found or None


def found_by(values: Values, words: list[str]) -> list[str] | None:
    paths: list[str] = []
    names: list[str] = []
    for word in words:
        if not word.startswith(("-", "(", "!")):
            paths.append(word)
        elif paths:
            break
    for option, value in pairwise(words):
        if option in ("-name", "-iname") and is_sure(value):
            names.append(value)
    name = names[0] if len(names) == 1 else "*"
    return [
        values.origins.mark(
            Origin("found", path=absolute(path, values.state.folder), name=name)
        )
        for path in paths
    ] or None


def _virsh(values: Values, words: list[str]) -> list[str] | None:
    rest = list(words)
    while rest and rest[0].startswith("-"):
        taken = 2 if rest[0] in ("-c", "--connect") else 1
        rest = rest[taken:]
    if not rest:
        return None
    options, operands = (
        [one for one in rest[1:] if one.startswith("-")],
        [one for one in rest[1:] if one[:1] != "-"],
    )
    if rest[0] == "list":
        off = {"--inactive", "--state-shutoff"} & set(options)
        runs = not off and "--all" not in options
        return [values.origins.mark(Origin("guest", every=not off, runs=runs))]
    if rest[0] in ("domblklist", "dumpxml") and operands:
        # read as it is written: which column or element of it is used is seen by what it is used for
        return [
            values.origins.mark(Origin("image", guest=operands[0], after=values.calls))
        ]
    return None


def _which(values: Values, words: list[str]) -> list[str] | None:
    names = [one for one in words if not one.startswith("-")]
    return names[:1] if len(names) == 1 and is_sure(names[0]) else None


def _basename(values: Values, words: list[str]) -> list[str] | None:
    names = [one for one in words if one not in ("--", "-a")]
    if not names or "/" not in names[0]:
        return (
            None
            if not names or not is_sure(names[0])
            else [names[0].removesuffix("".join(names[1:2]))]
        )
    name = names[0].rstrip("/").rpartition("/")[2]
    return [
        name.removesuffix(names[1]) if len(names) > 1 and name != names[1] else name
    ]


def _dirname(values: Values, words: list[str]) -> list[str] | None:
    return (
        [posixpath.dirname(words[-1])] if words and words[-1].startswith("/") else None
    )


def _realpath(values: Values, words: list[str]) -> list[str] | None:
    paths = [one for one in words if not one.startswith("-")]
    return (
        [paths[0]]
        if len(paths) == 1 and (paths[0].startswith("/") or not is_sure(paths[0]))
        else None
    )


def _losetup(values: Values, words: list[str]) -> list[str] | None:
    """`losetup --find --show IMAGE`: the device holds what the image holds, so the image stands for it."""
    files = [one for one in words if not one.startswith("-")]
    return files if len(files) == 1 and "--show" in words else None


def _date(values: Values, words: list[str]) -> list[str] | None:
    """One word, unless its format has blanks in it."""
    plain = any(
        re.fullmatch(r"\+[^\s]*", one) and not re.search(r"%[-_0^#]?[cr+tnx]", one)
        for one in words
    )
    return (
        [values.origins.mark(Origin("name"), key=f"date {' '.join(words)}")]
        if plain
        else None
    )


def _name(values: Values, words: list[str]) -> list[str] | None:
    return [values.origins.mark(Origin("name"))]


def _pwd(values: Values, words: list[str]) -> list[str] | None:
    return [values.state.folder]


_PRINTERS: dict[str, Callable[[Values, list[str]], list[str] | None]] = {
    "echo": _echo,
    "printf": _printf,
    "ls": _ls,
    "find": found_by,
    "virsh": _virsh,
    "which": _which,
    "command": _which,
    "type": _which,
    "basename": _basename,
    "dirname": _dirname,
    "realpath": _realpath,
    "readlink": _realpath,
    "pwd": _pwd,
    "losetup": _losetup,
    "date": _date,
    "hostname": _name,
    "uname": _name,
    "whoami": _name,
    "mktemp": _name,
}
