"""rsync's command line, by rsync(1): which options hold in the end, and which words are paths."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reclaim.jobs.words import Word, is_sure, texts_of

Version = tuple[int, ...]

#: NEWS of 3.1.3: --sparse and --inplace may be given together
TOGETHER: Version = (3, 1, 3)
#: NEWS of 3.2.4 and 3.3.0: the last of the faults that leave other data in the copy when both are given
SAFE: Version = (3, 3, 0)

#: RsyncProject/rsync #799: before it, --sparse writes blocks that end in zeros again though nothing changed
REWRITES_LESS: Version = (3, 5, 0)

_SHORT_WITH_VALUE = "efBTM@"
_SHORT_MEANING = {
    "S": "sparse",
    "W": "whole-file",
    "n": "dry-run",
    "R": "relative",
    "x": "one-file-system",
    "u": "update",
}
#: what of a pattern is read here: the wildcards * and ?
_UNREAD = re.compile(r"[\\[{]")
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
#: a filesystem in memory, and what qemu-nbd and others mount
_NO_DEVICES = ("/dev/shm/",)  # noqa: S108
_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def is_called_so(name: str) -> bool:
    """True if it is rsync, also by a name with its version."""
    return re.fullmatch(r"rsync(?:[-_]?\d[\d.]*)?", name) is not None


def is_remote(text: str) -> bool:
    """True if the path is on another machine."""
    return _REMOTE.match(text) is not None


def is_device(path: str) -> bool:
    """True if it is a device, here or elsewhere, by its name."""
    local = path
    if is_remote(path):
        local = path.rpartition(":")[2]
    if local.startswith(_NO_DEVICES):
        return False
    return local.startswith("/dev/")


@dataclass(frozen=True)
class Rule:
    """One of FILTER RULES in rsync(1). `leaves_out` is None if its patterns lie elsewhere, or are not read here."""

    leaves_out: bool | None
    pattern: str = ""

    def fits(self, names: list[str], *, is_folder: bool) -> bool:
        """True if the pattern matches the path that these names lead to, from the top of the transfer."""
        pattern, below = self.pattern, ""
        if pattern.endswith("/***"):  # a folder, and all in it
            pattern = pattern[:-4]
            below = "(?:/.*)?" if is_folder else "/.*"
        if pattern.endswith("/") and not is_folder:
            return False
        pattern = pattern.rstrip("/")
        expression = _expression(pattern) + below
        for start in _starts(pattern, below, len(names)):
            path = "/".join(names[start:])
            if re.fullmatch(expression, path, re.DOTALL):
                return True
        return False


def _starts(pattern: str, below: str, names: int) -> range:
    """The names, of so many, at which the pattern of a rule may begin to match."""
    if pattern.startswith("/"):
        return range(1)
    if below or "/" in pattern:
        return range(names)
    if "**" in pattern:
        return range(names)
    return range(names - 1, names)


_WILDCARDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


def _expression(pattern: str) -> str:
    """The pattern of a rule as a regular expression."""
    expression = ""
    for part in re.split(r"(\*\*|\*|\?)", pattern.removeprefix("/")):
        expression += _WILDCARDS.get(part) or re.escape(part)
    if pattern.startswith("**/"):  # also at the top
        return "(?:.*/)?" + expression.removeprefix(".*/")
    return expression


@dataclass
class Line:
    """One rsync command: the options that hold in the end with the word that set each, its paths, and doubts."""

    options: dict[str, Word] = field(default_factory=dict)
    paths: list[Word] = field(default_factory=list)
    doubtful: list[Word] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    #: bytes of the largest file that is copied, by --max-size; 0 where that is not known
    largest: int | None = None
    #: what the rsync at the other end is told besides (--remote-option)
    remote: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return name in self.options

    @property
    def sources(self) -> list[Word]:
        return self.paths[:-1]

    @property
    def target(self) -> Word | None:
        if len(self.paths) < 2:
            return None
        return self.paths[-1]

    @property
    def is_local(self) -> bool:
        """True if both ends are on this machine. Then rsync copies whole files unless an option forbids it."""
        return not any(map(is_remote, texts_of(self.paths)))

    @property
    def writes_here(self) -> bool:
        """True if this machine's rsync is the one that writes. So also for a pull."""
        if self.target is None:
            return False
        return not is_remote(self.target.text)

    @property
    def writes_devices(self) -> bool:
        """True if it may write into a device."""
        if self.has("write-devices"):
            return True
        return any(map(_may_write_devices, self.remote))

    @property
    def keeps_unchanged_blocks(self) -> bool:
        """True if it leaves the blocks of the old copy in place that did not change."""
        if not self.has("inplace") or self.has("whole-file"):
            return False
        if self.has("no-whole-file"):
            return True
        return not self.is_local

    def leaves_out(self, source: str, path: str) -> bool | None:
        """True if the rules leave out *path*, which lies at or below *source*; None if that cannot be told."""
        if source.endswith("/."):
            source = source[:-1]
        names = path.split("/")
        last = source.rstrip("/").count("/")
        above = 0
        # with --relative the folders above are in the name, and no rule is asked about them
        if self.has("relative"):
            names = names[1:]
            above = max(0, last - 1)
        else:
            names = names[last + source.endswith("/") :]
        outcome: bool | None = False
        for count in range(above + 1, len(names) + 1):
            is_folder = count < len(names)
            rule = self._rule_for(names[:count], is_folder=is_folder)
            if rule is None:
                continue
            if rule.leaves_out:
                return True
            if rule.leaves_out is None:
                outcome = None
        return outcome

    def _rule_for(self, names: list[str], *, is_folder: bool) -> Rule | None:
        """The rule that decides about a path: the first that fits, or that cannot be read."""
        for rule in self.rules:
            if rule.leaves_out is None:
                return rule
            if rule.fits(names, is_folder=is_folder):
                return rule
        return None


def _may_write_devices(remote: str) -> bool:
    """True if an option for the rsync at the other end lets it write into devices, or may."""
    return "-devices" in remote or not is_sure(remote)


def read(words: tuple[Word, ...]) -> Line:
    """Read the words after `rsync`. popt takes options anywhere; the last one of a kind holds."""
    line = Line()
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        if word.may_be_options:
            line.doubtful.append(word)
            if not word.text.startswith("-"):
                line.paths.append(word)
        elif word.text == "--":
            line.paths += rest
            break
        elif word.text.startswith("--"):
            _set_long(line, word, rest)
        elif word.text.startswith("-") and len(word.text) > 1:
            _set_short(line, word, rest)
        else:
            line.paths.append(word)
    if _leaves_zeros_out_there(line):
        line.options.setdefault("sparse", words[0])
    _doubt_paths(line)
    return line


def _doubt_paths(line: Line) -> None:
    """With a source and a target besides, a word that is not known may be an option."""
    if len(line.paths) <= 2:
        return
    for word in line.paths[:-1]:
        if word.may_be_option and word not in line.doubtful:
            line.doubtful.append(word)


def _leaves_zeros_out_there(line: Line) -> bool:
    """True if the other end writes, and is told --sparse: the end that writes leaves zeros out."""
    if line.target is None or line.writes_here:
        return False
    return not {"--sparse", "-S"}.isdisjoint(line.remote)


def _set_long(line: Line, word: Word, rest: list[Word]) -> None:
    name, separator, value = word.text[2:].partition("=")
    if name in _LONG_WITH_VALUE and not separator and rest:
        value = rest.pop(0).text
    _set(line, name, word)
    _add_rules(line, name, value)
    if name in ("remote-option", "rsync-path"):
        line.remote.append(value)
    elif name == "max-size":
        line.largest = _bytes(value)


def _set_short(line: Line, word: Word, rest: list[Word]) -> None:
    for number, letter in enumerate(word.text[1:], start=1):
        if letter in _SHORT_WITH_VALUE:
            value = word.text[number + 1 :]
            if not value and rest:
                value = rest.pop(0).text
            _take_value(line, letter, value)
            return
        if letter == "F":
            line.rules.append(Rule(None))
        meaning = _SHORT_MEANING.get(letter)
        if meaning:
            _set(line, meaning, word)


def _take_value(line: Line, letter: str, value: str) -> None:
    if letter == "f":
        _add_rules(line, "filter", value)
    elif letter == "M":
        line.remote.append(value)


def _add_rules(line: Line, name: str, value: str) -> None:
    if name in ("exclude-from", "include-from", "files-from"):
        line.rules.append(Rule(None))
        return
    if name not in ("filter", "exclude", "include"):
        return
    kind = name
    if name == "filter":
        kind = ""
        short = re.fullmatch(r"(-|exclude|\+|include)[ _](.+)", value)
        if short is not None:
            kind, value = short.groups()
    patterns = [value]
    braces = re.fullmatch(r"\{([^{}]*,[^{}]*)\}", value)  # bash makes an option of each
    if braces is not None:
        patterns = braces[1].split(",")
    for pattern in patterns:
        line.rules.append(_rule(kind, pattern))


def _rule(kind: str, pattern: str) -> Rule:
    """The rule of an option; `kind` is "" if the option is not read here."""
    if not kind or not is_sure(pattern):
        return Rule(None)
    if _UNREAD.search(pattern):
        return Rule(None)
    return Rule(kind in ("-", "exclude"), pattern)


def _set(line: Line, name: str, word: Word) -> None:
    """Let the option hold; `--no-X` takes X back, and the other way round."""
    bare = name.removeprefix("no-")
    bare = _SHORT_MEANING.get(bare, bare)
    opposite = f"no-{bare}"
    line.options.pop(bare, None)
    line.options.pop(opposite, None)
    if name.startswith("no-"):
        line.options[opposite] = word
    else:
        line.options[bare] = word
    if name in ("append", "append-verify", "write-devices"):
        line.options["inplace"] = word


def _bytes(text: str) -> int:
    """Return a size by rsync(1) in bytes; 0 if it is not known."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([bkmgt]?)(?:i?b)?", text, re.IGNORECASE)
    if match is None:
        return 0
    number, unit = match.groups()
    return int(float(number) * _UNITS[unit.lower()])


def version(output: str) -> Version | None:
    """The version in the first line of `rsync --version`; None for another program of that name."""
    match = re.match(r"rsync\s+version\s+v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", output)
    if match is None:
        return None
    return tuple(map(int, match.groups()))
