"""The commands of a job's file in their order, and the parts of it that were not understood."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from reclaim.jobs.words import Origins, Word, texts_of

#: places that were not understood and are kept apart; after them nothing is a pass any more anyway
_MOST_UNREAD = 500
#: which arms of which choices led to a command
Branch = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Call:
    """One command with its words, without what only wraps it (sudo, nice, …).

    New options go to byte `insert` of the file, in the form `form`; None if they cannot. `file`: the script that it
    stands in, empty for the job's own file. `host`: the machine that it runs on, empty for this one. `pipe`: the
    pipeline that it is a part of. `in_background`: which of those that go on by themselves it belongs to, 0 for none.
    `stdin`, `stdout`: files that it reads and writes by `<` and `>`. `number`: the commands before it. `run`: the line
    of a cron table that runs it, 0 elsewhere.
    """

    words: tuple[Word, ...]
    line: int
    insert: int | None = None
    form: str = " {}"
    file: str = ""
    folder: str = ""
    host: str = ""
    branch: Branch = ()
    pipe: int = 0
    in_background: int = 0
    stdin: Word | None = None
    stdout: Word | None = None
    #: the job looks for programs elsewhere before it looks in the system's folders
    other_programs: bool = False
    number: int = 0
    run: int = 0

    @property
    def name(self) -> str:
        if not self.words:
            return ""
        return PurePosixPath(self.words[0].text).name

    @property
    def texts(self) -> list[str]:
        """The words after the command's name."""
        return texts_of(self.words[1:])

    @property
    def where(self) -> str:
        """Return the line, and the file if it is not the job's own."""
        if not self.file:
            return f"line {self.line}"
        return f"{self.file} line {self.line}"


@dataclass(frozen=True)
class Unread:
    """Something in the file that was not understood and could copy an image; `index`: the calls before it."""

    text: str
    index: int = 0
    branch: Branch = ()


@dataclass
class Budget:
    """How much of a job is read: commands, words of commands, statements; those of a loop each time that they run."""

    commands: int = 1500
    words: int = 20_000
    statements: int = 40_000

    def take(self, words: int) -> bool:
        """Take a command of so many words from the budget. True if there was room for it."""
        self.commands -= 1
        self.words -= words
        return self.commands > 0 and self.words > 0


@dataclass
class Script:
    """The commands of a job in their order, and the parts not understood. `whole`: all of it was parsed."""

    calls: list[Call] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    origins: Origins = field(default_factory=Origins)
    whole: bool = True
    #: choices that ask whether a guest runs
    asked: set[int] = field(default_factory=set)
    budget: Budget = field(default_factory=Budget)

    def skip(self, text: str, branch: Branch = ()) -> None:
        """Note a part that was not understood."""
        if len(self.unread) < _MOST_UNREAD:
            self.unread.append(Unread(text, len(self.calls), branch))
