"""The files that backups are started from: cron tables, systemd units, rsnapshot.conf, shell scripts.

Each format is read by its own rules into the same commands; every word keeps its place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
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
    """Return the format of the file, by its place, its name, its first line; None for a systemd timer."""
    file = PurePosixPath(path)
    if file.suffix == ".timer":
        return None
    if file.suffix == ".service" or _SERVICE.search(source):
        return "unit"
    if language_of(source, path):
        return "other"
    if source.startswith(b"#!"):
        return "shell"
    # Debian's cron table is called rsnapshot too
    is_called_so = "rsnapshot" in file.name and file.suffix == ".conf"
    if is_called_so or _SNAPSHOT_ROOT.search(source):
        return "rsnapshot"
    if file.name == "anacrontab":
        return "anacrontab"
    if configs.is_one(path, source):
        return "other"
    lines = _lines_of_cron(source)
    if not lines or not all(map(_SCHEDULE.match, lines)):
        return "shell"
    return "crontab" if _has_user_field(file, lines) else "cron"


_SERVICE = re.compile(rb"^\[Service\]", re.MULTILINE)
_SNAPSHOT_ROOT = re.compile(rb"^snapshot_root\t", re.MULTILINE)


def _lines_of_cron(source: bytes) -> list[bytes]:
    """The lines that would be commands in a cron table."""
    lines = []
    for line in source.splitlines():
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        if not _CRON_VARIABLE.match(line):
            lines.append(line)
    return lines


def _has_user_field(path: PurePosixPath, lines: list[bytes]) -> bool:
    """True if the word after the schedule is a user.

    So in /etc/crontab and /etc/cron.d; elsewhere if it looks like one.
    """
    folder = path.parent.name
    if folder in ("cron.d", "etc"):
        return True
    if folder == "crontabs" or "cron" in path.parts:
        return False
    return all(map(_begins_with_user, lines))


def _begins_with_user(line: bytes) -> bool:
    """True if a user and a command with a path follow the schedule."""
    user, command, *_ = (*_SCHEDULE.sub(b"", line, count=1).split(), b"", b"")
    return _USER.fullmatch(user) is not None and b"/" in command


def read(path: str, source: bytes, files: Files | None = None) -> Script:
    """Return the commands in the file, and the parts not understood. Scripts that it starts are read from *files*."""
    script = Script()
    kind = format_of(path, source)
    if kind is None:
        script.skip(
            f"a timer names no command: declare {PurePosixPath(path).stem}.service"
        )
    else:
        _READERS[kind](_Reader(script, path, source, files or NoFiles()))
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
    """Yield each line that is not empty or a comment: its number, its offset, its text without the line's end."""
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
    """Return the byte of a cron table's line at which its command begins; None if it has none."""
    before = _SCHEDULE.match(line)
    if before and users:
        before = _ANY_USER.match(line, before.end())
    return before.end() if before else None


def beginning(path: str, source: bytes, line: int) -> tuple[int, Format] | None:
    """Return the byte before which a command of its own can stand, that runs before the job's command in *line*.

    In a shell script that is its begin, in a cron table the command's, in a unit of Type=oneshot the first
    ExecStartPre= or ExecStart=.
    None if there is no such place: rsnapshot, anacron, other units (a start has a limit of time).
    """
    kind = format_of(path, source)
    place = None
    if kind == "shell":
        place = _beginning_of_script(source)
    elif kind in ("cron", "crontab"):
        place = _beginning_in_cron(source, line, users=kind == "crontab")
    elif kind == "unit":
        place = _beginning_in_unit(source)
    if kind is None or place is None:
        return None
    return place, kind


def _beginning_of_script(source: bytes) -> int | None:
    if not source.startswith(b"#!"):
        return 0
    first = source.partition(b"\n")[0]
    if len(first) == len(source) or not _SHEBANG.match(first):
        return None
    return len(first) + 1


def _beginning_in_cron(source: bytes, line: int, *, users: bool) -> int | None:
    for number, offset, text in _lines(source):
        if number == line:
            start = _command_in(text, users=users)
            return None if start is None else offset + start
    return None


def _beginning_in_unit(source: bytes) -> int | None:
    if not _ONESHOT.search(source):
        return None
    if _NO_START_PRE.search(source):
        return None  # it takes back those before it
    # before those that are there: they may stop a guest, and then nothing trims it
    first = _START_PRE.search(source) or _START.search(source)
    return first.start() if first else None


_ONESHOT = re.compile(rb"^Type[ \t]*=[ \t]*oneshot[ \t]*\r?$", re.MULTILINE)
_NO_START_PRE = re.compile(rb"^ExecStartPre[ \t]*=[ \t]*\r?$", re.MULTILINE)
_START_PRE = re.compile(rb"^ExecStartPre[ \t]*=", re.MULTILINE)
_START = re.compile(rb"^ExecStart[ \t]*=", re.MULTILINE)


def _set_variable(variables: dict[str, str], line: bytes) -> None:
    """`NAME = value`: cron takes quotes off, and expands nothing."""
    name, _, value = line.decode("utf-8", errors="surrogateescape").partition("=")
    text = clean(value.strip())
    quote = text[:1]
    if quote in ("'", '"') and text.endswith(quote):
        text = text[1:-1]
    variables[name.strip()] = text


def _add_cron_command(
    job: _Reader, command: bytes, offset: int, number: int, variables: dict[str, str]
) -> None:
    """cron turns `\\%` into `%`, and text behind a bare % into standard input. Neither moves the text before it."""
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
        begin = start + len(key) + 1
        if name == "Environment":
            for word in _unit_words(source, begin, end, {}):
                variable, _, content = word.text.partition("=")
                variables[variable] = content
        elif name == "WorkingDirectory":
            folder = value.strip().decode("utf-8", errors="surrogateescape")
            variables["PWD"] = clean(folder)
        elif name in _EXEC and value.strip():
            commands[name].append((number, begin, end))
        elif name in _EXEC:
            commands[name].clear()  # an empty value takes back those before it
    for number, start, end in chain.from_iterable(commands.values()):
        words = _unit_words(source, start, end, variables)
        _add_unit_line(job, number, words, variables)


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
    first = words[0]
    prefix = re.match(r"[@\-:+!|]*", first.text)
    marks = prefix[0] if prefix else ""
    skipped = 1
    end = first.end
    if "@" in marks and len(words) > 1:
        skipped = 2
        end = words[1].end  # argv[0]: options come behind it
    start = first.start
    if end is None:
        start = None
    program = Word(first.text.removeprefix(marks), start, end)
    known = {}
    if "PWD" in variables:
        known["PWD"] = variables["PWD"]
    shell = job.shell(known)
    shell.text = Text(job.source)
    shell.take([program, *words[skipped:]], number)


def _logical_lines(source: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield lines with those that a backslash continues: number, start and end. Comments stand between them."""
    offset, begun = 0, None
    for number, line in enumerate(source.splitlines(keepends=True), start=1):
        start = offset
        offset += len(line)
        text = line.rstrip(b"\r\n")
        is_comment = text.lstrip().startswith((b"#", b";"))
        is_blank = is_comment or not text.strip()
        if is_blank and begun is None:
            continue
        first = begun or (number, start)
        goes_on = text.endswith(b"\\")
        if is_comment or goes_on:
            begun = first
            continue
        yield *first, start + len(text)
        begun = None
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
        lambda match: match[1] if match[1] in "\\'\" " else UNKNOWN,
        text,
        flags=re.DOTALL,
    )
    text = re.sub(r"%(.)", lambda match: "%" if match[1] == "%" else UNKNOWN, text)
    text = re.sub(
        r"\$\$|\$\{(\w+)\}",
        lambda match: variables.get(match[1], UNKNOWN) if match[1] else "$",
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
    script = job.script
    conf = _rsnapshot_conf(job)
    command = conf.settings.get("cmd_rsync", ("rsync", 0))[0]
    root = conf.settings.get("snapshot_root", (UNKNOWN, 0))[0].rstrip("/")
    insert, form = _place_of_options(conf.settings, job.source)
    _run_scripts(job, conf.scripts["cmd_preexec"])
    for number, fields in conf.backups:
        options = _arguments(conf.settings, fields)
        if not script.budget.take(len(options) + len(conf.rules)):
            script.skip(f"line {number}: the rest is too long to be read")
            break
        added = [command, *_arguments(conf.settings, fields, "--sparse")]
        heard = rsync.read(tuple(map(Word, added))).has("sparse")
        folder = "".join(fields[1:2])
        # rsnapshot makes each generation from the last by hard links
        words = [
            command,
            *options,
            *conf.rules,
            "--link-dest=..",
            fields[0],
            f"{root}/{UNKNOWN}/{folder}",
        ]
        place = insert if heard else None
        script.calls.append(Call(tuple(map(Word, words)), number, place, form))
    for name in ("backup_script", "backup_exec", "cmd_postexec"):
        _run_scripts(job, conf.scripts[name])


@dataclass
class _Conf:
    """The settings of one rsnapshot.conf: each value with the byte at which it ends."""

    settings: dict[str, tuple[str, int]] = field(default_factory=dict)
    backups: list[tuple[int, list[str]]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    scripts: dict[str, list[tuple[int, str]]] = field(
        default_factory=lambda: {name: [] for name in _RSNAPSHOT_RUNS}
    )


def _rsnapshot_conf(job: _Reader) -> _Conf:
    conf = _Conf()
    for number, offset, line in _lines(job.source):
        text = clean(line.decode("utf-8", errors="surrogateescape").strip())
        key, *values = re.split(r"\t+", text)
        if not values:
            job.script.skip(f"line {number}: no tab: rsnapshot would refuse it")
        elif key == "backup":
            conf.backups.append((number, values))
        elif key in _RSNAPSHOT_RUNS:
            conf.scripts[key].append((number, values[0]))
        elif key in _RULES:
            conf.rules.append(f"--{_RULES[key]}={values[0]}")
        elif key == "include_conf":
            job.script.skip(
                f"line {number}: it includes {values[0]}, which is not read"
            )
        else:
            conf.settings[key] = (values[0], offset + _end_of_value(line))
    return conf


def _place_of_options(
    settings: dict[str, tuple[str, int]], source: bytes
) -> tuple[int, str]:
    """The byte at which options for all calls of rsync go, and the form that they have there."""
    if "rsync_long_args" in settings:
        return settings["rsync_long_args"][1], " {}"
    start = "" if source.endswith(b"\n") or not source else "\n"
    return len(source), f"{start}rsync_long_args\t{_LONG} {{}}\n"


def _run_scripts(job: _Reader, scripts: list[tuple[int, str]]) -> None:
    for number, text in scripts:
        job.shell().read(
            Text(text.encode("utf-8", errors="surrogateescape"), None, number)
        )


def _arguments(
    settings: dict[str, tuple[str, int]], fields: list[str], more: str = ""
) -> list[str]:
    """Return the arguments of one `backup`.

    *more* comes after those of all: its own may come after them, or replace them.
    """
    long = settings.get("rsync_long_args", (_LONG, 0))[0]
    short = settings.get("rsync_short_args", (_SHORT, 0))[0]
    options = f"{short} {long} {more}"
    own = "".join(fields[2:3])
    for extra in own.split(","):
        key, _, value = extra.partition("=")
        name = key.lstrip("+")
        if name not in ("rsync_long_args", "rsync_short_args"):
            continue
        options = f"{options} {value}" if key.startswith("+") else value
    return options.split()


def _end_of_value(line: bytes) -> int:
    """Return the byte at which the first value of a line ends: rsnapshot takes no other for a setting."""
    value = re.match(rb"\s*[^\t]*\t+[^\t]*", line.rstrip())
    return value.end() if value else len(line.rstrip())


_READERS: dict[Format, Callable[[_Reader], None]] = {
    "cron": _cron,
    "crontab": lambda job: _cron(job, users=True),
    "anacrontab": _anacron,
    "unit": _unit,
    "rsnapshot": _rsnapshot,
    "shell": _shell,
    "other": _other,
}
