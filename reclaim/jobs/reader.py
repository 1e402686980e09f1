"""The reader of a shell's commands, as the builtins and the programs that run others see it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from tree_sitter import Node

from reclaim.jobs.calls import Branch, Script
from reclaim.jobs.values import State, Text, Values
from reclaim.jobs.words import Word


@dataclass
class Input:
    """The input of a command, and the files that it reads and writes."""

    here: Node | None = None
    here_string: str | None = None
    stdin: Word | None = None
    stdout: Word | None = None


class Reader(Protocol):
    """All that one command may change or ask of the reader (`reclaim.jobs.shell.Shell`)."""

    script: Script
    text: Text
    state: State
    traps: list[tuple[Word, Text]]
    aliases: frozenset[str]
    given: Input
    words_of_stdin: list[str] | None

    @property
    def values(self) -> Values: ...
    def skip(self, text: str) -> None: ...
    def declare(self, texts: list[str]) -> None: ...
    def take(self, words: list[Word], line: int) -> None: ...
    def emit(self, words: list[Word], line: int) -> None: ...
    def heredoc(self, node: Node) -> None: ...
    def text_given(self) -> str | None: ...
    def look_into(self, word: Word, line: int) -> None: ...
    def source(self, words: list[Word], line: int) -> None: ...
    def own(self) -> AbstractContextManager[None]: ...
    def beside(self) -> AbstractContextManager[None]: ...
    def set_for_now(
        self, branch: Branch | None = None, **values: object
    ) -> AbstractContextManager[None]: ...
