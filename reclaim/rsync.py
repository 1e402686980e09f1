"""rsync's command line, by rsync(1): which options hold in the end, and which words are paths."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reclaim.shell import Word

Version = tuple[int, ...]

#: NEWS of 3.1.3: --sparse and --inplace may be given together
TOGETHER: Version = (3, 1, 3)
#: NEWS of 3.2.4 and 3.3.0: the last of the faults that leave other data in the copy when both are given
SAFE: Version = (3, 3, 0)

_SHORT_WITH_VALUE = "efBTM@"
_SHORT_MEANING = {"S": "sparse", "W": "whole-file", "n": "dry-run"}
# fmt: off
_LONG_WITH_VALUE = frozenset((
    "rsh", "rsync-path", "filter", "exclude", "exclude-from", "include", "include-from", "files-from",
    "block-size", "temp-dir", "compare-dest", "copy-dest", "link-dest", "max-delete", "min-size", "max-size",
    "max-alloc", "partial-dir", "suffix", "backup-dir", "chmod", "chown", "usermap", "groupmap", "timeout",
    "contimeout", "address", "port", "sockopts", "outbuf", "info", "debug", "stderr", "out-format",
    "log-file", "log-file-format", "password-file", "early-input", "bwlimit", "stop-after", "stop-at",
    "time-limit", "write-batch", "only-write-batch", "read-batch", "protocol", "iconv", "checksum-seed",
    "checksum-choice", "cc", "compress-choice", "zc", "compress-level", "zl", "compress-threads",
    "skip-compress", "modify-window", "remote-option", "config", "dparam", "copy-as",
))
# fmt: on
_REMOTE = re.compile(r"(rsync://|[^/]*:)")


@dataclass
class Line:
    """One rsync command: the options that hold in the end with the word that set each, its paths, and doubts."""

    options: dict[str, Word] = field(default_factory=dict)
    paths: list[Word] = field(default_factory=list)
    doubtful: list[Word] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in self.options

    @property
    def sources(self) -> list[Word]:
        return self.paths[:-1]

    @property
    def target(self) -> Word | None:
        return self.paths[-1] if len(self.paths) > 1 else None

    @property
    def is_local(self) -> bool:
        """Are both ends on this machine? Then rsync copies whole files unless told otherwise."""
        return not any(_REMOTE.match(word.text) for word in self.paths)

    @property
    def keeps_unchanged_blocks(self) -> bool:
        """Does it leave the blocks of the old copy in place that did not change?"""
        whole = self.has("whole-file") or (self.is_local and not self.has("no-whole-file"))
        return self.has("inplace") and not whole


def read(words: tuple[Word, ...]) -> Line:
    """Read the words after `rsync`. popt takes options anywhere; the last one of a kind holds."""
    line = Line()
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        if word.may_be_options:
            line.doubtful.append(word)
        elif word.text == "--":
            line.paths += rest
            break
        elif word.text.startswith("--"):
            name, separator, _ = word.text[2:].partition("=")
            if name in _LONG_WITH_VALUE and not separator and rest:
                rest.pop(0)
            _set(line, name, word)
        elif word.text.startswith("-") and len(word.text) > 1:
            _set_short(line, word, rest)
        else:
            line.paths.append(word)
    return line


def _set_short(line: Line, word: Word, rest: list[Word]) -> None:
    for number, letter in enumerate(word.text[1:], start=1):
        if letter in _SHORT_WITH_VALUE:
            if number == len(word.text) - 1 and rest:
                rest.pop(0)
            return
        if letter in _SHORT_MEANING:
            _set(line, _SHORT_MEANING[letter], word)


def _set(line: Line, name: str, word: Word) -> None:
    """Let the option hold; `--no-X` takes X back, and the other way round."""
    bare = name.removeprefix("no-")
    bare = _SHORT_MEANING.get(bare, bare)
    line.options.pop(bare, None)
    line.options.pop(f"no-{bare}", None)
    line.options[f"no-{bare}" if name.startswith("no-") else bare] = word
    if name in ("append", "append-verify"):
        line.options["inplace"] = word


def version(output: str) -> Version | None:
    """The version in the first line of `rsync --version`; None for another program of that name."""
    match = re.match(r"rsync\s+version\s+v?(\d+)\.(\d+)\.(\d+)", output)
    return tuple(map(int, match.groups())) if match else None
