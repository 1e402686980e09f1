"""The values of words of a shell script, as far as the script itself determines them. Nothing is run."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tree_sitter import Node

from reclaim.jobs.grammar import first_of, text_of
from reclaim.jobs.words import (
    LONGEST,
    UNKNOWN,
    Origin,
    Origins,
    Word,
    absolute,
    is_sure,
    texts_of,
    without_options,
)

#: variables that are kept apart; more are not known
_MOST = 500
#: words of one value
MOST_WORDS = 512
#: expansions within expansions
_DEEPEST = 30


@dataclass(frozen=True)
class Text:
    """A piece of shell: its bytes, its place in the job's file (None: elsewhere), its first line, its file."""

    source: bytes
    offset: int | None = 0
    first_line: int = 1
    file: str = ""

    def line(self, node: Node) -> int:
        return int(self.first_line + node.start_point[0])

    def place(self, position: int) -> int | None:
        if self.offset is None:
            return None
        return self.offset + position


def _kept(word: str) -> str:
    if len(word) > LONGEST:
        return UNKNOWN
    return word


@dataclass
class State:
    """All that is known at one point of a script: variables (an array has several words), arguments, standard input."""

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

    def first_word(self, name: str, otherwise: str = UNKNOWN) -> str:
        """Return the first word of a variable, "" if it has none; *otherwise* if it is not known."""
        words = self.variables.get(name, (otherwise,))
        return "".join(words[:1])

    def known_arguments(self) -> tuple[str, ...]:
        """Return the arguments; one that is not known if they are not."""
        if self.arguments is None:
            return (UNKNOWN,)
        return self.arguments

    def set(self, name: str, words: Iterable[str], *, array: bool = False) -> None:
        kept = tuple(map(_kept, words))
        if len(kept) > MOST_WORDS:
            kept = (UNKNOWN,)
        if name in self.references:
            name = self._referred(name)
        if name not in self.variables and len(self.variables) >= _MOST:
            return
        self.variables[name] = kept
        if array:
            self.arrays |= {name}
        elif name in self.arrays:
            self.arrays -= {name}

    def _referred(self, name: str) -> str:
        """Return the variable that *name* stands for; if that is not known, any may be set."""
        other = self.references[name]
        if not other.isidentifier() or other in self.references:
            self.forget()
            return name
        return other

    def forget(self) -> None:
        """Anything may have been set."""
        folder = self.variables.get("PWD")
        self.variables = dict.fromkeys(self.variables, (UNKNOWN,))
        if folder is not None:
            self.variables["PWD"] = folder

    def copy(self) -> State:
        return State(
            dict(self.variables),
            self.arguments,
            self.arrays,
            self.line,
            dict(self.references),
        )


def arguments_of(words: list[Word]) -> tuple[str, ...] | None:
    """Return *words* as the arguments of a function or script; None if there may be more or fewer of them."""
    if any(word.splits for word in words):
        return None
    return tuple(texts_of(words))


def joined(states: list[State]) -> State:
    """Return all that is known if any of *states* may be the case."""
    first, *others = states
    result = first.copy()
    for other in others:
        for name in {*result.variables, *other.variables}:
            ours, theirs = result.variables.get(name), other.variables.get(name)
            if ours != theirs:
                result.variables[name] = _either(ours or (), theirs or ())
        result.arrays |= other.arrays
        result.references |= other.references
        if result.arguments != other.arguments:
            result.arguments = None
    return result


def _either(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    """The words that both begin with, and something unknown."""
    shorter, longer = sorted((ours, theirs), key=_length)
    begins_alike = longer[: len(shorter)] == shorter
    if shorter and begins_alike:
        return (*shorter, UNKNOWN)
    if len(longer) != 1:
        return (UNKNOWN,)
    word = "".join(shorter)
    if not longer[0].startswith(word):
        return (UNKNOWN,)
    return (word + UNKNOWN,)


def _length(words: tuple[str, ...]) -> tuple[int, int]:
    """The number of words, then of their characters."""
    return len(words), sum(map(len, words))


_EXPANSIONS = ("simple_expansion", "expansion", "command_substitution")


def _has_expansion(node: Node) -> bool:
    return any(child.type in _EXPANSIONS for child in node.named_children)


def _parted(value: str) -> list[str]:
    """*value* split at blanks; other white space parts it only beside these."""
    if not value:
        return []
    if " " in value or "\n" in value:
        return value.split()
    return [value]


_PLAIN = ("word", "number", "variable_name", "extglob_pattern", "regex")


#: the number of an argument; $0 is the name of the script, and so is ${00}
_POSITION = re.compile("[0-9]*[1-9][0-9]*")
_EXPANDS = re.compile("[$`]")


def _without_backslashes(raw: str) -> str:
    return re.sub(r"\\(?:\n)?(.?)", r"\1", raw, flags=re.DOTALL)


def _unquoted(raw: str) -> str:
    return raw[1:-1]


def _of_ansi_c(raw: str) -> str:
    if "\\" in raw:
        return UNKNOWN
    return raw[2:-1]


def _of_double_quotes(raw: str) -> str:
    return re.sub(r'\\(?:([$`"\\])|\n)', r"\1", raw)


#: how the text of each node that holds text alone is read
_TEXTS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(_PLAIN, _without_backslashes),
    "raw_string": _unquoted,
    "ansi_c_string": _of_ansi_c,
    "string_content": _of_double_quotes,
}


#: operators that cut a piece off: at the start, at the end
_CUTS = ("##", "#", "%%", "%")


_WRAPS_COMMANDS = (
    "command_substitution",
    "process_substitution",
    "subshell",
    "redirected_statement",
)


def _commands(node: Node) -> list[Node]:
    """The commands in a substitution or subshell, without redirections and comments."""
    commands = []
    for child in node.named_children:
        if child.type != "comment" and not child.type.endswith("_redirect"):
            commands.append(child)
    return commands


#: filters that leave out parts of words, and no word
_KEEPS_ALL = ("tr", "cut", "column", "xargs")


@dataclass
class Values:
    """Reads words of one text with the variables that are known now."""

    text: Text
    state: State
    origins: Origins
    #: commands that were read before
    calls: int = 0
    depth: int = 0

    # Words ------------------------------------------------------------------------------------

    def words(self, node: Node) -> list[Word]:
        """The words that *node* becomes: one, unless an expansion without quotes is split."""
        if node.type == "command_name" and node.named_child_count == 1:
            node = node.named_children[0]
        start = self.text.place(node.start_byte)
        end = self.text.place(node.end_byte)
        several = self._several(node)
        if several is not None:
            return [_placed(word, start, end) for word in several]
        braces = self._braces(node)
        if braces:
            return [Word(text, start, end) for text in braces]
        text = self.value(node)
        if not _has_expansion(node):
            return [Word(text, start, end)]
        is_literal = node.type in ("word", "raw_string")
        splits = False
        if node.type == "concatenation":
            splits = not self._are_names(text)
        return [Word(text, start, end, splits=splits, is_literal=is_literal)]

    def _several(self, node: Node) -> list[Word] | None:
        """The words of an expansion that may be several; None for any other node."""
        if node.type in _EXPANSIONS:
            return self._split(node)
        if node.type == "string":
            return self._listed(node)
        return None

    def _split(self, node: Node) -> list[Word]:
        """The words of an expansion without quotes: it is split at blanks."""
        if node.type == "command_substitution":
            values: Iterable[str] = self.output(node)
        else:
            values = self._elements(node)
        words = []
        for value in values:
            for text in _parted(value):
                words.append(Word(text, splits=self._may_split(text)))
        return words

    def _may_split(self, text: str) -> bool:
        """True if *text* may become several words.

        A path or a name that something lists is one word. Anything else that is not known may be several.
        """
        if is_sure(text) or text[:1] == "/":
            return False
        kinds = {origin.kind for origin in self.origins.within(text)}
        return not kinds - {"text"}

    def _kind(self, text: str) -> str:
        """The kind of the origin of one mark; "text" for anything else."""
        origin = self.origins.of(text)
        if origin is None:
            return "text"
        return origin.kind

    def _are_names(self, text: str) -> bool:
        """True if all that is not known of it is something without blanks."""
        for character in text:
            if is_sure(character):
                continue
            if self._kind(character) == "text":
                return False
        return True

    def _elements(self, node: Node) -> tuple[str, ...]:
        """All words of `$NAME`, `${NAME[@]}`, `$@`."""
        raw = text_of(node, self.text.source)
        if raw in ("$@", "$*", "${@}", "${*}"):
            return self.state.known_arguments()
        array = re.fullmatch(r"\$\{(\w+)\[[@*]\]\}", raw)
        if array is not None:
            return self.state.variables.get(array[1], (UNKNOWN,))
        return (self.value(node),)

    def _listed(self, node: Node) -> list[Word] | None:
        """`"$@"` and `"${NAME[@]}"` are as many words as there are elements; None for another string."""
        raw = text_of(node, self.text.source)
        if not re.fullmatch(r'"\$(?:@|\{@\}|\{\w+\[@\]\})"', raw):
            return None
        elements = self._elements(node.named_children[0])
        return [Word(element, splits=element == UNKNOWN) for element in elements]

    def _braces(self, node: Node) -> list[str]:
        """The words of `{a,b}` and `x{a,b}` if they are text alone, else none."""
        raw = text_of(node, self.text.source)
        if node.type not in ("word", "concatenation") or "{" not in raw:
            return []
        braces = re.fullmatch(
            r"([^{}$`'\"\\]*)\{([^{}$`\\]*,[^{}$`\\]*)\}([^{}$`'\"\\]*)", raw
        )
        if braces is None:
            return []
        before, listed, behind = braces.groups()
        words = []
        for part in listed.split(","):
            plain = re.sub("['\"]", "", part)
            words.append(f"{before}{plain}{behind}")
        return words[:MOST_WORDS]

    def value(self, node: Node) -> str:
        """Return the value of *node* as one text."""
        if self.depth > _DEEPEST:
            return UNKNOWN
        self.depth += 1
        try:
            text = self._value(node)
        finally:
            self.depth -= 1
        return _kept(text)

    def _value(self, node: Node) -> str:
        raw = text_of(node, self.text.source)
        if node.type == "regex" and _EXPANDS.search(raw):
            return UNKNOWN  # the grammar does not take such a pattern apart
        read_text = _TEXTS.get(node.type)
        if read_text is not None:
            return read_text(raw)
        match node.type:
            case "string" | "concatenation":
                return self._parts(node)
            case "simple_expansion":
                return self._variable(raw[1:])
            case "expansion":
                return self._expansion(node, raw)
            case "command_substitution":
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
        if _POSITION.fullmatch(name):
            return self._argument(name)
        if name in ("@", "*"):
            return " ".join(self.state.known_arguments())
        name = self.state.references.get(name, name)
        words = self.state.variables.get(name)
        if words is None:
            return self.origins.mark(key=f"variable {name}")
        if name in self.state.arrays:
            words = words[:1]
        return " ".join(words)

    def _argument(self, name: str) -> str:
        arguments = self.state.arguments
        if arguments is None:
            return self.origins.mark(key=f"argument {name}")
        digits = name.lstrip("0")
        index = int(digits[:5]) - 1  # no call has as many arguments
        return arguments[index] if index < len(arguments) else ""

    def _expansion(self, node: Node, raw: str) -> str:
        """`${NAME}`, and bash's changes to it: a default, a piece cut off at either end, a replacement."""
        plain = re.fullmatch(r"\$\{(\w+)\}", raw)
        if plain:
            return self._variable(plain[1])
        array = re.fullmatch(r"\$\{(\w+)\[([@*0])\]\}", raw)
        if array:
            words = self.state.variables.get(array[1], (UNKNOWN,))
            if array[2] == "0":
                words = words[:1]
            return " ".join(words)
        changed = re.match(r"\$\{(\w+)(##|#|%%|%|:-|-|:=|=|:\?|\?)", raw)
        if changed is None:
            return self.origins.mark()
        name, operator = changed.groups()
        value = self._variable(name)
        rest = "".join(map(self.value, node.named_children[1:]))
        if operator in _CUTS:
            return _cut(value, operator, rest) or self.origins.mark()
        if operator in (":-", "-", ":=", "=") and self._is_set(name):
            return value or rest
        return value  # the environment may say it, or the caller

    def _is_set(self, name: str) -> bool:
        if name in self.state.variables:
            return True
        return name.isdecimal() and self.state.arguments is not None

    # What commands print ----------------------------------------------------------------------

    def output(self, node: Node) -> list[str]:
        """Return the words that a substitution, a command or a pipeline prints, as far as they can be told."""
        if self.depth > _DEEPEST:
            return [UNKNOWN]
        self.depth += 1
        try:
            return self._output(node)
        finally:
            self.depth -= 1

    def _output(self, node: Node) -> list[str]:
        if node.type in _WRAPS_COMMANDS:
            commands = _commands(node)
            if len(commands) == 1:
                return self.output(commands[0])
            return self._of_loop(commands)
        if node.type == "pipeline":
            first, *stages = node.named_children
            printed = self.output(first)
            for stage in stages:
                printed = self.filtered(printed, stage)
            return printed
        if node.type == "command":
            return self._printed(node)
        if node.type == "for_statement":
            return self._of_loop(node.named_children)
        return [self.origins.mark()]

    def _of_loop(self, nodes: list[Node]) -> list[str]:
        """A loop over guests prints the output of its last command, for each."""
        group = first_of(nodes, "do_group")
        if group is None or group.named_child_count != 1:
            return [self.origins.mark()]
        command = group.named_children[0]
        raw = self.text.source[command.start_byte : command.end_byte]
        if b"domblklist" not in raw:
            return [self.origins.mark()]
        return [self.origins.mark(Origin("image", UNKNOWN, after=self.calls))]

    def _printed(self, node: Node) -> list[str]:
        words = self._words_of(node)
        if words[:1] in (["sudo"], ["command"]) and words[1:2] != ["-v"]:
            words = words[1:]
        name = posixpath.basename("".join(words[:1]))
        printer = _PRINTERS.get(name)
        if printer is not None:
            printed = printer(self, list(filter(None, words[1:])))
            if printed is not None:
                return printed
        key = ""
        if name == "date":
            key = text_of(node, self.text.source)
        return [self.origins.mark(key=key)]

    def _words_of(self, command: Node) -> list[str]:
        parts = command.children_by_field_name("name")[:1]
        parts += command.children_by_field_name("argument")
        words = []
        for part in parts:
            words += self.words(part)
        return texts_of(words)

    def filtered(self, piped: list[str], stage: Node) -> list[str]:
        """The words that come through awk, grep, …: paths and names stay such, maybe not all of them."""
        command = stage
        while command.type == "redirected_statement":
            command = command.named_children[0]
        raw = text_of(command, self.text.source)
        program = _program_of(raw)
        if program not in _FILTERS or command.type != "command":
            return [self.origins.mark()]
        if program in ("sort", "uniq", "tac", "tee"):
            return piped
        kept = list(filter(self._is_listed, piped))
        if not kept:
            return [self.origins.mark()]
        if program in _KEEPS_ALL:
            return kept
        if _TAKES_ALL.search(raw):
            return kept
        return list(map(self._some, kept))

    def _is_listed(self, text: str) -> bool:
        """True for one mark of a path or a name that something lists."""
        return self._kind(text) != "text"

    def _some(self, mark: str) -> str:
        """*mark*, or in the place of all guests some of them."""
        origin = self.origins.of(mark)
        if origin is None or not origin.every:
            return mark
        return self.origins.mark(replace(origin, every=False))


def _placed(word: Word, start: int | None, end: int | None) -> Word:
    """A word of a variable lies elsewhere; one that is not known lies at the place of the expansion."""
    if is_sure(word.text):
        return word
    return replace(word, start=start, end=end)


def _program_of(command: str) -> str:
    """The name of the program that a command runs, without the assignments before it."""
    program = re.match(r"\s*(?:\w+=\S*\s+)*\\?([\w./-]*)", command)
    if program is None:
        return ""
    return posixpath.basename(program[1])


def _cut(value: str, operator: str, pattern: str) -> str | None:
    """`${NAME#pattern}` and its like, for a value that is known, or a path with something unknown in it."""
    if not is_sure(pattern):
        return None
    is_known = is_sure(value)
    if not is_known and "/" not in value:
        return None
    folder, _, name = value.rpartition("/")
    if (operator, pattern) == ("##", "*/"):
        return name
    if (operator, pattern) == ("%", "/*"):
        return folder
    if not is_known or len(value) > 1024:
        return None
    return _cut_by_pattern(value, operator, pattern)


def _cut_by_pattern(value: str, operator: str, pattern: str) -> str:
    """*value* without the shortest or longest piece that fits, at its start or its end."""
    lengths = list(range(len(value) + 1))
    if operator in ("##", "%%"):
        lengths.reverse()
    at_start = operator in ("#", "##")
    for length in lengths:
        cut = length if at_start else len(value) - length
        before, behind = value[:cut], value[cut:]
        piece, rest = (before, behind) if at_start else (behind, before)
        if fnmatch.fnmatchcase(piece, pattern):
            return rest
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
    printed = []
    for word in words:
        if not re.fullmatch(r"-[neE]+", word):
            printed.append(word)
    return printed


def _printf(values: Values, words: list[str]) -> list[str] | None:
    if len(words) < 2:
        return None
    form, *printed = words
    if not re.fullmatch(r"%s(?:\\n|\\0)?", form):
        return None
    return printed


def _ls(values: Values, words: list[str]) -> list[str] | None:
    listed = []
    for operand in without_options(words) or ["."]:
        path = _path_listed(operand, values.state.folder)
        if _WILDCARD.search(path):
            listed.append(path)
        elif is_sure(path):
            # the names in a folder, or the path itself: which of them it is lies on the disk
            mark = values.origins.mark(Origin("found", path=path))
            listed.append(mark)
    return listed or None


_WILDCARD = re.compile("[*?]")


def _path_listed(operand: str, folder: str) -> str:
    """*operand* from *folder* on; a pattern without a folder stays as it is."""
    if operand.startswith("/"):
        return operand
    if "*" in operand and "/" not in operand:
        return operand
    return absolute(operand, folder)


def found_by(values: Values, words: list[str]) -> list[str]:
    """A mark for each path that a find begins at; of one that leaves names out it is not known which files it finds."""
    name = _name_found(words)
    marks = []
    for operand in _paths_of_find(words):
        path = absolute(operand, values.state.folder)
        origin = Origin("found", path=UNKNOWN)
        if name is not None:
            origin = Origin("found", path=path, name=name)
        marks.append(values.origins.mark(origin))
    return marks


def _name_found(words: list[str]) -> str | None:
    """Return a pattern that all names fit which a find finds; None if it leaves some out by their names."""
    names = []
    for before, option, value in zip(["", *words], words, words[1:], strict=False):
        if option not in ("-name", "-iname"):
            continue
        if before in ("!", "-not"):
            return None
        if not is_sure(value):
            return None
        name = value
        if option == "-iname":
            name = _in_any_case(value)
        names.append(name)
    if len(names) != 1:
        return "*"
    return names[0]


def _in_any_case(pattern: str) -> str:
    if "[" in pattern:
        return "*"
    return "".join(map(_letter_in_any_case, pattern))


def _letter_in_any_case(letter: str) -> str:
    if not letter.isalpha():
        return letter
    return f"[{letter.lower()}{letter.upper()}]"


def _paths_of_find(words: list[str]) -> list[str]:
    """The words before the first of find's expression; it begins in its own folder if there are none."""
    paths: list[str] = []
    for word in words:
        if word.startswith(("-", "(", "!")):
            if not _BEFORE_PATHS.fullmatch(word):
                break
        else:
            paths.append(word)
    return paths or ["."]


#: options of find that come before its paths
_BEFORE_PATHS = re.compile(r"-[HLP]|-O\d|-D\S+|--")


def _virsh(values: Values, words: list[str]) -> list[str] | None:
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-c", "--connect"):
            rest = rest[1:]
    if not rest:
        return None
    command, *others = rest
    if command == "list":
        return [values.origins.mark(_guests_listed(others))]
    operands = without_options(others)
    if command not in ("domblklist", "dumpxml") or not operands:
        return None
    # read as it is written: which column or element of it is used is seen by what it is used for
    origin = Origin("image", guest=operands[0], after=values.calls)
    return [values.origins.mark(origin)]


def _guests_listed(options: list[str]) -> Origin:
    if not {"--inactive", "--state-shutoff"}.isdisjoint(options):
        return Origin("guest")
    return Origin("guest", every=True, runs="--all" not in options)


def _which(values: Values, words: list[str]) -> list[str] | None:
    names = without_options(words)
    if len(names) != 1 or not is_sure(names[0]):
        return None
    return names


def _basename(values: Values, words: list[str]) -> list[str] | None:
    operands = [word for word in words if word not in ("--", "-a")]
    if not operands:
        return None
    path = operands[0]
    ending = "".join(operands[1:2])
    if "/" in path:
        name = path.rstrip("/").rpartition("/")[2]
        if name == ending:
            return [name]
        return [name.removesuffix(ending)]
    if not is_sure(path):
        return None
    return [path.removesuffix(ending)]


def _dirname(values: Values, words: list[str]) -> list[str] | None:
    path = "".join(words[-1:])
    if not path.startswith("/"):
        return None
    return [posixpath.dirname(path)]


def _realpath(values: Values, words: list[str]) -> list[str] | None:
    paths = without_options(words)
    if len(paths) != 1:
        return None
    path = paths[0]
    if is_sure(path) and not path.startswith("/"):
        return None
    return paths


def _losetup(values: Values, words: list[str]) -> list[str] | None:
    """`losetup --find --show IMAGE`: the device has the content of the image, so the image stands for it."""
    files = without_options(words)
    if len(files) != 1 or "--show" not in words:
        return None
    return files


#: conversions of date(1) that print blanks, or may
_DATE_WITH_BLANKS = re.compile(r"%[-_0^#]?[cr+tnx]")


def _date(values: Values, words: list[str]) -> list[str] | None:
    """One word, unless its format has blanks in it."""
    for word in words:
        if re.fullmatch(r"\+[^\s]*", word) and not _DATE_WITH_BLANKS.search(word):
            key = f"date {' '.join(words)}"
            return [values.origins.mark(Origin("name"), key=key)]
    return None


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
