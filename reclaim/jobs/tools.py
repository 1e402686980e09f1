"""The steps of each command: of programs that copy, snapshot, stop guests. Nothing is run."""

from __future__ import annotations

import fnmatch
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from reclaim.base import masked
from reclaim.jobs import rsync, streams, virsh
from reclaim.jobs.calls import Call, Script, Unread
from reclaim.jobs.harmless import HARMLESS, NOT_JUDGED
from reclaim.jobs.steps import (
    Copy,
    Hold,
    NotUnderstood,
    Release,
    Snapshot,
    Step,
    Steps,
    Wait,
    Wrong,
)
from reclaim.jobs.words import (
    UNKNOWN,
    Word,
    absolute,
    is_sure,
    shown,
    texts_of,
    without_options,
)
from reclaim.jobs.wrappers import SHELLS, WRAPPERS

#: which units start and stop all guests
_ALL_GUESTS = re.compile(r"libvirt-guests(?:\.service|\.sh)?$")
_COPYING_UNIT = re.compile(
    r"back|copy|copies|sync|snap|borg|restic|btrbk|clone|mirror|dump|archiv",
    re.IGNORECASE,
)


def steps_of(script: Script) -> Steps:
    """Return the steps of a job in the order in which they run."""
    steps = Steps()
    unread = deque(sorted(script.unread, key=lambda part: part.index))
    pipes = streams.pipes(script.calls)
    taken: set[int] = set()
    for index, call in enumerate(script.calls):
        while unread and unread[0].index <= index:
            steps.all.append(_not_understood(unread.popleft()))
        if id(call) in taken:
            continue
        stream = streams.read(pipes.get(call.pipe) or [call], call)
        if stream is None:
            _add(steps, call)
            continue
        copy, used = stream
        taken.update(map(id, used))
        steps.all.append(copy)
        if call.name == "dd" and call not in used:
            _add(steps, call)
    steps.all += map(_not_understood, unread)
    return steps


def _not_understood(unread: Unread) -> NotUnderstood:
    return NotUnderstood(unread.text, unread.branch)


_CP_VALUED = "-t --target-directory -S --suffix"


def _add(steps: Steps, call: Call) -> None:
    if call.name == "cp" and _has_option(call, "l", "--link"):
        steps.links_generations = True
        steps.all += _linked(call, _operands(call, _CP_VALUED))
        return
    for step in _steps(call):
        seen = _seen_from_here(call, step)
        if seen is not None:
            steps.all.append(seen)


def _seen_from_here(call: Call, step: Step) -> Step | None:
    """The step of a call as far as it concerns this machine; None if it does not."""
    if not call.host:
        return step
    if isinstance(step, Release):
        return None
    if isinstance(step, Copy):
        text = f"{call.where}: it runs on {call.host}: {step.tool} there is not judged: audit that machine"
        return NotUnderstood(text, call.branch, may_hold=False)
    if isinstance(step, Hold) and not step.doubt:
        doubt = f"reclaim does not know whether {call.where} stops a guest of this machine: it runs on {call.host}"
        return replace(step, doubt=doubt)
    return step


def is_known(name: str) -> bool:
    """True if it is a program that is judged, or known to copy nothing."""
    for known in (_JUDGES, HARMLESS, NOT_JUDGED, WRAPPERS, SHELLS):
        if name in known:
            return True
    if rsync.is_called_so(name):
        return True
    if streams.is_filter(name):
        return True
    if _ALL_GUESTS.match(name):
        return True
    return re.match(r"python|perl|ruby|php", name) is not None


def _steps(call: Call) -> Iterator[Step]:
    program = call.words[0].text
    if not is_sure(program):
        text = f"{call.where}: only a run shows which program {shown(program)} is"
        yield NotUnderstood(f"{text}{_with_words(call)}", call.branch)
        return
    name = call.name
    judge = _judge_of(name)
    language = re.match(r"python|perl|ruby|php|node|lua", name)
    if judge is not None:
        yield from judge(call)
    elif _ALL_GUESTS.search(program):
        yield from _unit(call, call.texts[:1], [name])
    elif name in NOT_JUDGED:
        text = f"{call.where}: it runs {name}: {NOT_JUDGED[name]}"
        yield NotUnderstood(text, call.branch)
    elif language:
        yield from _other_language(call, language[0])
    elif name and not _copies_nothing(name):
        runs = shown(program)
        if call.host:
            runs += f" on {call.host}"
        text = f"{call.where}: it runs {runs}: reclaim does not know that program"
        yield NotUnderstood(text + _with_words(call), call.branch)


def _judge_of(name: str) -> Callable[[Call], Iterator[Step]] | None:
    if rsync.is_called_so(name):
        return _rsync
    return _JUDGES.get(name)


def _copies_nothing(name: str) -> bool:
    return name in HARMLESS or streams.is_filter(name)


def _with_words(call: Call) -> str:
    """The words of the command that are known to hold no secret."""
    if not call.texts:
        return ""
    words = shown(" ".join(call.texts))
    return f" ({masked.words(words)[:60]})"


_COPIES_BY_A_PROGRAM = re.compile(r"rsync|copy|shutil|qemu|system|subprocess|exec")


def _other_language(call: Call, language: str) -> Iterator[Step]:
    words = " ".join(call.texts)
    is_filter = not {"-c", "-e", "-ne", "-pe", "-lane"}.isdisjoint(call.texts)
    if is_filter and not _COPIES_BY_A_PROGRAM.search(words):
        return
    script = "".join(without_options(call.texts)[:1])
    name = language.capitalize()
    if language == "php":
        name = "PHP"
    yield NotUnderstood(
        f"{call.where}: it runs {shown(script)[:80]}, a program in {name}: reclaim reads shell",
        call.branch,
    )


# Words ----------------------------------------------------------------------------------------


def _is_option(text: str, short: str, long: str) -> bool:
    """True if *text* is *long*, or a bundle of letters with *short* in it."""
    if text.startswith("--"):
        return text.partition("=")[0] == long
    return text.startswith("-") and short in text[1:]


def _has_option(call: Call, short: str, long: str) -> bool:
    return any(_is_option(text, short, long) for text in call.texts)


def _operands(call: Call, valued: str = "") -> list[str]:
    """Return the words that are no options; *valued* are the options that take the next word."""
    operands: list[str] = []
    rest = list(call.texts)
    takes = valued.split()
    while rest:
        text = rest.pop(0)
        if text == "--":
            return operands + rest
        if not text.startswith("-") or text == "-":
            operands.append(text)
        elif text in takes and rest:
            rest.pop(0)
    return operands


def _paths(call: Call, texts: list[str]) -> tuple[str, ...]:
    """Return *texts* as absolute paths; one with a host before it stays."""
    return tuple(_path(call, text) for text in texts)


def _path(call: Call, text: str) -> str:
    if rsync.is_remote(text):
        return text
    return absolute(text, call.folder)


def _from_and_to(call: Call, operands: list[str]) -> tuple[tuple[str, ...], str]:
    """The paths of *operands* but for the last one, and that; "" if there is none."""
    paths = _paths(call, operands)
    return paths[:-1], "".join(paths[-1:])


def _value(texts: list[str], *names: str) -> str | None:
    """Return the value of an option that has several names."""
    for number, text in enumerate(texts):
        for name in names:
            if text == name and number + 1 < len(texts):
                return texts[number + 1]
            if _holds_value(text, name):
                return text[len(name) :].removeprefix("=")
    return None


def _holds_value(text: str, name: str) -> bool:
    """True for `--name=VALUE`, and for `-nVALUE` of an option of one letter."""
    if text.startswith(f"{name}="):
        return True
    is_letter = len(name) == 2
    return is_letter and len(text) > 2 and text.startswith(name)


def _why_not_read(call: Call) -> str:
    """Return why some of the words may be options that reclaim does not see, or ""."""
    if any(word.may_be_options for word in call.words[1:]):
        return "its options are put together when it runs"
    return ""


# Copies ---------------------------------------------------------------------------------------


def _rsync(call: Call) -> Iterator[Step]:
    line = rsync.read(call.words)
    if line.has("dry-run") or line.has("list-only"):
        return
    if not line.target and not line.doubtful:
        return
    target = ""
    if line.target:
        target = _path(call, line.target.text)
    yield Copy(
        call,
        "rsync",
        _paths(call, texts_of(line.sources)),
        target,
        rsync=line,
        reads_devices=line.has("copy-devices"),
        one_filesystem=line.has("one-file-system"),
        largest=line.largest,
        skips=line.leaves_out,
    )


def _cp(call: Call) -> Iterator[Step]:
    texts = call.texts
    if "--attributes-only" in texts:
        return
    operands = _operands(call, _CP_VALUED)
    into = _value(texts, "-t", "--target-directory")
    if into:
        operands = [*operands, into]
    sources, target = operands[:-1], "".join(operands[-1:])
    keeps_nodes = any(_has_option(call, *names) for names in _CP_KEEPS_NODES)
    target = _path(call, target)
    store = ""
    if len(operands) < 3 + bool(into):
        store = _why_not_read(call)
    yield Copy(
        call,
        "cp",
        _paths(call, sources),
        target,
        _wrong_with_cp(texts, sources, target, keeps_nodes=keeps_nodes),
        good="cp keeps the holes that the image has",
        store=store,
        reads_devices=not keeps_nodes,
        one_filesystem=_has_option(call, "x", "--one-file-system"),
        at_once=not {"--reflink", "--reflink=always"}.isdisjoint(texts),
    )


#: options of cp that copy a device as a node
_CP_KEEPS_NODES = (
    ("a", "--archive"),
    ("R", "--recursive"),
    ("r", "--recursive"),
    ("d", "--no-dereference"),
    ("P", "--no-dereference"),
)


def _wrong_with_cp(
    texts: list[str], sources: list[str], target: str, *, keeps_nodes: bool
) -> tuple[Wrong, ...]:
    if "--sparse=never" in texts:
        text = "cp --sparse=never writes every zero"
        return (Wrong(text, "drop --sparse=never"),)
    if keeps_nodes or "--sparse=always" in texts:
        return ()
    if rsync.is_device(target):
        return ()
    if not any(map(rsync.is_device, sources)):
        return ()
    text = "cp of a device writes every zero"
    return (Wrong(text, "add --sparse=always if the copy is a file"),)


_TAR_VALUED = "fCTXbgKNVHILF"


def _tar(call: Call) -> Iterator[Step]:
    line = _TarLine(call.folder)
    line.read(_with_hyphens(call.texts))
    if not line.creates:
        return
    wrong: tuple[Wrong, ...] = ()
    store = ""
    if not line.is_sparse:
        text = "tar without --sparse stores every zero of a sparse image"
        wrong = (Wrong(text, "add --sparse"),)
        store = _why_not_read(call)
    target = ""
    if line.target not in ("", "-"):
        target = _path(call, line.target)
    yield Copy(
        call,
        "tar",
        tuple(line.sources),
        target,
        wrong,
        good="tar --sparse",
        store=store,
        one_filesystem="--one-file-system" in line.long,
        skips=_exclusions(line.excluded, listed=line.listed),
    )


def _with_hyphens(texts: list[str]) -> list[str]:
    """The words of tar in the order of its options' values: `tar cfC FILE FOLDER` has these behind all letters."""
    bundle = "".join(texts[:1])
    if not re.fullmatch(r"[A-Za-z]+", bundle):
        return list(texts)
    letters = [letter for letter in bundle if letter in _TAR_VALUED]
    words = ["-" + re.sub(f"[{_TAR_VALUED}]", "", bundle)]
    for letter, value in zip(letters, texts[1:], strict=False):
        words += [f"-{letter}", value]
    return words + texts[1 + len(letters) :]


@dataclass
class _TarLine:
    """The options of one tar, and the files that it is given."""

    folder: str
    sources: list[str] = field(default_factory=list)
    letters: str = ""
    long: list[str] = field(default_factory=list)
    target: str = ""
    excluded: list[str] = field(default_factory=list)
    #: files or patterns are read from a list
    listed: bool = False

    @property
    def creates(self) -> bool:
        if not {"--create", "--append", "--update"}.isdisjoint(self.long):
            return True
        return not set("cru").isdisjoint(self.letters)

    @property
    def is_sparse(self) -> bool:
        return "--sparse" in self.long or "S" in self.letters

    def read(self, words: list[str]) -> None:
        rest = list(words)
        while rest:
            text = rest.pop(0)
            if text.startswith("--"):
                self._read_long(text, rest)
            elif text.startswith("-") and len(text) > 1:
                self._read_letters(text[1:], rest)
            else:
                self.sources.append(absolute(text, self.folder))

    def _read_long(self, text: str, rest: list[str]) -> None:
        name, separator, value = text.partition("=")
        if name in _TAR_LONG and not separator and rest:
            value = rest.pop(0)
        self.long.append(name)
        self._set(_TAR_LONG.get(name, ""), value)

    def _read_letters(self, bundle: str, rest: list[str]) -> None:
        for number, letter in enumerate(bundle):
            self.letters += letter
            if letter not in _TAR_VALUED:
                continue
            value = bundle[number + 1 :]
            if not value and rest:
                value = rest.pop(0)
            self._set(letter, value)
            return

    def _set(self, option: str, value: str) -> None:
        match option:
            case "C":
                self.folder = absolute(value, self.folder)
            case "f":
                self.target = value
            case "x":
                self.excluded.append(value)
            case "X":
                self.listed = True
            case "T":
                self.listed = True
                self.sources.append(UNKNOWN)


_TAR_LONG = {
    "--file": "f", "--directory": "C", "--exclude": "x", "--exclude-from": "X", "--files-from": "T",
    "--listed-incremental": "", "--newer": "", "--transform": "", "--use-compress-program": "", "--rsh-command": "",
    "--blocking-factor": "", "--owner": "", "--group": "", "--mode": "", "--mtime": "", "--label": "", "--format": "",
    "--exclude-tag": "", "--level": "", "--warning": "", "--checkpoint-action": "",
}  # fmt: skip


def _exclusions(
    patterns: list[str], *, listed: bool
) -> Callable[[str, str], bool | None]:
    sure = [pattern.rstrip("/") for pattern in filter(is_sure, patterns)]
    otherwise: bool | None = False
    if listed or len(sure) != len(patterns):
        otherwise = None

    def skips(source: str, path: str) -> bool | None:
        for pattern in sure:
            if _tar_excludes(pattern, path):
                return True
        return otherwise

    return skips


def _tar_excludes(pattern: str, path: str) -> bool:
    """By tar's manual, "Controlling Pattern-Matching": any run of names in the path may match, and * a slash too."""
    names = path.split("/")
    for end in range(1, len(names) + 1):
        for start in range(end):
            run = "/".join(names[start:end])
            if fnmatch.fnmatchcase(run, pattern):
                return True
    return False


def _dd(call: Call) -> Iterator[Step]:
    values = streams.settings(call)
    if "if" not in values and call.stdin is None:
        return
    source = values.get("if") or _text_of(call.stdin, UNKNOWN)
    target = values.get("of") or _text_of(call.stdout, "")
    if target == "/dev/null" or streams.is_a_part(call):
        return
    if target:
        target = absolute(target, call.folder)
    conversions = values.get("conv", "")
    yield dd_copy(call, _paths(call, [source]), target, conversions)


def _text_of(word: Word | None, otherwise: str) -> str:
    if word is None:
        return otherwise
    return word.text


def dd_copy(call: Call, sources: tuple[str, ...], target: str, conv: str) -> Copy:
    """A device has no holes: on one dd's `sparse` would leave the earlier bytes."""
    conversions = conv.split(",")
    sparse = "sparse" in conversions
    good, store = "dd conv=sparse", ""
    wrong: tuple[Wrong, ...] = ()
    if rsync.is_device(target):
        good = "dd onto a device, which has no holes"
        if sparse:
            text = "dd conv=sparse onto a device does not overwrite older data there with the zeros of the image"
            wrong = (Wrong(text, "drop conv=sparse"),)
    elif sparse:
        if "notrunc" in conversions:
            advice = "drop notrunc, and write to a new file"
            wrong = (Wrong(streams.SEEKS_OVER, advice),)
    elif not is_sure(target[:1] or UNKNOWN):
        store = "only a run shows whether it writes a file, and every zero into it"
    elif target != "/dev/null":
        text = "dd without conv=sparse writes every zero"
        wrong = (Wrong(text, "add conv=sparse, and write to a new file"),)
    return Copy(call, "dd", sources, target, wrong, good, store, reads_devices=True)


def _qemu_img(call: Call) -> Iterator[Step]:
    texts = call.texts
    command = "".join(texts[:1])
    if command == "dd":
        text = "qemu-img dd: reclaim does not judge whether it leaves zeros out"
        yield NotUnderstood(f"{call.where}: {text}", call.branch)
    if command != "convert":
        return
    sources, target = _from_and_to(call, _operands(call, _QEMU_IMG_VALUED)[1:])
    shares = "-U" in texts or "--force-share" in texts
    tool = "qemu-img convert"
    good = "qemu-img convert leaves zeros out"
    if shares:
        tool += " -U"
    else:
        good += ", and a running guest locks it out"
    yield Copy(
        call,
        tool,
        sources,
        target,
        _wrong_with_convert(texts, target),
        good,
        store=_why_not_read(call),
        reads_devices=True,
        locks=not shares,
    )


_QEMU_IMG_VALUED = (
    "-f -F -O -o -S -B -b -m -r -T -t -l --object --image-opts --source-format "
    "--target-format --options"
)


def _wrong_with_convert(texts: list[str], target: str) -> tuple[Wrong, ...]:
    wrong = []
    if "-S0" in texts or ("-S", "0") in pairwise(texts):
        wrong.append(Wrong("qemu-img convert -S 0 allocates every zero", "drop -S 0"))
    filled = re.search(r"preallocation=(full|falloc)", _convert_options(texts))
    if filled and not rsync.is_device(target):
        text = f"qemu-img convert -o preallocation={filled[1]} allocates the whole copy"
        wrong.append(Wrong(text, f"drop preallocation={filled[1]}"))
    return tuple(wrong)


def _convert_options(texts: list[str]) -> str:
    """The values of all -o."""
    values = []
    for option, value in pairwise(texts):
        if option in ("-o", "--options"):
            values.append(value)
    for text in texts:
        if text.startswith("-o"):
            values.append(text[2:])
    return ",".join(values)


def _virt_sparsify(call: Call) -> Iterator[Step]:
    operands = _operands(
        call,
        "--convert --format --option -o --tmp --compress-level --key --ignore --zero",
    )
    if "--in-place" in call.texts or len(operands) < 2:
        return
    sources, target = _from_and_to(call, operands)
    yield Copy(
        call,
        "virt-sparsify",
        sources,
        target,
        good="virt-sparsify leaves zeros out",
        reads_devices=True,
    )


def _virt_clone(call: Call) -> Iterator[Step]:
    wrong: tuple[Wrong, ...] = ()
    if "--nonsparse" in call.texts:
        text = "virt-clone --nonsparse writes every zero"
        wrong = (Wrong(text, "drop --nonsparse"),)
    yield Copy(
        call,
        "virt-clone",
        (),
        _value(call.texts, "-f", "--file") or "",
        wrong,
        good="virt-clone leaves zeros out, and requires that the guest is off",
        locks=True,
        of_guest=_value(call.texts, "-o", "--original") or UNKNOWN,
    )


def _virtnbdbackup(call: Call) -> Iterator[Step]:
    texts = call.texts
    wrong: tuple[Wrong, ...] = ()
    if _value(texts, "-t", "--type") == "raw":
        text = "virtnbdbackup --type raw writes the whole disk; its own type, stream, holds data alone"
        wrong = (Wrong(text, "drop --type raw"),)
    yield Copy(
        call,
        "virtnbdbackup",
        (),
        wrong=wrong,
        good="virtnbdbackup: the stream holds data alone",
        at_once=True,
        of_guest=_value(texts, "-d", "--domain") or UNKNOWN,
    )


def _scp(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-P -i -l -c -F -o -J -S -D -X")
    sources, target = _from_and_to(call, operands)
    text = "scp writes every zero: the copy is as large as the disk"
    wrong = (Wrong(text, "use rsync --sparse in its place"),)
    yield Copy(call, "scp", sources, target, wrong)


def _mv(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-t -S --suffix")
    sources, target = _from_and_to(call, operands)
    for source in sources:
        yield Snapshot(call, source, target)
    yield Copy(call, "mv", sources, target, store="it moves the image itself")


def _store(
    name: str, command: str, restore: str, valued: str = "", skip: int = 0
) -> Callable[[Call], Iterator[Step]]:
    """A store that keeps each content once: zeros take nothing in it, and the restore decides about holes."""

    def judge(call: Call) -> Iterator[Step]:
        texts = call.texts
        if command and command not in texts:
            return
        operands = [text for text in _operands(call, valued) if text != command]
        listed = any(text.startswith(_EXCLUDES) for text in texts)
        yield Copy(
            call,
            name,
            _paths(call, operands[skip:]),
            store=restore,
            reads_devices="--read-special" in texts,
            one_filesystem=not {"-x", "--one-file-system"}.isdisjoint(texts),
            skips=_exclusions([], listed=listed),
        )

    return judge


#: options by which stores leave files out
_EXCLUDES = (
    "-e",
    "--exclude",
    "--pattern",
    "--iexclude",
    "--filter",
    "--include",
    "-x",
)


def _once(name: str, restore: str) -> str:
    return (
        f"{name} keeps each content once, so zeros take nothing there; "
        f"the restore decides whether it is sparse: {restore}"
    )


def _rclone(call: Call) -> Iterator[Step]:
    commands = {"copy", "sync", "move", "copyto", "moveto", "bisync"}
    if commands.isdisjoint(call.texts[:3]):
        return
    valued = (
        "--config --transfers --bwlimit --log-file --exclude --include --filter --max-age "
        "--checkers --log-level --backup-dir --suffix"
    )
    operands = _operands(call, valued)[1:]
    yield Copy(
        call,
        "rclone",
        _paths(call, operands[:1]),
        "",
        store="reclaim does not judge how rclone's far end keeps zeros",
    )


def _uploads(call: Call) -> Iterator[Step]:
    """curl and the like, if they send a file."""
    sent = []
    uploaded = _value(call.texts, "-T", "--upload-file")
    if uploaded:
        sent.append(uploaded)
    for text in call.texts:
        if text.startswith("@") or "=@" in text:
            sent.append(text.partition("@")[2])
    if sent:
        yield Copy(
            call,
            call.name,
            _paths(call, sent),
            store="reclaim does not judge how the far end keeps it",
        )


def _far(call: Call) -> Iterator[Step]:
    operands = _operands(call)
    yield Copy(
        call,
        call.name,
        _paths(call, operands),
        store="reclaim does not judge how the far end keeps zeros",
    )


def _archive(call: Call) -> Iterator[Step]:
    operands = _operands(call)
    skip = 1
    if call.name.startswith("7z"):
        skip = 2
        if operands[:1] not in (["a"], ["u"]):
            return
    yield Copy(
        call,
        call.name,
        _paths(call, operands[skip:]),
        store=streams.COMPRESSED,
        reads_devices=True,
    )


# Snapshots ------------------------------------------------------------------------------------


_LVM_SNAPSHOT = re.compile(r"-s\w*|--snapshot")
_LVCREATE_VALUED = (
    "-L -l -n -c -p -k -I -i -r -t -T -V --size --extents --name --chunksize "
    "--permission --thinpool --type"
)


def _lvcreate(call: Call) -> Iterator[Step]:
    texts = call.texts
    if not any(map(_LVM_SNAPSHOT.fullmatch, texts)):
        return
    operands = _operands(call, _LVCREATE_VALUED)
    name = _value(texts, "-n", "--name") or ""
    origin = "".join(operands[-1:]).removeprefix("/dev/")
    if not origin or not name:
        text = "lvcreate: reclaim does not know the volume of the snapshot"
        yield NotUnderstood(f"{call.where}: {text}", call.branch)
        return
    named = name
    if "/" in origin:
        named = origin.removeprefix("mapper/")
    group = named.partition("/")[0]
    short = name.rpartition("/")[2]
    yield Snapshot(call, f"/dev/{origin}", f"/dev/{group}/{short}")


def _mount(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-o -t --options --types -O -L -U")
    if len(operands) == 2:
        yield _other_name(call, operands)


def _other_name(call: Call, operands: list[str]) -> Snapshot:
    """The second is another name of the first."""
    origin, path = _paths(call, operands)
    return Snapshot(call, origin, path, still=False)


def _ln(call: Call) -> Iterator[Step]:
    """Links: to their folder they are given, or by the name itself."""
    yield from _linked(call, _operands(call, "-S --suffix"))


def _linked(call: Call, operands: list[str]) -> Iterator[Step]:
    if len(operands) < 2:
        return
    *origins, path = operands
    for origin in origins:
        yield _other_name(call, [origin, _inside(path, origin)])
    if len(origins) == 1:
        yield _other_name(call, [origins[0], path])


def _inside(folder: str, path: str) -> str:
    """The last name of *path* in *folder*."""
    name = path.rstrip("/").rpartition("/")[2]
    return f"{folder.rstrip('/')}/{name}"


def _qemu_nbd(call: Call) -> Iterator[Step]:
    """`qemu-nbd --connect=DEVICE IMAGE`: the device has the content of the image."""
    device = _value(call.texts, "-c", "--connect")
    operands = _operands(
        call, "-c --connect -f --format -o -P -b -p -x -t -B --cache --aio --discard"
    )
    if device and operands:
        yield _other_name(call, [operands[-1], device])


def _losetup(call: Call) -> Iterator[Step]:
    operands = _operands(
        call, "-o --offset --sizelimit -b --sector-size -j --associated -d --detach"
    )
    if len(operands) == 2:
        yield _other_name(call, operands[::-1])


def _btrfs(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-p -c -f -i")
    command = " ".join(operands[:2])
    if re.fullmatch(r"sub(?:volume)? snap(?:shot)?", command):
        paths = _paths(call, operands[2:4])
        if len(paths) == 2:
            origin, path = paths
            yield Snapshot(call, origin, path)
            yield Snapshot(call, origin, _inside(path, origin))
    elif operands[:1] == ["send"]:
        sources = _paths(call, operands[1:])
        text = "btrfs send sends a snapshot; reclaim does not judge whether holes survive there"
        yield Copy(call, "btrfs send", sources, store=text, at_once=True)


def _zfs(call: Call) -> Iterator[Step]:
    if call.texts[:1] == ["send"]:
        text = "zfs send sends a snapshot as it is; reclaim does not know whether images lie on it"
        yield Copy(call, "zfs send", (UNKNOWN,), store=text, at_once=True)


# Guests that are stopped ----------------------------------------------------------------------


def _systemctl(call: Call) -> Iterator[Step]:
    operands = _operands(call, "-H -M -p -t --host --machine")
    yield from _unit(call, operands[:1], operands[1:])


def _service(call: Call) -> Iterator[Step]:
    operands = _operands(call)
    yield from _unit(call, operands[1:2], operands[:1])


def _unit(call: Call, action: list[str], units: list[str]) -> Iterator[Step]:
    verb = "".join(action)
    starts = verb in ("start", "restart")
    if any(map(_ALL_GUESTS.search, units)):
        if verb == "stop":
            yield Hold(call, (), "run")
        if starts:
            yield Release(call, (), ("run",))
        return
    if not starts:
        return
    for unit in units:
        may_copy = _COPYING_UNIT.search(unit) or not is_sure(unit)
        if may_copy:
            text = f"{call.where}: it starts {shown(unit)}: declare that as the job"
            yield NotUnderstood(text, call.branch)


def _freeze(call: Call) -> Iterator[Step]:
    """fsfreeze(8), xfs_freeze(8): the host's filesystem, at a mount point."""
    paths = _paths(call, _operands(call))
    options = set(call.texts)
    if paths and options & {"-f", "--freeze"}:
        yield Hold(call, (), "frozen", path=paths[-1])
    elif options & {"-u", "--unfreeze"}:
        yield Release(call, (), ("frozen",))


def _poweroff(call: Call) -> Iterator[Step]:
    """On another machine: that may be the guest."""
    if call.host:
        doubt = f"reclaim does not know whether {call.host} is the guest that is shut down there"
        yield Hold(call, (), "run", doubt, path="/")


def _kill(call: Call) -> Iterator[Step]:
    """A signal can stop QEMU as it can any process."""
    signals = {text.lstrip("-").upper().removeprefix("SIG") for text in call.texts}
    if signals & {"STOP", "TSTP", "19"}:
        yield Hold(
            call,
            (),
            "run",
            f"reclaim does not know whether {call.where} stops the guests",
        )
    elif signals & {"CONT", "18"}:
        yield Release(call, (), ("run",))


def _wait(call: Call) -> Iterator[Step]:
    yield Wait(call)


_JUDGES: dict[str, Callable[[Call], Iterator[Step]]] = {
    "rsync": _rsync,
    "cp": _cp,
    "tar": _tar,
    "gtar": _tar,
    "dd": _dd,
    "qemu-img": _qemu_img,
    "virt-sparsify": _virt_sparsify,
    "virt-clone": _virt_clone,
    "virtnbdbackup": _virtnbdbackup,
    "virsh": virsh.steps,
    "scp": _scp,
    "mv": _mv,
    "borg": _store("borg", "create", _once("borg", "borg extract --sparse"),
                   "-C --compression -e --exclude --comment -c --checkpoint-interval --exclude-from "
                   "--patterns-from --pattern --lock-wait --remote-path --rsh --umask --files-cache", 1),
    "restic": _store("restic", "backup", _once("restic", "restic restore --sparse (since 0.15)"),
                     "-r --repo -p --password-file --tag --host -H -e --exclude --exclude-file --iexclude -o --option "
                     "--files-from --limit-upload --cache-dir --parent --compression"),
    "rustic": _store("rustic", "backup", _once("rustic", "rustic restore --sparse")),
    "kopia": _store("kopia", "create", _once("kopia", "kopia restore --write-sparse-files")),
    "bupstash": _store("bupstash", "put", _once("bupstash", "it writes files whole")),
    "bup": _store("bup", "save", _once("bup", "bup restore --sparse")),
    "duplicity": _store("duplicity", "", "duplicity keeps volumes of tar: reclaim does not judge how it keeps holes"),
    "duply": _store("duply", "", "it runs duplicity by a profile of its own, which is not read"),
    "rdiff-backup": _store("rdiff-backup", "", "reclaim does not judge how rdiff-backup's mirror keeps holes"),
    "proxmox-backup-client": _store("proxmox-backup-client", "backup", _once("it", "the restore writes a raw image")),
    "rclone": _rclone,
    "curl": _uploads,
    "wget": _uploads,
    **dict.fromkeys(("aws", "s3cmd", "gsutil", "mc", "az", "b2", "s5cmd", "minio"), _far),
    **dict.fromkeys(("7z", "7za", "7zr", "zip", "rar"), _archive),
    "lvcreate": _lvcreate,
    "mount": _mount,
    "ln": _ln,
    "qemu-nbd": _qemu_nbd,
    "losetup": _losetup,
    "btrfs": _btrfs,
    "zfs": _zfs,
    "systemctl": _systemctl,
    "service": _service,
    "fsfreeze": _freeze,
    "xfs_freeze": _freeze,
    "shutdown": _poweroff,
    "poweroff": _poweroff,
    "halt": _poweroff,
    "wait": _wait,
    **dict.fromkeys(("kill", "pkill", "killall"), _kill),
}  # fmt: skip
