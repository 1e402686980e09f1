"""Commands in shell scripts, in the order in which they run, by tree-sitter's bash grammar. Nothing is run.

Functions are read at each call, with its arguments; loops over known words once for each word; scripts
that the job starts are read too, some steps deep. Any other expansion is uncertain, and its word is marked so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Protocol

from tree_sitter import Node

from reclaim.jobs import grammar
from reclaim.jobs.builtins import BUILTINS
from reclaim.jobs.calls import Branch, Call, Script
from reclaim.jobs.grammar import first_of, substitutions, text_of
from reclaim.jobs.reader import Input
from reclaim.jobs.runners import RUNNERS
from reclaim.jobs.values import State, Text, Values, arguments_of, joined
from reclaim.jobs.words import (
    UNKNOWN,
    Word,
    absolute,
    is_sure,
    shown,
    texts_of,
    without_options,
)
from reclaim.jobs.wrappers import SHELLS, unwrapped

#: blocks, functions and scripts within one another
_DEEPEST = 60
_DEEPEST_FILES = 4
#: choices on the way to a command
_MOST_CHOICES = 100
#: words of a loop that are gone through one by one
_MOST_TURNS = 40
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


def language_of(source: bytes, path: str = "") -> str | None:
    """Return the language of a script that is no shell, by its first line, else by its name."""
    first = source.split(b"\n", 1)[0][:200].decode("ascii", errors="replace")
    if not first.startswith("#!"):
        return _SUFFIXES.get(PurePosixPath(path).suffix)
    program = _last_operand(re.split(r"[\s/]+", first[2:]))
    words = re.split(r"[\s/]+", first)
    return _language_called([program, *words])


def _last_operand(words: list[str]) -> str:
    operands = without_options(filter(None, words))
    return "".join(operands[-1:])


_SUFFIXES = {".py": "Python", ".pl": "Perl", ".rb": "Ruby", ".php": "PHP"}


def _language_called(words: list[str]) -> str | None:
    for start, language in _LANGUAGES:
        for word in words:
            if word.startswith(start):
                return language
    return None


#: nodes that are statements one after the other
_BLOCKS = (
    "program",
    "compound_statement",
    "do_group",
    "else_clause",
    "elif_clause",
)
#: nodes that mean nothing to the shell by themselves
_SILENT = ("comment", "heredoc_body", "file_redirect")


_LOOPS = ("while_statement", "for_statement")


#: patterns of a case
_PATTERNS = ("word", "extglob_pattern", "string", "raw_string", "concatenation")


@dataclass
class Shell:
    """Reads shell into a Script. One for a job: the functions and variables are those of its file."""

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
    background: int = 0
    depth: int = 0
    _numbers: int = 0
    _opened: tuple[str, ...] = ()
    _called: tuple[str, ...] = ()
    _call_line: int = 0
    traps: list[tuple[Word, Text]] = field(default_factory=list)
    #: names that may stand for other words
    aliases: frozenset[str] = frozenset()
    given: Input = field(default_factory=Input)
    words_of_stdin: list[str] | None = None
    #: the line of the cron table that runs it
    cron_line: int = 0

    # Texts ------------------------------------------------------------------------------------

    def read(self, text: Text) -> None:
        """Read *text* as a script of its own; its traps are read at its end."""
        before, self.traps = self.traps, []
        self.run(text)
        for word, place in self.traps[-8:]:
            self.look_into(word, self._line_of(word, place))
        self.traps = before

    def _line_of(self, word: Word, text: Text) -> int:
        if word.start is None or text.offset is None:
            return text.first_line
        return text.first_line + text.source.count(
            b"\n", 0, max(0, word.start - text.offset)
        )

    def run(self, text: Text) -> None:
        """Read *text* with the variables that are known now."""
        try:
            root, plain = grammar.parse(text.source)
        except grammar.Unparsable:
            self.script.whole = False
            self.skip(
                f"line {text.first_line} and those after it cannot be parsed as shell"
            )
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
        """Note a part that cannot be parsed once, also if no statement begins there."""
        self.script.whole = False
        for unread in self.script.unread[noted:]:
            if "cannot be parsed" in unread.text:
                return
        for node in grammar.below(root):
            if node.is_error or node.is_missing:
                self._broken(node)
                return
        self._broken(root)

    @contextmanager
    def set_for_now(
        self, branch: Branch | None = None, **values: object
    ) -> Iterator[None]:
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

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    @property
    def values(self) -> Values:
        return Values(
            self.text, self.state, self.script.origins, len(self.script.calls)
        )

    def skip(self, text: str) -> None:
        self.script.skip(f"{self.text.file} {text}".strip(), self.branch)

    @cached_property
    def _readers(self) -> dict[str, Callable[[Node], None]]:
        """The reader of each node of the grammar; of others the `$(…)` in them alone is read."""
        blocks = dict.fromkeys(_BLOCKS, self._block)
        silent = dict.fromkeys(_SILENT, self._nothing)
        return {
            **blocks,
            **silent,
            "subshell": self._subshell,
            "negated_command": self._negated_command,
            "list": self._chain,
            "pipeline": self._pipeline,
            "redirected_statement": self._redirected_statement,
            "if_statement": self._if_statement,
            "case_statement": self._case_statement,
            "while_statement": self._while_statement,
            "for_statement": self._for_statement,
            "select_statement": self._for_statement,
            "c_style_for_statement": self._c_style_for_statement,
            "function_definition": self._function_definition,
            "variable_assignment": self._variable_assignment,
            "variable_assignments": self._variable_assignments,
            "declaration_command": self._declaration_command,
            "unset_command": self._unset_command,
            "command": self._command,
        }

    def _nothing(self, node: Node) -> None:
        """Read nothing: the node is no command."""

    # Statements -------------------------------------------------------------------------------

    def _block(self, node: Node) -> None:
        """Read statement after statement; one with `&` after it goes on beside the others."""
        branch = self.branch
        children = node.children
        for child, behind in zip(children, [*children[1:], None], strict=False):
            if not child.is_named and child.type != "ERROR":
                continue
            background = self.background
            if not background and behind is not None and behind.type == "&":
                background = self.number()
            with self.set_for_now(background=background):
                self._statement(child)
            self._branch_off(child)
        self.branch = branch

    def _branch_off(self, node: Node) -> None:
        """Let the statements after *node* be on a branch of their own if they may not run."""
        guards = self._guards(node)
        may_leave = guards or _may_leave_a_turn(node, self.text.source)
        if not may_leave or len(self.branch) >= _MOST_CHOICES:
            return
        choice = self.number()
        self.branch = (*self.branch, (choice, 0))
        if guards:
            self.script.asked.add(choice)

    def _statement(self, node: Node) -> None:
        budget = self.script.budget
        budget.statements -= 1
        if self.depth > _DEEPEST:
            self.skip(f"line {self.text.line(node)}: it is nested too deep to be read")
            return
        if budget.statements <= 0:
            if budget.statements == 0:
                self.skip(
                    f"line {self.text.line(node)}: the rest is too long to be read"
                )
            return
        if node.type == "ERROR" or node.is_missing:
            self._broken(node)
            return
        self.depth += 1
        try:
            self._readers.get(node.type, self._substituted)(node)
        finally:
            self.depth -= 1

    def _broken(self, node: Node) -> None:
        self.script.whole = False
        self.skip(f"line {self.text.line(node)} cannot be parsed as shell")

    def _substituted(self, node: Node) -> None:
        """Read the commands in the `$(…)` and `<(…)` of a node."""
        for substitution in substitutions(node):
            with self.own():
                self._block(substitution)

    @contextmanager
    def own(self) -> Iterator[None]:
        """A subshell: its variables and its folder end with it."""
        with self.set_for_now(
            state=self.state.copy(), functions=dict(self.functions), pipe=0
        ):
            yield

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Commands that go on by themselves, beside those that follow."""
        with self.set_for_now(background=self.background or self.number()):
            yield

    def _subshell(self, node: Node) -> None:
        with self.set_for_now(state=self.state.copy(), functions=dict(self.functions)):
            self._block(node)

    def _negated_command(self, node: Node) -> None:
        for child in node.named_children:
            self._statement(child)

    def _chain(self, node: Node) -> None:
        """`A && B`, `A || B`: B runs or not by the result of A."""
        # the grammar puts the chain's first part innermost: a loop, since such a chain may be long
        parts: list[tuple[str, Node]] = []
        while node.type == "list" and len(node.named_children) >= 2:
            parts.append((_operator(node), node.named_children[-1]))
            node = node.named_children[0]
        self._statement(node)
        branch = last = self.branch
        for operator, part in reversed(parts):
            if _only_leaves(part, self.text.source):
                continue
            choice = self.number()
            if operator == "&&":
                self._note_question(choice, node)
            else:
                last = branch
            node = part
            if len(last) < _MOST_CHOICES:
                last = (*last, (choice, 0))
            before = self.state.copy()
            with self.set_for_now(branch=last):
                self._statement(part)
            self.state = joined([before, self.state])

    def _pipeline(self, node: Node) -> None:
        number = self.pipe or self.number()
        given = self.words_of_stdin
        printed: list[str] | None = None
        for position, child in enumerate(node.named_children):
            pipe = 0 if child.type in _LOOPS else number
            words = given if self._takes_words(child) else None
            with self.set_for_now(pipe=pipe, words_of_stdin=words):
                self._statement(child)
            if position == 0:
                printed = self.values.output(child)
            elif printed is not None:
                printed = self.values.filtered(printed, child)
            given = printed

    def _takes_words(self, node: Node) -> bool:
        """True if commands in a part of a pipeline get the words of its input."""
        if node.type in (*_LOOPS, "compound_statement", "subshell"):
            return True
        raw = self.text.source[node.start_byte : node.end_byte]
        return b"xargs" in raw or b"parallel" in raw

    def _redirected_statement(self, node: Node) -> None:
        given = replace(self.given)
        rest: list[Node] = []
        words = self.words_of_stdin
        for redirect in node.children_by_field_name("redirect"):
            self._substituted(redirect)
            words = self._redirect(redirect, given, rest) or words
        body = node.child_by_field_name("body")
        number = self.pipe
        if rest and not number:
            number = self.number()
        with self.set_for_now(given=given, words_of_stdin=words, pipe=number):
            if body is not None:
                self._statement(body)
        for command in rest:
            with self.set_for_now(pipe=number):
                self._statement(command)

    def _redirect(self, node: Node, given: Input, rest: list[Node]) -> list[str] | None:
        """Note the files of input and output. Return the words of the input if they are known."""
        if node.type == "heredoc_redirect":
            self._heredoc_redirect(node, given, rest)
            return None
        if node.type == "herestring_redirect":
            words = self._texts_of(node.named_children)
            given.here_string = " ".join(words)
            return words
        operator = _operator_of_redirect(node)
        target = node.child_by_field_name("destination")
        if target is None and node.named_children:
            target = node.named_children[-1]
        if target is None or "&" in operator.strip("&>"):
            return None
        if not self._is_of_stdin_or_stdout(node):
            return None
        if target.type == "process_substitution":
            return self.values.output(target) if operator == "<" else None
        if operator == "<":
            given.stdin = self._first_word(target)
        elif operator in _WRITES and target.type != "number":
            given.stdout = self._first_word(target)
        return None

    def _heredoc_redirect(self, node: Node, given: Input, rest: list[Node]) -> None:
        given.here = node
        for child in node.named_children:
            if child.type == "file_redirect":
                self._redirect(child, given, rest)
            elif child.type in ("pipeline", "list", "command"):
                rest.append(child)

    def _is_of_stdin_or_stdout(self, redirect: Node) -> bool:
        """True unless the redirection has a descriptor before it that is neither 0 nor 1."""
        descriptor = first_of(redirect.children, "file_descriptor")
        return text_of(descriptor, self.text.source) in "01"

    def _first_word(self, node: Node) -> Word:
        words = self.values.words(node)
        if not words:
            return Word(UNKNOWN)
        return words[0]

    def _texts_of(self, nodes: Iterable[Node]) -> list[str]:
        """The words that all of *nodes* become."""
        texts = []
        for node in nodes:
            texts += texts_of(self.values.words(node))
        return texts

    # Choices and loops ------------------------------------------------------------------------

    def _if_statement(self, node: Node) -> None:
        choice = self.number()
        arms: list[State] = []
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
            if first_of(part, "else_clause") is not None:
                has_else = True
            with self.set_for_now(
                branch=(*self.branch, (choice, arm)), state=before.copy()
            ):
                for child in part:
                    self._statement(child)
                arms.append(self.state)
        if not has_else:
            arms.insert(0, before)
        self.state = joined(arms)

    def _note_question(self, choice: int, node: Node) -> None:
        """Note a choice that asks whether a guest runs. "If it runs, shut it down" leaves it off either way."""
        if _STATE.search(self.text.source[node.start_byte : node.end_byte]):
            self.script.asked.add(choice)

    def _guards(self, node: Node) -> bool:
        """True if the next commands run only for some answers to whether a guest runs, as after "if it runs, exit"."""
        if node.type == "if_statement":
            return self._if_guards(node)
        if node.type != "list":
            return False
        *asked, last = node.named_children or [node]
        return self._leaves(last) and any(map(self._asks, asked))

    def _if_guards(self, node: Node) -> bool:
        then = 0
        for number, child in enumerate(node.children):
            if child.type == "then":
                then = number
                break
        statements = list(node.children[then + 1 :])
        for child in node.children:
            if child.type in ("elif_clause", "else_clause"):
                statements += child.named_children
        if not any(map(self._leaves, statements)):
            return False
        return any(map(self._asks, node.children[:then]))

    def _asks(self, node: Node) -> bool:
        """True if it asks whether a guest runs, by itself or by a function."""
        if _RUNS.search(self.text.source[node.start_byte : node.end_byte]):
            return True
        for command in grammar.below(node):
            if command.type != "command_name":
                continue
            function = self.functions.get(text_of(command, self.text.source))
            if function is None:
                continue
            body, text = function
            if _RUNS.search(text.source[body.start_byte : body.end_byte]):
                return True
        return False

    def _leaves(self, node: Node) -> bool:
        """True if the script, function or turn surely ends there."""
        children = node.named_children
        if node.type == "list":
            return False  # `A && exit` may go on
        if node.type == "compound_statement":
            return any(map(self._leaves, children))
        if node.type == "redirected_statement" and children:
            return self._leaves(children[0])
        if node.type != "command":
            return False
        name = text_of(node.child_by_field_name("name"), self.text.source)
        if name in ("exit", "return", "continue", "break"):
            return True
        if name not in self.functions:
            return False
        body, text = self.functions[name]
        return _EXITS.search(text.source[body.start_byte : body.end_byte]) is not None

    def _case_statement(self, node: Node) -> None:
        choice, before = self.number(), self.state
        subject = node.child_by_field_name("value")
        if subject is not None:
            self._note_question(choice, subject)
        states = [before]
        arms = [child for child in node.named_children if child.type == "case_item"]
        for number, arm in enumerate(arms):
            branch = (*self.branch, (choice, number))
            with self.set_for_now(branch=branch, state=before.copy()):
                for child in arm.named_children:
                    if child.type not in _PATTERNS:
                        self._statement(child)
                states.append(self.state)
        self.state = joined(states)

    def _while_statement(self, node: Node) -> None:
        before = self.state.copy()
        words = self.words_of_stdin
        line = words[0] if words and len(words) == 1 else self.script.origins.mark()
        with self.set_for_now(words_of_stdin=None):
            self.state.line = line
            for child in node.named_children:
                self._statement(child)
        self.state = joined([before, self.state])

    def _for_statement(self, node: Node) -> None:
        name = text_of(node.child_by_field_name("variable"), self.text.source)
        body = node.child_by_field_name("body")
        self._each_substituted(node, body)
        nodes = node.children_by_field_name("value")
        values = self._texts_of(nodes)
        if not nodes:
            values = list(self.state.arguments or (UNKNOWN,))
        if len(values) > _MOST_TURNS:
            values = [self.script.origins.mark()]
        for value in values:
            known = self.script.origins.mark() if value == UNKNOWN else value
            self.state.set(name, [known])
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
        appends = first_of(node.children, "+=") is not None
        if not re.fullmatch(r"\w+", name):
            self.state.set(name.partition("[")[0], [UNKNOWN])  # an element of an array
            return
        before = self.state.variables.get(name, (UNKNOWN,)) if appends else ()
        if value is not None and value.type == "array":
            words = self._texts_of(value.named_children)
            self.state.set(name, (*before, *words), array=True)
            return
        text = self.values.value(value) if value is not None else ""
        self.state.set(name, ["".join((*before, text))])

    def _variable_assignments(self, node: Node) -> None:
        for child in node.named_children:
            self._statement(child)

    def _declaration_command(self, node: Node) -> None:
        refers = self._declares_references(node)
        for child in node.named_children:
            if child.type != "variable_assignment":
                self._substituted(child)
                self.declare(texts_of(self.values.words(child)))
            elif refers:
                self._refer(child)
            else:
                self._variable_assignment(child)

    def _declares_references(self, node: Node) -> bool:
        """True for `declare -n` and its like."""
        if node.children[0].type == "export":
            return False
        for child in node.named_children:
            raw = self.text.source[child.start_byte : child.end_byte]
            if re.fullmatch(rb"-\w*n\w*", raw):
                return True
        return False

    def _refer(self, node: Node) -> None:
        """`declare -n NAME=OTHER`: NAME stands for OTHER."""
        value = node.child_by_field_name("value")
        name = text_of(node.child_by_field_name("name"), self.text.source)
        other = UNKNOWN
        if value is not None:
            other = self.values.value(value)
        self.state.references[name] = other

    def _unset_command(self, node: Node) -> None:
        """`unset NAME`: the grammar has a node of its own for it."""
        self._substituted(node)
        words = [Word("unset")]
        for child in node.named_children:
            words += self.values.words(child)
        self.take(words, self.text.line(node))

    def declare(self, texts: list[str]) -> None:
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
        if first_of(node.children, "ERROR") is not None:
            self._broken(node)
            return
        for child in node.named_children:
            if child.type == "herestring_redirect":
                self.given = replace(self.given)
                self._redirect(child, self.given, [])
            # the grammar takes assignments of the lines before for those of the command
            elif child.type == "variable_assignment" and _is_above(child, name):
                self._variable_assignment(child)
        words: list[Word] = []
        for part in (name, *node.children_by_field_name("argument")):
            words += self.values.words(part)
        line = self.text.line(name)
        # a function that runs what it is given runs it for the line that gave it
        if self._call_line and self._is_argument(name):
            line = self._call_line
        self.take(words, line)

    def _is_argument(self, name: Node) -> bool:
        """True if the command is an argument of the function that it stands in."""
        raw = self.text.source[name.start_byte : name.end_byte]
        return re.match(rb"[\"{$]*[@*1]", raw) is not None

    def take(self, words: list[Word], line: int) -> None:
        """Read the command made of *words*."""
        budget = self.script.budget
        if not budget.take(len(words)):
            if budget.statements > 0:
                budget.statements = 0
                self.skip(f"line {line}: the rest is too long to be read")
            return
        words, detaches = unwrapped(words)
        if not words:
            return
        if not detaches:
            self._one(words, line)
            return
        with self.beside():
            self._one(words, line)

    def _one(self, words: list[Word], line: int) -> None:
        name = words[0].text.rpartition("/")[2]
        function = None
        if words[0].text not in self._called:
            function = self.functions.get(words[0].text)
        builtin = BUILTINS.get(name)
        if name in self.aliases:
            self.skip(
                f"line {line}: reclaim does not read the words of the alias {name}"
            )
        elif function is not None:
            self._call_function(function, words, line)
        elif builtin is not None:
            builtin(self, words, line)
        elif name in SHELLS:
            self._run_shell(words, line)
        elif name in RUNNERS:
            RUNNERS[name](self, words, line)
        elif script := self._script_called(words[0].text, name):
            self._step_into(script, words[1:], line)
        else:
            self.emit(words, line)

    def emit(self, words: list[Word], line: int) -> None:
        insert = None
        if not self.host and not self.text.file:
            insert = words[0].end
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
                self.given.stdin,
                self.given.stdout,
                "/" not in words[0].text and self._looks_elsewhere(),
                len(self.script.calls),
                self.cron_line,
            )
        )

    def _looks_elsewhere(self) -> bool:
        """True if PATH begins with a folder that is none of the system's.

        One that is not known is the caller's PATH.
        """
        first = self.state.first_word("PATH", "/usr/bin").partition(":")[0]
        return is_sure(first) and first.rstrip("/") not in (*_FOLDERS, "/sbin", "/bin")

    def _call_function(
        self, function: tuple[Node, Text], words: list[Word], line: int
    ) -> None:
        if self.depth > _DEEPEST - 5:
            self.skip(
                f"line {self.text.first_line}: functions call one another too deep to be read"
            )
            return
        body, text = function
        before = self.state.arguments
        self.state.arguments = arguments_of(words[1:])
        called = (*self._called, words[0].text)
        with self.set_for_now(text=text, _called=called, _call_line=line):
            self._statement(body)
        self.state.arguments = before

    # Shells and scripts -----------------------------------------------------------------------

    def _run_shell(self, words: list[Word], line: int) -> None:
        inner = _given_script(words)
        if inner is not None:
            with self.own():
                self.look_into(inner, line)
            return
        operands = [word for word in words[1:] if not word.text.startswith(("-", "+"))]
        if operands and not any(word.text == "-s" for word in words[1:]):
            self._step_into(operands[0].text, operands[1:], line)
        elif self.given.here is not None:
            self.heredoc(self.given.here)
        elif self.given.here_string is not None:
            self.look_into(Word(self.given.here_string), line)
        else:
            self.skip(f"line {line}: the shell gets its commands there from elsewhere")

    def heredoc(self, node: Node) -> None:
        """Read the text after `<<` as commands; those of a text with expansions in it are read as they stand."""
        body = _body_of_heredoc(node)
        if body is None:
            return
        raw = self.text.source[body.start_byte : body.end_byte]
        inner = Text(
            raw, self.text.place(body.start_byte), self.text.line(body), self.text.file
        )
        with self.own(), self.set_for_now(given=Input()):
            self.run(inner)

    def text_given(self) -> str | None:
        """Return the text that a command gets by `<<` or `<<<` as it stands there; None if it gets nothing so."""
        if self.given.here is None:
            return self.given.here_string
        body = _body_of_heredoc(self.given.here)
        return text_of(body, self.text.source)

    def look_into(self, word: Word, line: int) -> None:
        """Read the word as a script."""
        is_known = is_sure(word.text) or not word.text.strip()
        if not is_known and not re.match(r"[\w./-]+\s", word.text):
            self.skip(
                f"line {line}: the commands for the shell there are put together when it runs"
            )
            return
        text = word.text.encode("utf-8", errors="surrogateescape")
        start = self._start_of_quoted(word, text)
        self.depth += 5
        try:
            if self.depth > _DEEPEST:
                self.skip(f"line {line}: shells run one another too deep to be read")
                return
            with self.set_for_now(given=Input()):
                self.run(Text(text, start, line, self.text.file))
        finally:
            self.depth -= 5

    def _start_of_quoted(self, word: Word, text: bytes) -> int | None:
        """The byte at which *text* begins if it lies in the file between quotes, so that it can be edited there."""
        offset = self.text.offset
        if word.start is None or word.end is None:
            return None
        if offset is None:
            return None
        raw = self.text.source[word.start - offset : word.end - offset]
        quote = raw[:1]
        if quote not in (b"'", b'"') or raw[1:-1] != text:
            return None
        return word.start + 1

    def _script_called(self, path: str, name: str) -> str:
        """Return the path of a script of somebody's own; "" for a program that is known or lies elsewhere."""
        if self.host or not is_sure(path):
            return ""
        if self.is_known(name):
            return ""
        if "/" in path:
            return path
        if self._looks_elsewhere():
            return ""
        for folder in _FOLDERS:
            if self._exists(f"{folder}/{name}"):
                return f"{folder}/{name}"
        return ""

    def _exists(self, path: str) -> bool:
        try:
            return self.files.read(path)[:2] == b"#!"
        except Unreadable:
            return False

    def _step_into(self, path: str, arguments: list[Word], line: int) -> None:
        """Read the script that is started there."""
        path = absolute(path, self.state.folder)
        if self.host or not is_sure(path):
            self.skip(f"line {line}: it runs {shown(path)}, whose content is not known")
            return
        if path in self._opened or len(self._opened) >= _DEEPEST_FILES:
            self.skip(
                f"line {line}: it runs {path}: scripts run one another too deep to be read"
            )
            return
        try:
            source = self.files.read(path)
        except Unreadable as exc:
            self.skip(f"line {line}: it runs {path}, which cannot be read: {exc}")
            return
        language = language_of(source, path)
        if language:
            self.skip(
                f"line {line}: it runs {path}, a program in {language}: reclaim reads shell"
            )
            return
        self._read_file(path, source, arguments)

    def _read_file(self, path: str, source: bytes, arguments: list[Word]) -> None:
        state = State({"PWD": (self.state.folder,)}, arguments_of(arguments))
        opened = (*self._opened, path)
        with self.set_for_now(state=state, functions={}, _opened=opened, given=Input()):
            self.depth += 5
            self.read(Text(source, None, 1, path))
            self.depth -= 5

    def source(self, words: list[Word], line: int) -> None:
        """`. FILE`: its commands and variables are those of this script."""
        path = UNKNOWN
        if len(words) > 1:
            path = words[1].text
        if "/" in path:
            path = absolute(path, self.state.folder)
        if not path.startswith("/") or not is_sure(path) or path in self._opened:
            self.skip(
                f"line {line}: it reads {shown(path)}, whose content is not known"
            )
            return
        try:
            source = self.files.read(path)
        except Unreadable as exc:
            self.skip(f"line {line}: it reads {path}, which cannot be read: {exc}")
            return
        if len(self._opened) >= _DEEPEST_FILES:
            self.skip(f"line {line}: it reads {path}: files read one another too deep")
            return
        with self.set_for_now(_opened=(*self._opened, path)):
            self.run(Text(source, None, 1, path))


def _given_script(words: list[Word]) -> Word | None:
    """Return the word that follows `-c`."""
    for word, behind in pairwise(words[1:]):
        if re.fullmatch(r"-[a-z]*c", word.text):
            return behind
        if not word.text.startswith(("-", "+")):
            return None
    return None


def _body_of_heredoc(node: Node) -> Node | None:
    return first_of(node.named_children, "heredoc_body")


def _operator(chain: Node) -> str:
    """`&&` or `||`."""
    operator = first_of(chain.children, "&&", "||")
    if operator is None:
        return "&&"
    return operator.type


#: operators of redirections that write to a file
_WRITES = (">", ">>", ">|", "&>", "&>>")


def _operator_of_redirect(node: Node) -> str:
    for child in node.children:
        if not child.is_named:
            return child.type
    return ""


def _is_above(node: Node, other: Node) -> bool:
    """True if *node* begins on a line before that of *other*."""
    return node.start_point[0] < other.start_point[0]


_STATE = re.compile(
    rb"running|domstate|virsh\s|dominfo|shut ?off|is[-_]?(?:up|active|on)|[sS]tate|STATE|RUNNING"
)
#: what asks whether a guest runs
_RUNS = re.compile(
    rb"running|domstate|shut ?off|[sS]tate|STATE|RUNNING|\slist\b[^;&|]{0,200}\|\s*e?grep"
)
_EXITS = re.compile(rb"\bexit\b")
_LEAVES = re.compile(rb"^\s*(?:exit|return|false|true|:)\b[\s\d$?\"{}\w]*$")


def _only_leaves(node: Node, source: bytes) -> bool:
    return _LEAVES.match(source[node.start_byte : node.end_byte]) is not None


_ENDS_A_TURN = re.compile(rb"\b(?:continue|break)\b")
_IF_EMPTY = re.compile(
    rb"^\s*(?:if\s+)?\[{1,2}\s+(?:!\s+)?-[nzf]\s|^\s*(?:if\s+)?test\s+-[nz]"
)


def _may_leave_a_turn(node: Node, source: bytes) -> bool:
    """True if some turns of the loop end there, besides those that have nothing to do."""
    if (
        node.type not in ("list", "if_statement", "case_statement")
        or node.end_byte - node.start_byte > 2000
    ):
        return False
    text = source[node.start_byte : node.end_byte]
    return _ENDS_A_TURN.search(text) is not None and _IF_EMPTY.match(text) is None
