"""Commands in shell scripts, in the order in which they run, by tree-sitter's bash grammar. Nothing is run.

Functions are read where they are called, with their arguments; loops over known words once for each word; scripts
that the job starts are read too, some steps deep. What else comes from an expansion is uncertain, and a word says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Protocol

from tree_sitter import Node

from reclaim.jobs import grammar
from reclaim.jobs.calls import Branch, Call, Script
from reclaim.jobs.grammar import substitutions, text_of
from reclaim.jobs.values import State, Text, Values, joined
from reclaim.jobs.words import UNKNOWN, Origin, Word, absolute, is_sure, shown
from reclaim.jobs.wrappers import unwrapped

#: blocks, functions and scripts within one another
_DEEPEST = 60
_DEEPEST_FILES = 4
#: choices on the way to a command
_MOST_CHOICES = 100
#: words of a loop that are gone through one by one
_MOST_TURNS = 40
SHELLS = ("sh", "bash", "dash", "ksh", "zsh", "ash", "mksh", "rbash")
#: programs of the system: none of them is a script of somebody's own
_OF_THE_SYSTEM = re.compile(r"/(?:usr/)?s?bin/[^/]+")
_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
_LANGUAGES = (("python", "Python"), ("perl", "Perl"), ("ruby", "Ruby"), ("php", "PHP"), ("node", "JavaScript"),
              ("lua", "Lua"), ("fish", "fish"), ("pwsh", "PowerShell"), ("tclsh", "Tcl"), ("expect", "Expect"),
              ("ansible", "Ansible"), ("make", "make"))  # fmt: skip


class Unreadable(Exception):
    """A file that the job starts cannot be read, and why."""


class Files(Protocol):
    """The files of the machine that the job runs on."""

    def read(self, path: str, /) -> bytes:
        """The content of a regular file. Raises Unreadable."""
        ...


class NoFiles:
    """For texts of which nothing else is read."""

    def read(self, path: str, /) -> bytes:
        raise Unreadable("nothing else is read here")


@dataclass
class _Input:
    """What a command gets and where its output goes."""

    here: Node | None = None
    here_string: str | None = None
    stdin: Word | None = None
    stdout: Word | None = None


def language_of(source: bytes, path: str = "") -> str | None:
    """The language of a script that is no shell, by its first line, else by its name."""
    first = source.split(b"\n", 1)[0][:200].decode("ascii", errors="replace")
    suffix = PurePosixPath(path).suffix
    if first.startswith("#!"):
        program = next((one for one in re.split(r"[\s/]+", first[2:])[::-1] if one and not one.startswith("-")), "")
        words = [program, *re.split(r"[\s/]+", first)]
        return next((name for key, name in _LANGUAGES for word in words if word.startswith(key)), None)
    return {".py": "Python", ".pl": "Perl", ".rb": "Ruby", ".php": "PHP"}.get(suffix)


@dataclass
class Shell:
    """Reads shell into a Script. One for a job: the functions and what is known are those of its file."""

    script: Script
    files: Files = field(default_factory=NoFiles)
    text: Text = field(default_factory=lambda: Text(b""))
    state: State = field(default_factory=State)
    functions: dict[str, tuple[Node, Text]] = field(default_factory=dict)
    #: may a program that nobody knows be a script? Asked with its name
    is_known: Callable[[str], bool] = lambda _: False
    branch: Branch = ()
    host: str = ""
    pipe: int = 0
    background: bool = False
    depth: int = 0
    _numbers: int = 0
    _opened: tuple[str, ...] = ()
    _called: tuple[str, ...] = ()
    _call_line: int = 0
    _traps: list[tuple[Word, Text]] = field(default_factory=list)
    _given: _Input = field(default_factory=_Input)
    _words_of_stdin: list[str] | None = None

    # Texts ------------------------------------------------------------------------------------

    def read(self, text: Text) -> None:
        """Read *text* as a script of its own; what it leaves for its end is read at its end."""
        before, self._traps = self._traps, []
        self.run(text)
        for word, place in self._traps[-8:]:
            self._look_into(word, self._line_of(word, place))
        self._traps = before

    def _line_of(self, word: Word, text: Text) -> int:
        if word.start is None or text.offset is None:
            return text.first_line
        return text.first_line + text.source.count(b"\n", 0, max(0, word.start - text.offset))

    def run(self, text: Text) -> None:
        """Read *text* with what is known now."""
        try:
            root, plain = grammar.parse(text.source)
        except grammar.Unparsable:
            self.script.whole = False
            self._skip(f"line {text.first_line} and those after it cannot be parsed as shell")
            return
        before, self.text = self.text, replace(text, source=plain)
        noted = len(self.script.unread)
        try:
            self._block(root)
            if root.has_error:
                self._note_broken(root, noted)
        finally:
            self.text = before

    def _note_broken(self, root: Node, noted: int) -> None:
        """A part that cannot be parsed is told once, also where no statement begins there."""
        self.script.whole = False
        if not any("cannot be parsed" in one.text for one in self.script.unread[noted:]):
            self._broken(next((one for one in grammar.below(root) if one.is_error or one.is_missing), root))

    @contextmanager
    def _in(self, branch: Branch | None = None, **values: object) -> Iterator[None]:
        """Other values of some attributes for a while."""
        if branch is not None:
            values["branch"] = branch
        before = {name: getattr(self, name) for name in values}
        for name, value in values.items():
            setattr(self, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    @property
    def _values(self) -> Values:
        return Values(self.text, self.state, self.script.origins)

    def _skip(self, text: str) -> None:
        self.script.skip(f"{self.text.file} {text}".strip(), self.branch)

    # Statements -------------------------------------------------------------------------------

    def _block(self, node: Node) -> None:
        """Statement after statement; one with `&` after it goes on beside the others."""
        branch = self.branch
        children = node.children
        for number, child in enumerate(children):
            if child.is_named or child.type == "ERROR":
                goes_on = number + 1 < len(children) and children[number + 1].type == "&"
                with self._in(background=self.background or goes_on):
                    self._statement(child)
                if _may_leave_a_turn(child, self.text.source) and len(self.branch) < _MOST_CHOICES:
                    self.branch = (*self.branch, (self._number(), 0))
        self.branch = branch

    def _statement(self, node: Node) -> None:
        budget = self.script.budget
        budget.statements -= 1
        if self.depth > _DEEPEST:
            self._skip(f"line {self.text.line(node)}: it is nested too deep to be read")
            return
        if budget.statements <= 0:
            if budget.statements == 0:
                self._skip(f"line {self.text.line(node)}: what follows is too long to be read")
            return
        if node.type == "ERROR" or node.is_missing:
            self._broken(node)
            return
        reader = _STATEMENTS.get(node.type)
        self.depth += 1
        try:
            if reader is not None:
                reader(self, node)
            else:
                self._substituted(node)
        finally:
            self.depth -= 1

    def _broken(self, node: Node) -> None:
        self.script.whole = False
        self._skip(f"line {self.text.line(node)} cannot be parsed as shell")

    def _substituted(self, node: Node) -> None:
        """The commands in the `$(…)` and `<(…)` of a node."""
        for one in substitutions(node):
            with self._own():
                self._block(one)

    @contextmanager
    def _own(self) -> Iterator[None]:
        """A subshell: what it sets and where it goes ends with it."""
        with self._in(state=self.state.copy(), functions=dict(self.functions), pipe=0):
            yield

    def _subshell(self, node: Node) -> None:
        with self._in(state=self.state.copy(), functions=dict(self.functions)):
            self._block(node)

    def _negated_command(self, node: Node) -> None:
        for child in node.named_children:
            self._statement(child)

    def _chain(self, node: Node) -> None:
        """`A && B`, `A || B`: B runs on what came of A."""
        # the grammar puts the chain's first part innermost: a loop, since such a chain may be long
        parts: list[tuple[str, Node]] = []
        while node.type == "list" and len(node.named_children) >= 2:
            operator = next((one.type for one in node.children if one.type in ("&&", "||")), "&&")
            parts.append((operator, node.named_children[-1]))
            node = node.named_children[0]
        self._statement(node)
        branch = last = self.branch
        for operator, part in reversed(parts):
            if _only_leaves(part, self.text.source):
                continue
            choice = self._number()
            if operator == "&&":
                self._note_question(choice, node)
            node = part
            last = last if operator == "&&" else branch
            last = (*last, (choice, 0)) if len(last) < _MOST_CHOICES else last
            before = self.state.copy()
            with self._in(branch=last):
                self._statement(part)
            self.state = joined([before, self.state])

    def _pipeline(self, node: Node) -> None:
        number = self.pipe or self._number()
        printed: list[str] | None = None
        children = node.named_children
        for position, child in enumerate(children):
            wanted = child.type in ("while_statement", "for_statement", "compound_statement", "subshell")
            reads = wanted or b"xargs" in self.text.source[child.start_byte : child.end_byte] or (
                b"parallel" in self.text.source[child.start_byte : child.end_byte]
            )  # fmt: skip
            words = printed if position else self._words_of_stdin
            keeps = child.type not in ("while_statement", "for_statement")
            with self._in(pipe=number if keeps else 0, _words_of_stdin=words if reads else None):
                self._statement(child)
            printed = self._passed(printed, child, first=position == 0)

    def _passed(self, printed: list[str] | None, child: Node, *, first: bool) -> list[str] | None:
        """What the pipeline holds after *child*."""
        if first:
            return self._values.output(child)
        return self._values._filtered(printed, child) if printed is not None else None  # noqa: SLF001

    def _redirected_statement(self, node: Node) -> None:
        given = replace(self._given)
        rest: list[Node] = []
        words = self._words_of_stdin
        for one in node.children_by_field_name("redirect"):
            self._substituted(one)
            words = self._redirect(one, given, rest) or words
        body = node.child_by_field_name("body")
        number = self.pipe or (self._number() if rest else 0)
        with self._in(_given=given, _words_of_stdin=words, pipe=number):
            if body is not None:
                self._statement(body)
        for one in rest:
            with self._in(pipe=number):
                self._statement(one)

    def _redirect(self, node: Node, given: _Input, rest: list[Node]) -> list[str] | None:
        """Note where input comes from and output goes to; the words of the input where they are known."""
        if node.type == "heredoc_redirect":
            given.here = node
            for child in node.named_children:
                if child.type == "file_redirect":
                    self._redirect(child, given, rest)
                elif child.type in ("pipeline", "list", "command"):
                    rest.append(child)
            return None
        if node.type == "herestring_redirect":
            words = [word.text for child in node.named_children for word in self._values.words(child)]
            given.here_string = " ".join(words)
            return words
        operator = next((child.type for child in node.children if not child.is_named), "")
        target = node.child_by_field_name("destination") or (node.named_children[-1] if node.named_children else None)
        descriptor = next(
            (text_of(one, self.text.source) for one in node.children if one.type == "file_descriptor"), ""
        )
        if target is None or "&" in operator.strip("&>") or (descriptor and descriptor not in "01"):
            return None
        if target.type == "process_substitution":
            return self._values.output(target) if operator == "<" else None
        if operator == "<":
            given.stdin = (self._values.words(target) or [Word(UNKNOWN)])[0]
        elif operator in (">", ">>", ">|", "&>", "&>>") and target.type != "number":
            given.stdout = (self._values.words(target) or [Word(UNKNOWN)])[0]
        return None

    # Choices and loops ------------------------------------------------------------------------

    def _if_statement(self, node: Node) -> None:
        choice, arms, before = self._number(), [], self.state
        has_else = False
        parts: list[list[Node]] = [[]]
        for child in node.children:
            if child.type in ("then", "elif_clause", "else_clause"):
                parts.append([])
            if child.is_named:
                parts[-1].append(child)
        for child in parts[0]:
            self._statement(child)
            self._note_question(choice, child)
        before = self.state
        for arm, part in enumerate(parts[1:], start=1):
            has_else = has_else or any(child.type == "else_clause" for child in part)
            with self._in(branch=(*self.branch, (choice, arm)), state=before.copy()):
                for child in part:
                    self._statement(child)
                arms.append(self.state)
        self.state = joined(arms if has_else and arms else [before, *arms])

    def _note_question(self, choice: int, node: Node) -> None:
        """Does the choice ask whether a guest runs? "If it runs, shut it down" leaves it off either way."""
        if _STATE.search(self.text.source[node.start_byte : node.end_byte]):
            self.script.asked.add(choice)

    def _case_statement(self, node: Node) -> None:
        choice, before = self._number(), self.state
        subject = node.child_by_field_name("value")
        if subject is not None:
            self._note_question(choice, subject)
        arms = [before]
        for arm, item in enumerate(one for one in node.named_children if one.type == "case_item"):
            with self._in(branch=(*self.branch, (choice, arm)), state=before.copy()):
                for child in item.named_children:
                    if child.type not in ("word", "extglob_pattern", "string", "raw_string", "concatenation"):
                        self._statement(child)
                arms.append(self.state)
        self.state = joined(arms)

    def _while_statement(self, node: Node) -> None:
        before = self.state.copy()
        words = self._words_of_stdin
        line = words[0] if words and len(words) == 1 else self.script.origins.mark()
        with self._in(_words_of_stdin=None):
            self.state.line = line
            for child in node.named_children:
                self._statement(child)
        self.state = joined([before, self.state])

    def _for_statement(self, node: Node) -> None:
        name = text_of(node.child_by_field_name("variable"), self.text.source)
        body = node.child_by_field_name("body")
        self._each_substituted(node, body)
        values = [word.text for one in node.children_by_field_name("value") for word in self._values.words(one)]
        if not node.children_by_field_name("value"):
            values = list(self.state.arguments or (UNKNOWN,))
        if len(values) > _MOST_TURNS:
            values = [self.script.origins.mark()]
        for value in values:
            self.state.set(name, [value if value != UNKNOWN else self.script.origins.mark()])
            if body is not None:
                self._statement(body)

    def _each_substituted(self, node: Node, body: Node | None) -> None:
        for child in node.named_children:
            if body is None or child.start_byte != body.start_byte:
                self._substituted(child)

    def _c_style_for_statement(self, node: Node) -> None:
        before = self.state.copy()
        for child in node.named_children:
            if child.type in ("do_group", "compound_statement"):
                self._statement(child)
        self.state = joined([before, self.state])

    def _function_definition(self, node: Node) -> None:
        name = text_of(node.child_by_field_name("name"), self.text.source)
        body = node.child_by_field_name("body")
        if body is not None:
            self.functions[name] = (body, self.text)

    # Variables --------------------------------------------------------------------------------

    def _variable_assignment(self, node: Node) -> None:
        self._substituted(node)
        name = text_of(node.child_by_field_name("name"), self.text.source)
        value = node.child_by_field_name("value")
        appends = any(child.type == "+=" for child in node.children)
        if not re.fullmatch(r"\w+", name):
            self.state.set(name.partition("[")[0], [UNKNOWN])  # an element of an array
            return
        before = self.state.variables.get(name, (UNKNOWN,)) if appends else ()
        if value is not None and value.type == "array":
            words = [word.text for child in value.named_children for word in self._values.words(child)]
            self.state.set(name, (*before, *words), array=True)
            return
        text = self._values.value(value) if value is not None else ""
        self.state.set(name, ["".join((*before, text))])

    def _variable_assignments(self, node: Node) -> None:
        for child in node.named_children:
            self._statement(child)

    def _declaration_command(self, node: Node) -> None:
        for child in node.named_children:
            if child.type == "variable_assignment":
                self._variable_assignment(child)
            else:
                self._substituted(child)
                self._declared([word.text for word in self._values.words(child)])

    def _declared(self, texts: list[str]) -> None:
        for text in texts:
            name, separator, value = text.partition("=")
            if separator and name.isidentifier():
                self.state.set(name, [value])

    # Commands ---------------------------------------------------------------------------------

    def _command(self, node: Node) -> None:
        self._substituted(node)
        name = node.child_by_field_name("name")
        if name is None:
            return
        if any(child.type == "ERROR" for child in node.children):
            self._broken(node)
            return
        for child in node.named_children:
            # the grammar takes assignments of the lines before for those of the command
            if child.type == "variable_assignment" and child.start_point[0] < name.start_point[0]:
                self._variable_assignment(child)
            elif child.type == "herestring_redirect":
                self._given = replace(self._given)
                self._redirect(child, self._given, [])
        words = [
            word
            for child in (name, *node.children_by_field_name("argument"))
            for word in self._values.words(child)
        ]  # fmt: skip
        # a function that runs what it is given runs it for the line that gave it
        given = self._call_line and re.match(rb"[\"{$]*[@*1]", self.text.source[name.start_byte : name.end_byte])
        self.take(words, self._call_line if given else self.text.line(name))

    def take(self, words: list[Word], line: int) -> None:
        """Read the command made of *words*."""
        budget = self.script.budget
        if not budget.take(len(words)):
            if budget.statements > 0:
                budget.statements = 0
                self._skip(f"line {line}: what follows is too long to be read")
            return
        words, detaches = unwrapped(words)
        if not words:
            return
        with self._in(background=self.background or detaches):
            self._one(words, line)

    def _one(self, words: list[Word], line: int) -> None:
        name = words[0].text.rpartition("/")[2]
        function = None if words[0].text in self._called else self.functions.get(words[0].text)
        builtin = _BUILTINS.get(name)
        if function is not None:
            self._call_function(function, words, line)
        elif builtin is not None:
            builtin(self, words, line)
        elif name in SHELLS:
            self._run_shell(words, line)
        elif name in _RUNNERS:
            _RUNNERS[name](self, words, line)
        elif self._is_script(words[0].text, name):
            self._step_into(words[0].text, words[1:], line)
        else:
            self._emit(words, line)

    def _emit(self, words: list[Word], line: int) -> None:
        insert = words[0].end if not self.host and not self.text.file else None
        self.script.calls.append(
            Call(
                tuple(words),
                line,
                insert,
                " {}",
                self.text.file,
                self.state.folder,
                self.host,
                self.branch,
                self.pipe,
                self.background,
                self._given.stdin,
                self._given.stdout,
            )  # fmt: skip
        )

    def _call_function(self, function: tuple[Node, Text], words: list[Word], line: int) -> None:
        if self.depth > _DEEPEST - 5:
            self._skip(f"line {self.text.first_line}: functions call one another too deep to be read")
            return
        body, text = function
        before, self.state.arguments = self.state.arguments, tuple(word.text for word in words[1:])
        if any(word.splits for word in words[1:]):
            self.state.arguments = None
        with self._in(text=text, _called=(*self._called, words[0].text), _call_line=line):
            self._statement(body)
        self.state.arguments = before

    # Shells and scripts -----------------------------------------------------------------------

    def _run_shell(self, words: list[Word], line: int) -> None:
        inner = _given_script(words)
        if inner is not None:
            with self._own():
                self._look_into(inner, line)
            return
        operands = [word for word in words[1:] if not word.text.startswith(("-", "+"))]
        if operands and not any(word.text == "-s" for word in words[1:]):
            self._step_into(operands[0].text, operands[1:], line)
        elif self._given.here is not None:
            self._heredoc(self._given.here)
        elif self._given.here_string is not None:
            self._look_into(Word(self._given.here_string), line)
        else:
            self._skip(f"line {line}: what the shell is given there comes from elsewhere")

    def _heredoc(self, node: Node) -> None:
        """The text after `<<` as commands; those of a text with expansions in it are read as they stand."""
        body = next((one for one in node.named_children if one.type == "heredoc_body"), None)
        if body is None:
            return
        raw = self.text.source[body.start_byte : body.end_byte]
        inner = Text(raw, self.text.place(body.start_byte), self.text.line(body), self.text.file)
        with self._own(), self._in(_given=_Input()):
            self.run(inner)

    def _look_into(self, word: Word, line: int) -> None:
        if not is_sure(word.text) and word.text.strip() and not re.match(r"[\w./-]+\s", word.text):
            self._skip(f"line {line}: what the shell is given there is put together when it runs")
            return
        text = word.text.encode("utf-8", errors="surrogateescape")
        start = None
        if word.start is not None and word.end is not None and self.text.offset is not None:
            raw = self.text.source[word.start - self.text.offset : word.end - self.text.offset]
            if raw[:1] in (b"'", b'"') and raw[1:-1] == text:  # as it lies in the file, so that it can be edited there
                start = word.start + 1
        self.depth += 5
        try:
            if self.depth > _DEEPEST:
                self._skip(f"line {line}: shells run one another too deep to be read")
                return
            with self._in(_given=_Input()):
                self.run(Text(text, start, line, self.text.file))
        finally:
            self.depth -= 5

    def _is_script(self, path: str, name: str) -> bool:
        """Is it a script of somebody's own, as far as its name says? Programs that are known are not looked into."""
        if self.host or not is_sure(path) or self.is_known(name):
            return False
        return "/" in path or any(self._exists(f"{folder}/{name}") for folder in _FOLDERS)

    def _exists(self, path: str) -> bool:
        try:
            return self.files.read(path)[:2] == b"#!"
        except Unreadable:
            return False

    def _step_into(self, path: str, arguments: list[Word], line: int) -> None:
        """Read the script that is started there."""
        path = absolute(path, self.state.folder)
        if self.host or not is_sure(path):
            self._skip(f"line {line}: it runs {shown(path)}, whose content is not known")
            return
        if path in self._opened or len(self._opened) >= _DEEPEST_FILES:
            self._skip(f"line {line}: it runs {path}: scripts run one another too deep to be read")
            return
        try:
            source = self.files.read(path)
        except Unreadable as exc:
            self._skip(f"line {line}: it runs {path}, which cannot be read: {exc}")
            return
        if language := language_of(source, path):
            self._skip(f"line {line}: it runs {path}, a program in {language}: reclaim reads shell")
            return
        given = None if any(word.splits for word in arguments) else tuple(word.text for word in arguments)
        state = State({"PWD": (self.state.folder,)}, given)
        with self._in(state=state, functions={}, _opened=(*self._opened, path), _given=_Input()):
            self.depth += 5
            self.read(Text(source, None, 1, path))
            self.depth -= 5

    def source(self, words: list[Word], line: int) -> None:
        """`. FILE`: its commands and what it sets are those of this script."""
        path = words[1].text if len(words) > 1 else UNKNOWN
        path = absolute(path, self.state.folder) if "/" in path else path
        if not path.startswith("/") or not is_sure(path) or path in self._opened:
            self._skip(f"line {line}: it reads {shown(path)}, whose content is not known")
            return
        try:
            source = self.files.read(path)
        except Unreadable as exc:
            self._skip(f"line {line}: it reads {path}, which cannot be read: {exc}")
            return
        if len(self._opened) >= _DEEPEST_FILES:
            self._skip(f"line {line}: it reads {path}: files read one another too deep")
            return
        with self._in(_opened=(*self._opened, path)):
            self.run(Text(source, None, 1, path))


def _given_script(words: list[Word]) -> Word | None:
    """What follows `-c`."""
    for number, word in enumerate(words[1:-1], start=1):
        if re.fullmatch(r"-[a-z]*c", word.text):
            return words[number + 1]
        if not word.text.startswith(("-", "+")):
            return None
    return None


_STATE = re.compile(rb"running|domstate|virsh\s|dominfo|shut ?off|is[-_]?(?:up|active|on)|[sS]tate|STATE|RUNNING")
_LEAVES = re.compile(rb"^\s*(?:exit|return|false|true|:)\b[\s\d$?\"{}\w]*$")


def _only_leaves(node: Node, source: bytes) -> bool:
    return _LEAVES.match(source[node.start_byte : node.end_byte]) is not None


_ENDS_A_TURN = re.compile(rb"\b(?:continue|break)\b")
_IF_EMPTY = re.compile(rb"^\s*(?:if\s+)?\[{1,2}\s+(?:!\s+)?-[nzf]\s|^\s*(?:if\s+)?test\s+-[nz]")


def _may_leave_a_turn(node: Node, source: bytes) -> bool:
    """Do some turns of the loop end there? Not those that have nothing to do."""
    if node.type not in ("list", "if_statement", "case_statement") or node.end_byte - node.start_byte > 2000:
        return False
    text = source[node.start_byte : node.end_byte]
    return _ENDS_A_TURN.search(text) is not None and _IF_EMPTY.match(text) is None


_STATEMENTS: dict[str, Callable[[Shell, Node], None]] = {
    **dict.fromkeys(("program", "compound_statement", "do_group", "else_clause", "elif_clause"), Shell._block),
    "subshell": Shell._subshell,
    "comment": lambda shell, node: None,
    "heredoc_body": lambda shell, node: None,
    "file_redirect": lambda shell, node: None,
    "negated_command": Shell._negated_command,
    "list": Shell._chain,
    "pipeline": Shell._pipeline,
    "redirected_statement": Shell._redirected_statement,
    "if_statement": Shell._if_statement,
    "case_statement": Shell._case_statement,
    "while_statement": Shell._while_statement,
    "for_statement": Shell._for_statement,
    "select_statement": Shell._for_statement,
    "c_style_for_statement": Shell._c_style_for_statement,
    "function_definition": Shell._function_definition,
    "variable_assignment": Shell._variable_assignment,
    "variable_assignments": Shell._variable_assignments,
    "declaration_command": Shell._declaration_command,
    "command": Shell._command,
}


# Builtins ---------------------------------------------------------------------------------------


def _cd(shell: Shell, words: list[Word], line: int) -> None:
    operands = [word.text for word in words[1:] if not re.fullmatch(r"-[LPe@n]+|--", word.text)]
    before = shell.state.folder
    target = operands[0] if operands else UNKNOWN
    folder = shell.state.variables.get("OLDPWD", (UNKNOWN,))[0] if target == "-" else absolute(target, before)
    shell.state.set("OLDPWD", [before])
    shell.state.set("PWD", [folder.rstrip("/") or "/"])


def _popd(shell: Shell, words: list[Word], line: int) -> None:
    shell.state.set("PWD", [shell.state.variables.get("OLDPWD", (UNKNOWN,))[0]])


def _read(shell: Shell, words: list[Word], line: int) -> None:
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
        shell.state.set(name, [value if number == 0 or len(names) <= 2 else shell.script.origins.mark()])


def _mapfile(shell: Shell, words: list[Word], line: int) -> None:
    name = words[-1].text if len(words) > 1 and not words[-1].text.startswith("-") else "MAPFILE"
    shell.state.set(name, shell._words_of_stdin or [shell.script.origins.mark()], array=True)  # noqa: SLF001


def _set(shell: Shell, words: list[Word], line: int) -> None:
    texts = [word.text for word in words[1:]]
    if "--" in texts:
        rest = words[texts.index("--") + 2 :]
        shell.state.arguments = None if any(word.splits for word in rest) else tuple(word.text for word in rest)


def _shift(shell: Shell, words: list[Word], line: int) -> None:
    arguments = shell.state.arguments
    if arguments is None:
        shell.state.arguments = None
        for key in [one for one in shell.script.origins.named if one.startswith("argument ")]:
            del shell.script.origins.named[key]
        return
    count = int(words[1].text) if len(words) > 1 and re.fullmatch(r"\d{1,3}", words[1].text) else 1
    shell.state.arguments = arguments[count:]


def _unset(shell: Shell, words: list[Word], line: int) -> None:
    for word in words[1:]:
        if word.text in shell.state.variables:
            shell.state.variables[word.text] = ("",)


def _export(shell: Shell, words: list[Word], line: int) -> None:
    shell._declared([word.text for word in words[1:]])  # noqa: SLF001


def _getopts(shell: Shell, words: list[Word], line: int) -> None:
    shell.state.set("OPTARG", [shell.script.origins.mark()])
    if len(words) > 2:
        shell.state.set(words[2].text, [UNKNOWN])


def _eval(shell: Shell, words: list[Word], line: int) -> None:
    if len(words) == 2:
        shell._look_into(words[1], line)  # noqa: SLF001
    elif len(words) > 2:
        shell._look_into(Word(" ".join(word.text for word in words[1:])), line)  # noqa: SLF001


def _trap(shell: Shell, words: list[Word], line: int) -> None:
    rest = [word for word in words[1:] if word.text not in ("--", "-p", "-l")]
    if len(rest) > 1 and rest[0].text not in ("-", ""):
        shell._traps.append((rest[0], shell.text))  # noqa: SLF001


def _source(shell: Shell, words: list[Word], line: int) -> None:
    shell.source(words, line)


_BUILTINS: dict[str, Callable[[Shell, list[Word], int], None]] = {
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
    "eval": _eval,
    "trap": _trap,
    ".": _source,
    "source": _source,
}


# Programs that run others -----------------------------------------------------------------------


def _find(shell: Shell, words: list[Word], line: int) -> None:
    """`find PATH… -exec COMMAND {} ;`: the command gets what is found."""
    shell._emit(words[:1], line)  # noqa: SLF001
    texts = [word.text for word in words]
    found = shell._values  # noqa: SLF001
    marks = _found_by(found, texts[1:])
    position = 1
    while position < len(words):
        if texts[position] not in ("-exec", "-execdir", "-ok", "-okdir"):
            position += 1
            continue
        end = next((one for one in range(position, len(words)) if texts[one] in (";", "+")), len(words))
        command = words[position + 1 : end]
        for mark in marks:
            inner = [replace(word, text=word.text.replace("{}", mark)) for word in command]
            shell.take(inner, line)
        position = end + 1


def _found_by(values: Values, texts: list[str]) -> list[str]:
    from reclaim.jobs.values import _find as printed  # noqa: PLC0415

    return (printed(values, texts) or [values.origins.mark(Origin("found", path=UNKNOWN))])[:8]


_XARGS_VALUED = "-I -n -P -d -L -s -a -E --max-args --max-procs --delimiter --replace --arg-file --max-lines"


def _xargs(shell: Shell, words: list[Word], line: int) -> None:
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
    given = shell._words_of_stdin or [shell.script.origins.mark()]  # noqa: SLF001
    for text in given[:8]:
        if place:
            inner = [replace(word, text=word.text.replace(place, text)) for word in rest]
        else:
            inner = [*rest, Word(text)]
        shell.take(inner, line)


def _parallel(shell: Shell, words: list[Word], line: int) -> None:
    texts = [word.text for word in words[1:]]
    text = " ".join(texts)
    if re.search(r"rsync|cp|scp|dd|qemu-img|tar", text) or not texts:
        shell._skip(f"line {line}: parallel {shown(text)[:80]}: what it runs is not read")  # noqa: SLF001
    else:
        shell._emit(words, line)  # noqa: SLF001


def _screen(shell: Shell, words: list[Word], line: int) -> None:
    """`screen -dmS NAME COMMAND`."""
    rest = list(words[1:])
    options = []
    while rest and rest[0].text.startswith("-"):
        options.append(rest.pop(0).text)
        if options[-1][-1:] in "StcepsThXQ" and rest:
            rest.pop(0)
    if not rest or any(one.endswith("X") for one in options):
        shell._skip(f"line {line}: screen: what is run in it is not known")  # noqa: SLF001
        return
    with shell._in(background=True):  # noqa: SLF001
        shell.take(rest, line)


def _tmux(shell: Shell, words: list[Word], line: int) -> None:
    if len(words) > 2 and words[1].text in ("new", "new-session", "new-window", "neww"):
        with shell._in(background=True):  # noqa: SLF001
            shell._look_into(words[-1], line)  # noqa: SLF001
    else:
        shell._skip(f"line {line}: tmux: what is run in it is not known")  # noqa: SLF001


def _su(shell: Shell, words: list[Word], line: int) -> None:
    """`su - USER -c 'SCRIPT'`."""
    for number, word in enumerate(words[1:-1], start=1):
        if word.text in ("-c", "--command") or re.fullmatch(r"-l?c", word.text):
            with shell._own():  # noqa: SLF001
                shell._look_into(words[number + 1], line)  # noqa: SLF001
            return
    shell._skip(f"line {line}: {PurePosixPath(words[0].text).name}: what is run there is not known")  # noqa: SLF001


_SSH_VALUED = "BbcDEeFIiJLlmOoPpQRSWw"


def _ssh(shell: Shell, words: list[Word], line: int) -> None:
    """What runs on another machine is read for what it is, and never edited."""
    rest = list(words[1:])
    while rest and rest[0].text.startswith("-") and len(rest[0].text) > 1:
        option = rest.pop(0).text
        letters = [number for number, letter in enumerate(option) if letter in _SSH_VALUED and number]
        if letters and letters[0] == len(option) - 1 and rest:
            rest.pop(0)
    if not rest:
        return
    host, command = rest[0].text, rest[1:]
    state = State({"PWD": (UNKNOWN,)})
    with shell._in(host=shown(host) or "another machine", state=state, functions={}):  # noqa: SLF001
        if command and not (command[0].text in SHELLS and all(one.text[:1] == "-" for one in command[1:])):
            with shell._in(text=replace(shell.text, offset=None)):  # noqa: SLF001
                shell._look_into(Word(" ".join(one.text for one in command)), line)  # noqa: SLF001
        elif shell._given.here is not None:  # noqa: SLF001
            shell._heredoc(shell._given.here)  # noqa: SLF001
        else:
            shell._skip(f"line {line}: ssh {shown(host)}: what it runs there comes from elsewhere")  # noqa: SLF001


def _run_parts(shell: Shell, words: list[Word], line: int) -> None:
    folder = words[-1].text if len(words) > 1 else UNKNOWN
    shell._skip(  # noqa: SLF001
        f"line {line}: run-parts runs what is in {shown(folder)}: declare the script there that copies images"
    )


_RUNNERS: dict[str, Callable[[Shell, list[Word], int], None]] = {
    "find": _find,
    "xargs": _xargs,
    "parallel": _parallel,
    "screen": _screen,
    "tmux": _tmux,
    "su": _su,
    "runuser": _su,
    "ssh": _ssh,
    "run-parts": _run_parts,
}
