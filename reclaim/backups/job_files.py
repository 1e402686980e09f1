"""The files that backups are started from: cron tables, systemd units, rsnapshot.conf, shell scripts.

Each format is read by its own rules into the same commands; every word keeps its place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from reclaim.jobs import configs, rsync
from reclaim.jobs.calls import Call, Script
from reclaim.jobs.shell import Files, NoFiles, Shell, language_of
from reclaim.jobs.tools import is_known
from reclaim.jobs.values import State, Text
from reclaim.jobs.words import UNKNOWN, Word, clean

Format = Literal["cron", "crontab", "anacrontab", "unit", "rsnapshot", "shell", "other"]

_SCHEDULE = re.compile(
    rb"[ \t]*(?:@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)"
    rb"|(?:[\d*][\d*/,\-~]*)(?:[ \t]+[\w*/,\-~]+){4})[ \t]+"
)
_CRON_VARIABLE = re.compile(rb"[ \t]*\w+[ \t]*=")
_ANY_USER = re.compile(rb"\S+[ \t]+")
_SHEBANG = re.compile(
    rb"#![ \t]*\S*/(?:env[ \t]+)?(?:\S*/)?(?:ba|da|k|z)?sh(?:[ \t].*)?\Z"
)
_USER = re.compile(rb"[a-z_][a-z0-9_-]*[$]?")


def format_of(path: str, source: bytes) -> Format | None:
    """Which format the file is in, told by its place, its name, its first line; None for a systemd timer."""
    one = PurePosixPath(path)
    if one.suffix == ".timer":
        return None
    if one.suffix == ".service" or re.search(rb"^\[Service\]", source, re.MULTILINE):
        return "unit"
    if language_of(source, path):
        return "other"
    if source.startswith(b"#!"):
        return "shell"
    is_called_so = (
        "rsnapshot" in one.name and one.suffix == ".conf"
    )  # Debian's cron table is called rsnapshot too
    if is_called_so or re.search(rb"^snapshot_root\t", source, re.MULTILINE):
        return "rsnapshot"
    if one.name == "anacrontab":
        return "anacrontab"
    if configs.is_one(path, source):
        return "other"
    lines = [
        line
        for line in source.splitlines()
        if line.strip() and not line.lstrip().startswith(b"#")
    ]
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
    return all(
        len(words) > 1 and _USER.fullmatch(words[0]) and b"/" in words[1]
        for words in rest
    )


def read(path: str, source: bytes, files: Files | None = None) -> Script:
    """The commands in the file, and what of it was not understood. What it starts is read from *files*."""
    script = Script()
    found = format_of(path, source)
    if found is None:
        script.skip(
            f"a timer says when, not what: declare {PurePosixPath(path).stem}.service"
        )
    else:
        _READERS[found](_Reader(script, path, source, files or NoFiles()))
    return script


@dataclass(frozen=True)
class _Reader:
    """One file that is read into a script."""

    script: Script
    path: str
    source: bytes
    files: Files

    def shell(self, variables: dict[str, str] | None = None) -> Shell:
        """A shell of its own, which knows *variables* alone."""
        known = {name: (value,) for name, value in (variables or {}).items()}
        state = State({"PWD": (UNKNOWN,), **known})
        return Shell(
            self.script,
            self.files,
            state=state,
            is_known=is_known,
            _opened=(self.path,),
        )


def _shell(job: _Reader) -> None:
    shell = job.shell()
    shell.read(Text(job.source))


def _other(job: _Reader) -> None:
    if language := language_of(job.source, job.path):
        job.script.skip(
            f"it is a program in {language}: reclaim reads shell, cron tables, units and rsnapshot.conf"
        )
        return
    configs.read(
        job.path,
        job.source,
        job.script,
        lambda text, line: job.shell().read(Text(text, None, line)),
    )


# cron -----------------------------------------------------------------------------------------


def _lines(source: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each line that says something: its number, its offset, its text without the line's end."""
    offset = 0
    for number, line in enumerate(source.splitlines(keepends=True), start=1):
        text = line.rstrip(b"\r\n")
        if text.strip() and not text.lstrip().startswith(b"#"):
            yield number, offset, text
        offset += len(line)


def _cron(job: _Reader, *, users: bool = False) -> None:
    """crontab(5): five fields or @word, in system tables a user, then a line for the shell up to the first %."""
    variables: dict[str, str] = {}
    for number, offset, line in _lines(job.source):
        if _CRON_VARIABLE.match(line):
            _set_variable(variables, line)
            continue
        start = _command_in(line, users=users)
        if start is None:
            job.script.skip(
                f"line {number} is no line of a cron table, or has no command"
            )
            continue
        _add_cron_command(job, line[start:], offset + start, number, variables)


def _command_in(line: bytes, *, users: bool) -> int | None:
    """The byte of a cron table's line at which its command begins; None if it has none."""
    schedule = _SCHEDULE.match(line)
    user = _ANY_USER.match(line, schedule.end()) if schedule and users else schedule
    return user.end() if user else None


def beginning(path: str, source: bytes, line: int) -> tuple[int, Format] | None:
    """The byte before which a command of its own can stand, that runs before the job's command in *line*.

    In a shell script that is its begin, in a cron table the command's, in a unit of Type=oneshot the first
    ExecStartPre= or ExecStart=.
    None if there is no such place: rsnapshot, anacron, other units (a start has a limit of time).
    """
    kind = format_of(path, source)
    if kind == "shell":
        first = source.partition(b"\n")[0]
        if not source.startswith(b"#!"):
            return 0, kind
        return (
            (len(first) + 1, kind)
            if _SHEBANG.match(first) and len(first) < len(source)
            else None
        )
    if kind in ("cron", "crontab"):
        for number, offset, text in _lines(source):
            if (
                number == line
                and (start := _command_in(text, users=kind == "crontab")) is not None
            ):
                return offset + start, kind
    if kind == "unit" and re.search(
        rb"^Type[ \t]*=[ \t]*oneshot[ \t]*\r?$", source, re.MULTILINE
    ):
        if re.search(rb"^ExecStartPre[ \t]*=[ \t]*\r?$", source, re.MULTILINE):
            return None  # it takes back those before it
        # before those that are there: they may stop a guest, and then nothing trims it
        found = re.search(rb"^ExecStartPre[ \t]*=", source, re.MULTILINE) or re.search(
            rb"^ExecStart[ \t]*=", source, re.MULTILINE
        )
        return (found.start(), kind) if found else None
    return None


def _set_variable(variables: dict[str, str], line: bytes) -> None:
    """`NAME = value`: cron takes quotes off, and expands nothing."""
    name, _, value = line.decode("utf-8", errors="surrogateescape").partition("=")
    text = clean(value.strip())
    variables[name.strip()] = (
        text[1:-1] if text[:1] in ("'", '"') and text[-1:] == text[:1] else text
    )


def _add_cron_command(
    job: _Reader, command: bytes, offset: int, number: int, variables: dict[str, str]
) -> None:
    """cron turns `\\%` into `%`, and what follows a bare % into standard input; neither moves what is before it."""
    before = re.split(rb"(?<!\\)%", command, maxsplit=1)[0]
    if rb"\%" in before:
        # blanks of the same length: the offsets stay, and the words that hold it are not known
        before = before.replace(rb"\%", b"_%")
    shell = job.shell(variables)
    shell.cron_line = number
    shell.read(Text(before, offset, number))


def _anacron(job: _Reader) -> None:
    """anacrontab(5): period, delay, name, command."""
    variables: dict[str, str] = {}
    for number, offset, line in _lines(job.source):
        fields = re.match(rb"[ \t]*\S+[ \t]+\d+[ \t]+\S+[ \t]+", line)
        if fields is None:
            if _CRON_VARIABLE.match(line):
                _set_variable(variables, line)
            else:
                job.script.skip(f"line {number} is no line of an anacrontab")
            continue
        _add_cron_command(
            job, line[fields.end() :], offset + fields.end(), number, variables
        )


# systemd --------------------------------------------------------------------------------------

#: in the order in which systemd runs them
_EXEC = (
    "ExecCondition",
    "ExecStartPre",
    "ExecStart",
    "ExecStartPost",
    "ExecStop",
    "ExecStopPost",
)


def _unit(job: _Reader) -> None:
    """systemd.syntax(7), systemd.service(5): the Exec lines of [Service], with its Environment."""
    source, section = job.source, b""
    variables: dict[str, str] = {}
    commands: dict[str, list[tuple[int, int, int]]] = {name: [] for name in _EXEC}
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
        elif name == "WorkingDirectory":
            variables["PWD"] = clean(
                value.strip().decode("utf-8", errors="surrogateescape")
            )
        elif name in _EXEC and value.strip():
            commands[name].append((number, start + len(key) + 1, end))
        elif name in _EXEC:
            commands[name].clear()  # an empty value takes back those before it
    for number, start, end in (one for name in _EXEC for one in commands[name]):
        _add_unit_line(
            job, number, _unit_words(source, start, end, variables), variables
        )


def _add_unit_line(
    job: _Reader, number: int, words: list[Word], variables: dict[str, str]
) -> None:
    """One Exec line; `;` parts the commands of a oneshot."""
    some: list[Word] = []
    for word in [*words, Word(";")]:
        if word.text != ";":
            some.append(word)
            continue
        if some:
            _add_unit_command(job, some, number, variables)
        some = []


def _add_unit_command(
    job: _Reader, words: list[Word], number: int, variables: dict[str, str]
) -> None:
    prefix = re.match(r"[@\-:+!|]*", words[0].text)
    marks = prefix[0] if prefix else ""
    given = words[1:2] if "@" in marks else []  # argv[0]: options come behind it
    start, end = words[0].start, given[0].end if given else words[0].end
    if end is None:
        start = None
    words = [Word(words[0].text[len(marks) :], start, end), *words[1 + len(given) :]]
    shell = job.shell(
        {name: value for name, value in variables.items() if name == "PWD"}
    )
    shell.text = Text(job.source)
    shell.take(words, number)


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


def _unit_words(
    source: bytes, start: int, end: int, variables: dict[str, str]
) -> list[Word]:
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


def _unit_word(
    raw: bytes, start: int, end: int, variables: dict[str, str]
) -> list[Word]:
    text = clean(raw.decode("utf-8", errors="surrogateescape"))
    alone = re.fullmatch(r"\$(\w+)", text)
    if alone is not None:
        if alone[1] not in variables:
            return [Word(UNKNOWN, start, end, splits=True)]
        return [Word(word) for word in variables[alone[1]].split()]
    text = re.sub(r"(?<!\\)['\"]", "", text)
    text = re.sub(
        r"\\(.)",
        lambda one: one[1] if one[1] in "\\'\" " else UNKNOWN,
        text,
        flags=re.DOTALL,
    )
    text = re.sub(r"%(.)", lambda one: "%" if one[1] == "%" else UNKNOWN, text)
    text = re.sub(
        r"\$\$|\$\{(\w+)\}",
        lambda one: variables.get(one[1], UNKNOWN) if one[1] else "$",
        text,
    )
    return [Word(text, start, end)]


# rsnapshot ------------------------------------------------------------------------------------

_RULES = {
    "exclude": "exclude",
    "include": "include",
    "exclude_file": "exclude-from",
    "include_file": "include-from",
}
#: the commands that it runs: before all backups, among them, and after them
_RSNAPSHOT_RUNS = ("cmd_preexec", "backup_script", "backup_exec", "cmd_postexec")
_SHORT, _LONG = "-a", "--delete --numeric-ids --relative --delete-excluded"


def _rsnapshot(job: _Reader) -> None:
    """rsnapshot.conf: keys and values parted by tabs; one rsync for each `backup`, with hard links to the last one."""
    script, source = job.script, job.source
    settings: dict[str, tuple[str, int]] = {}
    backups: list[tuple[int, list[str]]] = []
    rules: list[str] = []
    scripts: dict[str, list[tuple[int, str]]] = {name: [] for name in _RSNAPSHOT_RUNS}
    for number, offset, line in _lines(source):
        fields = re.split(
            r"\t+", clean(line.decode("utf-8", errors="surrogateescape").strip())
        )
        if len(fields) < 2:
            script.skip(f"line {number}: no tab: rsnapshot would refuse it")
        elif fields[0] == "backup":
            backups.append((number, fields[1:]))
        elif fields[0] in _RSNAPSHOT_RUNS:
            scripts[fields[0]].append((number, fields[1]))
        elif fields[0] in _RULES:
            rules.append(f"--{_RULES[fields[0]]}={fields[1]}")
        elif fields[0] == "include_conf":
            script.skip(f"line {number}: it includes {fields[1]}, which is not read")
        else:
            settings[fields[0]] = (fields[1], offset + _end_of_value(line))
    command = settings.get("cmd_rsync", ("rsync", 0))[0]
    root = settings.get("snapshot_root", (UNKNOWN, 0))[0].rstrip("/")
    if "rsync_long_args" in settings:
        insert, form = settings["rsync_long_args"][1], " {}"
    else:
        start = "" if source.endswith(b"\n") or not source else "\n"
        insert, form = len(source), f"{start}rsync_long_args\t{_LONG} {{}}\n"
    _run_scripts(job, scripts["cmd_preexec"])
    for number, fields in backups:
        options = _arguments(settings, fields)
        if not script.budget.take(len(options) + len(rules)):
            script.skip(f"line {number}: what follows is too long to be read")
            break
        heard = rsync.read(
            tuple(map(Word, (command, *_arguments(settings, fields, "--sparse"))))
        ).has("sparse")
        # rsnapshot makes each generation from the last by hard links
        words = [
            command,
            *options,
            *rules,
            "--link-dest=..",
            fields[0],
            f"{root}/{UNKNOWN}/{fields[1] if len(fields) > 1 else ''}",
        ]
        script.calls.append(
            Call(
                tuple(Word(word) for word in words),
                number,
                insert if heard else None,
                form,
            )
        )
    for name in ("backup_script", "backup_exec", "cmd_postexec"):
        _run_scripts(job, scripts[name])


def _run_scripts(job: _Reader, scripts: list[tuple[int, str]]) -> None:
    for number, text in scripts:
        job.shell().read(
            Text(text.encode("utf-8", errors="surrogateescape"), None, number)
        )


def _arguments(
    settings: dict[str, tuple[str, int]], fields: list[str], more: str = ""
) -> list[str]:
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


_READERS: dict[Format, Callable[[_Reader], None]] = {
    "cron": _cron,
    "crontab": lambda job: _cron(job, users=True),
    "anacrontab": _anacron,
    "unit": _unit,
    "rsnapshot": _rsnapshot,
    "shell": _shell,
    "other": _other,
}
