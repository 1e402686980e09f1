"""Words of commands, with marks for the parts of which only the origin is known."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

#: stands in a word for what is not known
UNKNOWN = "\ufffd"
#: from here on each character stands for one unknown value with an origin: see Origins
_FIRST = 0xF0000
_MOST = 4000
_MARK = re.compile("[\ufffd\U000f0000-\U0010ffff]")
_MAY_BE_OPTIONS = re.compile("[-\ufffd\U000f0000-\U0010ffff]")
#: characters of a word; a longer one is not known
LONGEST = 32_768


@dataclass(frozen=True)
class Origin:
    """The origin of an unknown value.

    `kind`: "guest" (a name that virsh lists), "image" (a path of a disk of `guest`), "found" (a file below `path`
    whose name fits `name`), "name" (one word), "text" (anything else). `every`: all guests that run are among the
    values, one after the other; `runs`: the guest runs when it is listed. `after`: the commands read before it.
    """

    kind: str = "text"
    guest: str = ""
    path: str = ""
    name: str = "*"
    every: bool = False
    runs: bool = False
    after: int = 0

    @property
    def lies_below_a_path(self) -> bool:
        """True for a file that is found below a path that is known."""
        return self.kind == "found" and is_sure(self.path)


@dataclass
class Origins:
    """The unknown values of a job: each has a character of its own, so that the same value is known again."""

    known: list[Origin] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)

    def mark(self, origin: Origin | None = None, key: str = "") -> str:
        """Return a new character for a value, or the one that *key* got before."""
        if key and key in self.named:
            return self.named[key]
        if len(self.known) >= _MOST:
            return UNKNOWN
        character = chr(_FIRST + len(self.known))
        self.known.append(origin or Origin())
        if key:
            self.named[key] = character
        return character

    def of(self, text: str) -> Origin | None:
        """Return the origin of a text that is one mark and nothing else."""
        if len(text) != 1:
            return None
        number = ord(text) - _FIRST
        if not 0 <= number < len(self.known):
            return None
        return self.known[number]

    def within(self, text: str) -> list[Origin]:
        """Return the origins of all marks in *text*."""
        origins = []
        for character in text:
            origin = self.of(character)
            if origin is not None:
                origins.append(origin)
        return origins


@dataclass(frozen=True)
class Word:
    """One word of a command. `start` and `end` are byte offsets in the file; None if it comes from elsewhere.

    `splits`: its unknown parts may be several words, or none.
    """

    text: str
    start: int | None = None
    end: int | None = None
    splits: bool = False
    #: as it stands there it is this text, and no expansion
    is_literal: bool = True

    @property
    def is_sure(self) -> bool:
        return is_sure(self.text)

    @property
    def may_be_options(self) -> bool:
        """True if it may hold an option that reclaim does not see."""
        return self.splits and _MAY_BE_OPTIONS.match(self.text) is not None

    @property
    def may_be_option(self) -> bool:
        """True if it may be an option, though it is one word. Not if a part of it is known."""
        return bool(self.text) and not _MARK.sub("", self.text)


def texts_of(words: Iterable[Word]) -> list[str]:
    """Return the texts of *words*."""
    return [word.text for word in words]


def without_options(texts: Iterable[str]) -> list[str]:
    """Return those of *texts* that do not begin with a hyphen."""
    return [text for text in texts if not text.startswith("-")]


def is_sure(text: str) -> bool:
    """True if nothing in *text* is unknown."""
    return _MARK.search(text) is None


def clean(text: str) -> str:
    """Return *text* of a file, with UNKNOWN for each character that is a mark here."""
    if text.isascii():
        return text
    return _MARK.sub(UNKNOWN, text)


def sure_part(text: str) -> str:
    """Return *text* up to the first thing that is not known."""
    return _MARK.split(text, maxsplit=1)[0]


def shown(text: str) -> str:
    """Return *text* for people: an ellipsis for each part that is not known."""
    return _MARK.sub("…", text)


#: wildcards of one pattern; with more of them only what stands before the first counts
_MOST_WILD = 4


def pattern(text: str) -> re.Pattern[str]:
    """Return an expression for all that *text* may be.

    A mark is anything, and shell patterns have their meaning: `*` holds no slash.
    """
    parts = re.split("([\ufffd\U000f0000-\U0010ffff]+|\\*+|\\?)", text)
    if len(parts) > 2 * _MOST_WILD:
        parts = [parts[0], UNKNOWN]
    return re.compile("".join(map(_meaning, parts)), re.DOTALL)


def _meaning(part: str) -> str:
    if _MARK.match(part):
        return ".*"
    return {"*": "[^/]*", "?": "[^/]"}.get(part[:1], re.escape(part))


def absolute(text: str, folder: str) -> str:
    """Return *text* as a path; from *folder* on if it is relative."""
    if text.startswith("~"):
        return UNKNOWN
    if _MARK.match(text):
        return text
    path = text
    if not text.startswith("/"):
        path = f"{folder or UNKNOWN}/{text}"
    if not path.startswith("/"):
        return path
    if not path.strip("/"):
        return "/"
    plain = posixpath.normpath(path).strip("/")
    if path.endswith(("/", "/.")):
        return f"/{plain}/"
    return f"/{plain}"
