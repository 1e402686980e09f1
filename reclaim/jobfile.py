"""The files that backups are started from: cron tables, systemd units, rsnapshot.conf, shell scripts.

Each format is read by its own rules into the same commands; every word keeps its place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Literal

from reclaim import rsync, shell
from reclaim.shell import UNKNOWN, Call, Script, Word

Format = Literal["cron", "crontab", "anacrontab", "unit", "rsnapshot", "shell"]

_SCHEDULE = re.compile(
    rb"[ \t]*(?:@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)"
    rb"|(?:[\d*][\d*/,\-~]*)(?:[ \t]+[\w*/,\-~]+){4})[ \t]+"
)
_CRON_VARIABLE = re.compile(rb"[ \t]*\w+[ \t]*=")
_USER = re.compile(rb"[a-z_][a-z0-9_-]*[$]?")


def format_of(path: str, source: bytes) -> Format | None:
    """Which format the file is in, told by its place, its name, its first line; None for a systemd timer."""
    one = PurePosixPath(path)
    if one.suffix == ".timer":
        return None
    if one.suffix == ".service" or re.search(rb"^\[Service\]", source, re.MULTILINE):
        return "unit"
    if source.startswith(b"#!"):
        return "shell"
    is_called_so = "rsnapshot" in one.name and one.suffix == ".conf"  # Debian's cron table is called rsnapshot too
    if is_called_so or re.search(rb"^snapshot_root\t", source, re.MULTILINE):
        return "rsnapshot"
    if one.name == "anacrontab":
        return "anacrontab"
    lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    cron = [line for line in lines if not _CRON_VARIABLE.match(line)]
    if cron and all(_SCHEDULE.match(line) for line in cron):
        return "crontab" if _has_user_field(one, cron) else "cron"
    return "shell"


def _has_user_field(path: PurePosixPath, lines: list[bytes]) -> bool:
    """Is the word after the schedule a user? So in /etc/crontab and /etc/cron.d; elsewhere if it looks like one."""
    if path.parent.name in ("cron.d", "etc"):
        return True
    if "cron" in path.parts or path.parent.name == "crontabs":
        return False
    rest = [_SCHEDULE.sub(b"", line, count=1).split() for line in lines]
    return all(len(words) > 1 and _USER.fullmatch(words[0]) and b"/" in words[1] for words in rest)


def read(path: str, source: bytes) -> Script:
    """The commands in the file, and what of it is unclear."""
    found = format_of(path, source)
    if found is None:
        return Script(unclear=[f"a timer says when, not what: declare {PurePosixPath(path).stem}.service"])
    return _READERS[found](source)


# cron -----------------------------------------------------------------------------------------


def _lines(source: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each line that says something: its number, its offset, its text without the line's end."""
    offset = 0
    for number, line in enumerate(source.splitlines(keepends=True), start=1):
        text = line.rstrip(b"\r\n")
        if text.strip() and not text.lstrip().startswith(b"#"):
            yield number, offset, text
        offset += len(line)


def _cron(source: bytes, *, users: bool = False) -> Script:
    """crontab(5): five fields or @word, in system tables a user, then a line for the shell up to the first %."""
    script = Script()
    for number, offset, line in _lines(source):
        if _CRON_VARIABLE.match(line):
            continue
        schedule = _SCHEDULE.match(line)
        if schedule is None:
            script.unclear.append(f"line {number} is no line of a cron table")
            continue
        start = schedule.end()
        if users:
            user = re.compile(rb"\S+[ \t]+").match(line, start)
            if user is None:
                script.unclear.append(f"line {number} has no command")
                continue
            start = user.end()
        _add_cron_command(script, line[start:], offset + start, number)
    return script


def _add_cron_command(script: Script, command: bytes, offset: int, number: int) -> None:
    """cron turns `\\%` into `%`, and what follows a bare % into standard input; neither moves what is before it."""
    before = re.split(rb"(?<!\\)%", command, maxsplit=1)[0]
    if rb"\%" in before:
        # blanks of the same length: the offsets stay, and the words that hold it are not known
        before = before.replace(rb"\%", b"_%")
    inner = shell.parse(before, offset=offset, first_line=number)
    script.calls += inner.calls
    script.unclear += inner.unclear


def _anacron(source: bytes) -> Script:
    """anacrontab(5): period, delay, name, command."""
    script = Script()
    for number, offset, line in _lines(source):
        fields = re.match(rb"[ \t]*\S+[ \t]+\d+[ \t]+\S+[ \t]+", line)
        if fields is None:
            if not _CRON_VARIABLE.match(line):
                script.unclear.append(f"line {number} is no line of an anacrontab")
            continue
        _add_cron_command(script, line[fields.end() :], offset + fields.end(), number)
    return script


# systemd --------------------------------------------------------------------------------------

_EXEC = ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecCondition")


def _unit(source: bytes) -> Script:
    """systemd.syntax(7), systemd.service(5): the Exec lines of [Service], with its Environment."""
    script, section = Script(), b""
    variables: dict[str, str] = {}
    commands: list[tuple[int, int, int]] = []
    for number, start, end in _logical_lines(source):
        line = source[start:end]
        if line.lstrip().startswith(b"["):
            section = line.strip()
            continue
        key, separator, value = line.partition(b"=")
        if section != b"[Service]" or not separator:
            continue
        name = key.strip().decode("ascii", errors="replace")
        if name == "Environment":
            for word in _unit_words(source, start + len(key) + 1, end, {}):
                variable, _, content = word.text.partition("=")
                variables[variable] = content
        elif name in _EXEC and value.strip():
            commands.append((number, start + len(key) + 1, end))
        elif name in _EXEC:
            commands.clear()  # an empty value takes back those before it
    for number, start, end in commands:
        words: list[Word] = []
        for word in [*_unit_words(source, start, end, variables), Word(";")]:
            if word.text != ";":
                words.append(word)
                continue
            _add_unit_command(script, words, number, source)
            words = []
    return script


def _add_unit_command(script: Script, words: list[Word], number: int, source: bytes) -> None:
    if not words:
        return
    prefix = re.match(r"[@\-:+!|]*", words[0].text)
    marks = prefix[0] if prefix else ""
    given = words[1:2] if "@" in marks else []  # argv[0]: options come behind it
    start, end = words[0].start, given[0].end if given else words[0].end
    if end is None:
        start = None
    words = [Word(words[0].text[len(marks) :], start, end), *words[1 + len(given) :]]
    if words[0].text.endswith((".sh", ".bash")):
        script.unclear.append(f"line {number}: it runs {words[0].text}: declare that as the job")
        return
    shell.take(script, words, number, source)


def _logical_lines(source: bytes) -> Iterator[tuple[int, int, int]]:
    """Lines with those that a backslash continues: number, start and end. Comments stand between them."""
    offset, begun = 0, None
    for number, line in enumerate(source.splitlines(keepends=True), start=1):
        text = line.rstrip(b"\r\n")
        is_comment = text.lstrip().startswith((b"#", b";"))
        if begun is None and (is_comment or not text.strip()):
            offset += len(line)
            continue
        first = begun or (number, offset)
        if is_comment or text.endswith(b"\\"):
            begun = first
        else:
            yield *first, offset + len(text)
            begun = None
        offset += len(line)
    if begun is not None:
        yield *begun, len(source)


_UNIT_WORD = re.compile(
    rb"(?:\\\r?\n(?:[ \t]*[#;][^\n]*\n)*|[ \t\r\n])+"  # blanks, and lines that go on past comments
    rb"|((?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\\[^\n]|[^\s'\"\\])+)",
    re.DOTALL,
)


def _unit_words(source: bytes, start: int, end: int, variables: dict[str, str]) -> list[Word]:
    words: list[Word] = []
    position = start
    while position < end:
        match = _UNIT_WORD.match(source, position, end)
        if match is None:
            words.append(Word(UNKNOWN, splits=True))
            return words
        if match[1] is not None:
            words += _unit_word(match[1], match.start(1), match.end(1), variables)
        position = match.end()
    return words


def _unit_word(raw: bytes, start: int, end: int, variables: dict[str, str]) -> list[Word]:
    text = raw.decode("utf-8", errors="surrogateescape")
    alone = re.fullmatch(r"\$(\w+)", text)
    if alone is not None:
        if alone[1] not in variables:
            return [Word(UNKNOWN, start, end, splits=True)]
        return [Word(word) for word in variables[alone[1]].split()]
    text = re.sub(r"(?<!\\)['\"]", "", text)
    text = re.sub(r"\\(.)", lambda one: one[1] if one[1] in "\\'\" " else UNKNOWN, text, flags=re.DOTALL)
    text = re.sub(r"%(.)", lambda one: "%" if one[1] == "%" else UNKNOWN, text)
    text = re.sub(r"\$\$|\$\{(\w+)\}", lambda one: variables.get(one[1], UNKNOWN) if one[1] else "$", text)
    return [Word(text, start, end)]


# rsnapshot ------------------------------------------------------------------------------------

_RULES = {
    "exclude": "exclude",
    "include": "include",
    "exclude_file": "exclude-from",
    "include_file": "include-from",
}
_SHORT, _LONG = "-a", "--delete --numeric-ids --relative --delete-excluded"


def _rsnapshot(source: bytes) -> Script:
    """rsnapshot.conf: keys and values parted by tabs; one rsync for each `backup`, with hard links to the last one."""
    script = Script()
    settings: dict[str, tuple[str, int]] = {}
    backups: list[tuple[int, list[str]]] = []
    rules: list[str] = []
    for number, offset, line in _lines(source):
        fields = re.split(r"\t+", line.decode("utf-8", errors="surrogateescape").strip())
        if len(fields) < 2:
            script.unclear.append(f"line {number}: no tab: rsnapshot would refuse it")
        elif fields[0] == "backup":
            backups.append((number, fields[1:]))
        elif fields[0] == "backup_script":
            script.unclear.append(f"line {number}: it runs {fields[1]}: declare that as the job")
        elif fields[0] in _RULES:
            rules.append(f"--{_RULES[fields[0]]}={fields[1]}")
        elif fields[0] == "include_conf":
            script.unclear.append(f"line {number}: it includes {fields[1]}, which is not read")
        else:
            settings[fields[0]] = (fields[1], offset + _end_of_value(line))
    command = settings.get("cmd_rsync", ("rsync", 0))[0]
    root = settings.get("snapshot_root", (UNKNOWN, 0))[0].rstrip("/")
    if "rsync_long_args" in settings:
        insert, form = settings["rsync_long_args"][1], " {}"
    else:
        start = "" if source.endswith(b"\n") or not source else "\n"
        insert, form = len(source), f"{start}rsync_long_args\t{_LONG} {{}}\n"
    for number, fields in backups:
        options = _arguments(settings, fields)
        heard = rsync.read(tuple(map(Word, (command, *_arguments(settings, fields, "--sparse"))))).has("sparse")
        # rsnapshot makes each generation from the last by hard links
        words = [
            command,
            *options,
            *rules,
            "--link-dest=..",
            fields[0],
            f"{root}/{UNKNOWN}/{fields[1] if len(fields) > 1 else ''}",
        ]
        script.calls.append(Call(tuple(Word(word) for word in words), number, insert if heard else None, form))
    return script


def _arguments(settings: dict[str, tuple[str, int]], fields: list[str], more: str = "") -> list[str]:
    """The arguments of one `backup`, with *more* after those of all: its own may come after them, or replace them."""
    long = settings.get("rsync_long_args", (_LONG, 0))[0]
    options = f"{settings.get('rsync_short_args', (_SHORT, 0))[0]} {long} {more}"
    for extra in fields[2].split(",") if len(fields) > 2 else ():
        key, _, value = extra.partition("=")
        if key.lstrip("+") in ("rsync_long_args", "rsync_short_args"):
            options = f"{options} {value}" if key.startswith("+") else value
    return options.split()


def _end_of_value(line: bytes) -> int:
    """Where the first value of a line ends: rsnapshot takes no other for a setting."""
    found = re.match(rb"\s*[^\t]*\t+[^\t]*", line.rstrip())
    return found.end() if found else len(line.rstrip())


_READERS: dict[Format, Callable[[bytes], Script]] = {
    "cron": _cron,
    "crontab": lambda source: _cron(source, users=True),
    "anacrontab": _anacron,
    "unit": _unit,
    "rsnapshot": _rsnapshot,
    "shell": shell.parse,
}
