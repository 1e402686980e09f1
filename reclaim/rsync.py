"""rsync's command line, by rsync(1): which options hold in the end, and which words are paths."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reclaim.shell import UNKNOWN, Word

Version = tuple[int, ...]

#: NEWS of 3.1.3: --sparse and --inplace may be given together
TOGETHER: Version = (3, 1, 3)
#: NEWS of 3.2.4 and 3.3.0: the last of the faults that leave other data in the copy when both are given
SAFE: Version = (3, 3, 0)

_SHORT_WITH_VALUE = "efBTM@"
_SHORT_MEANING = {"S": "sparse", "W": "whole-file", "n": "dry-run", "R": "relative"}
#: what of a pattern is read here: the wildcards * and ?
_UNREAD = re.compile(rf"[\\[{{{UNKNOWN}]")
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


@dataclass(frozen=True)
class Rule:
    """One of FILTER RULES in rsync(1). `leaves_out` is None where what it says lies elsewhere, or is not read here."""

    leaves_out: bool | None
    pattern: str = ""

    def fits(self, names: list[str], *, is_folder: bool) -> bool:
        """Does the pattern match what these names lead to, from the top of the transfer?"""
        pattern, below = self.pattern, ""
        if pattern.endswith("/***"):  # a folder, and all in it
            pattern, below = pattern[:-4], "(?:/.*)?" if is_folder else "/.*"
        if pattern.endswith("/") and not is_folder:
            return False
        pattern = pattern.rstrip("/")
        if pattern.startswith("/"):
            tails = [names]
        elif below or "/" in pattern or "**" in pattern:
            tails = [names[start:] for start in range(len(names))]
        else:
            tails = [names[-1:]]
        parts = re.split(r"(\*\*|\*|\?)", pattern.removeprefix("/"))
        meaning = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
        expression = "".join(meaning.get(part) or re.escape(part) for part in parts)
        if pattern.startswith("**/"):  # also at the top
            expression = "(?:.*/)?" + expression.removeprefix(".*/")
        return any(re.fullmatch(expression + below, "/".join(tail), re.DOTALL) for tail in tails)


@dataclass
class Line:
    """One rsync command: the options that hold in the end with the word that set each, its paths, and doubts."""

    options: dict[str, Word] = field(default_factory=dict)
    paths: list[Word] = field(default_factory=list)
    doubtful: list[Word] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)

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

    def leaves_out(self, source: str, path: str) -> bool | None:
        """Do the rules leave out *path*, which lies at or below *source*? None where that cannot be told."""
        if source.endswith("/."):
            source = source[:-1]
        names, last = path.split("/"), len(source.rstrip("/").split("/")) - 1
        # with --relative the folders above are in the name, and no rule is asked about them
        relative = self.has("relative")
        names, above = (names[1:], max(0, last - 1)) if relative else (names[last + source.endswith("/") :], 0)
        is_told = True
        for count in range(above + 1, len(names) + 1):
            for rule in self.rules:
                if rule.leaves_out is None:
                    is_told = False
                    break
                if rule.fits(names[:count], is_folder=count < len(names)):
                    if rule.leaves_out:
                        return True
                    break  # the first that fits decides
        return False if is_told else None


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
            name, separator, value = word.text[2:].partition("=")
            if name in _LONG_WITH_VALUE and not separator and rest:
                value = rest.pop(0).text
            _set(line, name, word)
            _add_rules(line, name, value)
        elif word.text.startswith("-") and len(word.text) > 1:
            _set_short(line, word, rest)
        else:
            line.paths.append(word)
    return line


def _set_short(line: Line, word: Word, rest: list[Word]) -> None:
    for number, letter in enumerate(word.text[1:], start=1):
        if letter in _SHORT_WITH_VALUE:
            value = word.text[number + 1 :]
            if not value and rest:
                value = rest.pop(0).text
            if letter == "f":
                _add_rules(line, "filter", value)
            return
        if letter == "F":
            line.rules.append(Rule(None))
        if letter in _SHORT_MEANING:
            _set(line, _SHORT_MEANING[letter], word)


def _add_rules(line: Line, name: str, value: str) -> None:
    if name in ("exclude-from", "include-from", "files-from"):
        line.rules.append(Rule(None))
        return
    kind = name
    if name == "filter":
        short = re.fullmatch(r"(-|exclude|\+|include)[ _](.+)", value)
        kind, value = (short[1], short[2]) if short else ("", value)
    elif name not in ("exclude", "include"):
        return
    braces = re.fullmatch(r"\{([^{}]*,[^{}]*)\}", value)  # bash makes an option of each
    for pattern in braces[1].split(",") if braces else [value]:
        is_read = kind and not _UNREAD.search(pattern)
        line.rules.append(Rule(kind in ("-", "exclude"), pattern) if is_read else Rule(None))


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
    match = re.match(r"rsync\s+version\s+v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", output)
    return tuple(map(int, match.groups())) if match else None
