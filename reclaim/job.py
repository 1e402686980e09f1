"""A job that makes backups, as declared in the inventory: what it runs, and whether its copies stay sparse."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from reclaim import btrfs, jobfile, localfile, rsync
from reclaim.errors import NotAssessable, ProbeError
from reclaim.inventory import BackupNotes
from reclaim.shell import UNKNOWN, Call, Script, Word
from reclaim.text import printable

if TYPE_CHECKING:
    from reclaim.hypervisor import Hypervisor

#: bytes of a job's file that are read; a larger one is no cron line, unit or script
_MOST_BYTES = 512 * 1024
#: commands after which what is copied holds still: (command, one of its words), any word where it is empty
_HOLDS_STILL = (
    (
        "virsh",
        ("backup-begin", "snapshot-create", "snapshot-create-as", "shutdown", "destroy", "suspend", "managedsave"),
    ),
    ("virtnbdbackup", ()),
    ("lvcreate", ("-s", "--snapshot")),
    ("btrfs", ("snapshot",)),
    ("zfs", ("snapshot",)),
    ("xfs_freeze", ()),
)

#: folders of programs that root runs anyway
_OF_THE_SYSTEM = tuple(f"{above}/{name}" for above in ("", "/usr", "/usr/local") for name in ("bin", "sbin"))


@dataclass(frozen=True)
class Edit:
    """Bytes start..end of the job's file become *text*."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and the edits that mend it; none where `by_hand` says what to do."""

    line: int
    text: str
    edits: tuple[Edit, ...] = ()
    by_hand: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {printable(self.text)}"


@dataclass
class Assessment:
    """What a job's commands come to: findings, what is in order, and what cannot be told."""

    findings: list[Finding] = field(default_factory=list)
    good: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Job:
    """One declared job: a file on the hypervisor."""

    hypervisor: Hypervisor
    path: str
    notes: tuple[BackupNotes, ...]

    def source(self) -> bytes:
        """The file as it is now. Raises ProbeError, NotAssessable for what is too large to be a job."""
        data = localfile.read(self.path, _MOST_BYTES + 1) if self.hypervisor.is_local else self._read_by_shell()
        if len(data) > _MOST_BYTES:
            raise NotAssessable(f"{self.path}: more than {_MOST_BYTES} bytes: no cron table, unit or script")
        if b"\0" in data:
            raise NotAssessable(f"{self.path}: a program, not a text that could be read")
        return data

    @property
    def left(self) -> list[str]:
        """What an edit of a run that died left beside the file; on this machine alone, where edits are made beside."""
        return localfile.left_beside(self.path) if self.hypervisor.is_local else []

    def _read_by_shell(self) -> bytes:
        command = "test -f %s && head -c %s -- %s | base64 -w 0"
        result = self.hypervisor.shell.run(command, self.path, str(_MOST_BYTES + 1), self.path)
        if result.rc != 0 or result.stderr.strip():
            words = " ".join(result.stderr.split()) or "no such file"
            raise ProbeError(f"{self.path}: {words.rpartition(': ')[2]}")
        try:
            return base64.b64decode(result.stdout, validate=True)
        except binascii.Error as exc:
            raise ProbeError(f"{self.path}: it cannot be read") from exc

    def assess(self) -> Assessment:
        """Read the file, find what copies images, judge each command. Raises ProbeError, NotAssessable."""
        source = self.source()
        script = jobfile.read(self.path, source)
        kind = jobfile.format_of(self.path, source)
        found = Assessment(unclear=[printable(text) for text in script.unclear])
        context = _Context(self, script, is_rsnapshot=kind == "rsnapshot")
        for call in script.calls:
            judge = _JUDGES.get(call.name)
            if judge is not None:
                judge(call, context, found)
            elif hidden := next((word for word in call.words[1:] if word.text.rpartition("/")[2] == "rsync"), None):
                if call.name in _RUNNERS:
                    found.unclear.append(f"line {call.line}: {hidden.text} is run by {call.name}: not judged")
        return found


_RUNNERS = ("find", "xargs", "parallel", "ssh", "docker", "podman", "su", "runuser", "eval", "trap", "watch")


def declared(hypervisor: Hypervisor, notes: Iterable[BackupNotes]) -> list[Job]:
    """Every declared job once, with all that is said about it."""
    by_path: dict[str, list[BackupNotes]] = {}
    for one in notes:
        if one.job is not None:
            by_path.setdefault(str(one.job), []).append(one)
    return [Job(hypervisor, path, tuple(said)) for path, said in by_path.items()]


def edited(source: bytes, findings: Iterable[Finding]) -> bytes:
    """*source* with the edits of *findings*, each place once; from the end, so that offsets hold."""
    places: dict[tuple[int, int], list[str]] = {}
    for finding in findings:
        for edit in finding.edits:
            texts = places.setdefault((edit.start, edit.end), [])
            if edit.text not in texts:
                texts.append(edit.text)
    for (start, end), texts in sorted(places.items(), reverse=True):
        source = source[:start] + "".join(texts).encode() + source[end:]
    return source


# What the commands are judged against ---------------------------------------------------------


@dataclass(frozen=True)
class _Image:
    """An image that could be copied; `running` names the guest that writes to it now."""

    path: str
    running: str | None


@dataclass
class _Context:
    """The machine and the rest of the job around one command."""

    job: Job
    script: Script
    is_rsnapshot: bool

    @cached_property
    def images(self) -> list[_Image]:
        found = [_Image(path, None) for notes in self.job.notes for path in notes.images]
        for guest in self.job.hypervisor.guests:
            for definition in (guest.live, guest.persistent if guest.is_persistent else None):
                for disk in definition.disks if definition else ():
                    if disk.path and not any(disk.path == one.path and one.running for one in found):
                        running = guest.name if definition is guest.live and not disk.readonly else None
                        found.append(_Image(disk.path, running))
        return found

    @cached_property
    def holds_still(self) -> bool:
        """Does the job take a snapshot, or stop or freeze the guest?"""
        for name, words in _HOLDS_STILL:
            for call in self.script.calls:
                texts = {word.text for word in call.words[1:]}
                if call.name == name and (not words or texts.intersection(words)):
                    return True
        return False

    @cached_property
    def links_generations(self) -> bool:
        """Are earlier copies hard links to the one that is written? So with rsnapshot, and after cp --link."""
        return self.is_rsnapshot or any(
            call.name == "cp" and any(_is_option(word.text, "l", "--link") for word in call.words[1:])
            for call in self.script.calls
        )

    def copied(self, sources: list[Word]) -> tuple[list[_Image], bool]:
        """The images that lie below *sources*, and whether there may be others that cannot be told."""
        images = [one for one in self.images if any(_holds(word.text, one.path) for word in sources)]
        doubt = not self.images or any(not word.is_sure or ":" in word.text.partition("/")[0] for word in sources)
        return images, doubt

    def rsync_version(self, command: str) -> rsync.Version | None:
        """None also where it is not the system's own: a job may be a user's, whose programs root does not run."""
        folder = command.rpartition("/")[0]
        if "/" in command and folder not in _OF_THE_SYSTEM:
            return None
        return rsync.version(self.job.hypervisor.shell.run("%s --version", command).stdout)

    def snapshots(self, target: Word) -> str | None:
        """Why the target shares blocks with snapshots, or None where it does not or that cannot be told."""
        said = [notes.snapshots for notes in self.job.notes if notes.snapshots is not None]
        if said:
            return "the target keeps snapshots (inventory)" if any(said) else None
        path = target.text.partition(UNKNOWN)[0].rpartition("/")[0] or "/"
        if not target.text.startswith("/"):
            return None
        shell = self.job.hypervisor.shell
        if btrfs.mount_of(shell, path)[0] != "btrfs":
            return None
        names = btrfs.snapshots(shell, target.text if target.is_sure else path)
        return f"the target is on btrfs with snapshots ({', '.join(map(printable, names[:3]))})" if names else None


def _holds(source: str, path: str) -> bool:
    """Is *path* at or below *source*, which may be a pattern?"""
    if UNKNOWN in source or not source.startswith("/"):
        return False
    source = posixpath.normpath(source)  # "/srv/images/." is that folder
    return path == source or path.startswith(source.rstrip("/") + "/") or _fits(path, source)


def _fits(path: str, pattern: str) -> bool:
    ours, theirs = path.split("/"), pattern.split("/")
    return len(ours) >= len(theirs) and all(map(fnmatch.fnmatchcase, ours, theirs))


def _is_option(text: str, short: str, long: str) -> bool:
    """Is it *long*, or a bundle of letters with *short* in it?"""
    if text.startswith("--"):
        return text == long
    return text.startswith("-") and short in text[1:]


# The judges -----------------------------------------------------------------------------------


def _rsync(call: Call, context: _Context, found: Assessment) -> None:
    line = rsync.read(call.words)
    held, doubt = context.copied(line.sources)
    if not line.paths or line.has("dry-run"):
        return
    ways = [
        (one, {line.leaves_out(at.text, one.path) for at in line.sources if _holds(at.text, one.path)}) for one in held
    ]
    images = [one for one, left_out in ways if False in left_out]
    if held and not images and not doubt:
        if any(None in left_out for _, left_out in ways):
            found.unclear.append(
                f"line {call.line}: rsync: whether its filter rules leave out the images is not judged"
            )
        return
    if not images and not doubt and not context.is_rsnapshot:
        return  # it copies something else
    before = len(found.findings)
    sure = not line.doubtful
    if not sure:
        found.unclear.append(f"line {call.line}: rsync: its options are put together when it runs")
    elif not line.has("sparse"):
        text = "rsync without --sparse writes every zero: the copy is as large as the disk"
        if line.has("inplace") and (not line.is_local or context.rsync_version(call.words[0].text) is None):
            # together they are safe from 3.3.0 on, and which rsync writes there nobody has seen
            hand = "add --sparse where the rsync that writes is 3.3.0 or newer, else put it in the place of --inplace"
            found.findings.append(Finding(call.line, text, by_hand=hand))
        else:
            _finding(call, found, text, add=["--sparse"], drop=[line.options.get("no-sparse")])
    _judge_inplace(call, line, context, found)
    _judge_torn(call, images, context, found, "rsync")
    if len(found.findings) == before and sure:
        words = " ".join(f"--{name}" for name in ("sparse", "inplace", "no-whole-file") if line.has(name))
        found.good.append(f"line {call.line}: rsync {words}")


def _judge_inplace(call: Call, line: rsync.Line, context: _Context, found: Assessment) -> None:
    """--inplace is unsafe with --sparse before 3.3.0, ruins hard-linked generations, and snapshots need it."""
    target = line.target
    snapshots = context.snapshots(target) if target is not None and line.is_local else None
    version = context.rsync_version(call.words[0].text) if line.is_local else None
    shown = "rsync " + ".".join(map(str, version)) if version else "an rsync whose version cannot be told"
    drop = [line.options.get("inplace")]
    if line.has("inplace") and context.links_generations:
        _finding(call, found, "rsync --inplace writes through the hard links into every earlier copy", drop=drop)
    elif line.has("inplace") and not line.is_local:
        found.unclear.append(f"line {call.line}: rsync --inplace with --sparse needs rsync 3.3.0 at the other end")
    elif line.has("inplace") and version is None:
        found.unclear.append(f"line {call.line}: rsync --inplace with --sparse needs rsync 3.3.0, and this is {shown}")
    elif line.has("inplace") and version and version < rsync.SAFE:
        why = "refuses --sparse with --inplace" if version < rsync.TOGETHER else (
            "can leave other data in the copy with --sparse --inplace (mended in 3.3.0)"
        )  # fmt: skip
        hand = " until rsync is 3.3.0 or newer each snapshot takes the whole copy" if snapshots else ""
        _finding(call, found, f"{shown} {why};{hand or ' without --inplace it is safe'}", drop=drop)
    elif snapshots and not (
        line.keeps_unchanged_blocks or line.doubtful or context.links_generations or line.has("link-dest")
    ):
        if version is None or version < rsync.SAFE:
            found.good.append(
                f"{snapshots}, which share nothing with a replaced copy: rsync 3.3.0 could (here {shown})"
            )
            return
        text = f"{snapshots}: a copy that is written whole shares nothing with them"
        if refused := [f"--{name}" for name in ("partial-dir", "delay-updates") if line.has(name)]:
            hand = f"put --inplace --no-whole-file in the place of {' and '.join(refused)}: rsync refuses them together"
            found.findings.append(Finding(call.line, text, by_hand=hand))
            return
        add = [option for option in ("--inplace", "--no-whole-file") if not line.has(option[2:])]
        _finding(call, found, text, add=add, drop=[line.options.get("whole-file")])


def _finding(
    call: Call, found: Assessment, text: str, *, add: Iterable[str] = (), drop: Iterable[Word | None] = ()
) -> None:
    """A finding that is mended by options added to and words dropped from the call."""
    edits = []
    for option in add:
        if call.insert is None:
            found.findings.append(Finding(call.line, text, by_hand=f"add {' '.join(add)} there by hand"))
            return
        edits.append(Edit(call.insert, call.insert, call.form.format(option)))
    for word in filter(None, drop):
        if word.start is None or word.end is None or not word.text.startswith("--"):
            found.findings.append(Finding(call.line, text, by_hand=f"take {word.text} out where it is set"))
            return
        edits.append(Edit(word.start - 1, word.end, ""))
    found.findings.append(Finding(call.line, text, tuple(edits)))


def _judge_torn(call: Call, images: list[_Image], context: _Context, found: Assessment, name: str) -> None:
    running = list(dict.fromkeys(one.running for one in images if one.running))
    if running and not context.holds_still:
        text = f"{name} copies the images of running guests while they are written to ({', '.join(running[:3])})"
        hand = (
            "take a snapshot first (virsh backup-begin, or a disk-only snapshot), or shut the guest down for the copy"
        )
        found.findings.append(Finding(call.line, f"{text}: the copy is torn", by_hand=hand))


def _operands(call: Call, valued: str = "") -> list[Word]:
    """The words that are no options; *valued* are the short options that take the next word."""
    words, rest = [], list(call.words[1:])
    while rest:
        word = rest.pop(0)
        if word.text.startswith("-"):
            if word.text in valued.split() and rest:
                rest.pop(0)
        else:
            words.append(word)
    return words


def _cp(call: Call, context: _Context, found: Assessment) -> None:
    images, _ = context.copied(_operands(call, "-t -S"))
    if not images:
        return
    before = len(found.findings)
    if any(word.text == "--sparse=never" for word in call.words):
        found.findings.append(Finding(call.line, "cp --sparse=never writes every zero", by_hand="drop --sparse=never"))
    _judge_torn(call, images, context, found, "cp")
    if len(found.findings) == before:
        found.good.append(f"line {call.line}: cp keeps the holes that the image has")


def _tar(call: Call, context: _Context, found: Assessment) -> None:
    texts = [word.text for word in call.words[1:]]
    letters = "".join(text.lstrip("-") for text in (text for text in texts if re.fullmatch(r"-\w+", text)))
    letters += texts[0] if texts and re.fullmatch(r"\w+", texts[0]) else ""
    held, _ = context.copied(list(call.words[1:]))
    if not held or not ({"--create", "--append", "--update"} & set(texts) or set("cru") & set(letters)):
        return
    excluded = [text.partition("=")[2] for text in texts if text.startswith("--exclude=")]
    excluded += [value for option, value in pairwise(texts) if option == "--exclude"]
    images = [one for one in held if not any(_tar_excludes(pattern, one.path) for pattern in excluded)]
    if not images:
        return
    if any(text.startswith(("-X", "--exclude-from")) for text in texts):
        found.unclear.append(
            f"line {call.line}: tar: whether its list of exclusions leaves out the images is not judged"
        )
        return
    before = len(found.findings)
    if "--sparse" not in texts and "S" not in letters:
        text = "tar without --sparse stores every zero of a sparse image"
        found.findings.append(Finding(call.line, text, by_hand="add --sparse"))
    _judge_torn(call, images, context, found, "tar")
    if len(found.findings) == before:
        found.good.append(f"line {call.line}: tar --sparse")


def _tar_excludes(pattern: str, path: str) -> bool:
    """By tar's manual, "Controlling Pattern-Matching": any run of names in the path may match, and * a slash too."""
    names = path.split("/")
    runs = ("/".join(names[start:end]) for end in range(1, len(names) + 1) for start in range(end))
    return any(fnmatch.fnmatchcase(run, pattern) for run in runs)


def _dd(call: Call, context: _Context, found: Assessment) -> None:
    values = dict(word.text.partition("=")[::2] for word in call.words[1:])
    source = Word(values.get("if", UNKNOWN))
    images, _ = context.copied([source])
    if not images:
        return
    before = len(found.findings)
    if "sparse" not in values.get("conv", "").split(","):
        found.findings.append(Finding(call.line, "dd without conv=sparse writes every zero", by_hand="add conv=sparse"))
    _judge_torn(call, images, context, found, "dd")
    if len(found.findings) == before:
        found.good.append(f"line {call.line}: dd conv=sparse")


def _qemu_img(call: Call, context: _Context, found: Assessment) -> None:
    texts = [word.text for word in call.words[1:]]
    if not texts or texts[0] not in ("convert", "dd"):
        return
    images, _ = context.copied(_operands(call, "-f -F -O -o -S -B -m -r -T -t -l")[1:-1])
    before = len(found.findings)
    if ("-S", "0") in pairwise(texts) or "-S0" in texts:
        found.findings.append(Finding(call.line, "qemu-img convert -S 0 allocates every zero", by_hand="drop -S 0"))
    if "-U" in texts or "--force-share" in texts:
        _judge_torn(call, images, context, found, "qemu-img convert -U")
    if len(found.findings) == before:
        found.good.append(f"line {call.line}: qemu-img convert leaves zeros out, and a running guest locks it out")


def _virtnbdbackup(call: Call, context: _Context, found: Assessment) -> None:
    texts = [word.text for word in call.words[1:]]
    if {("-t", "raw"), ("--type", "raw")} & set(pairwise(texts)) or "--type=raw" in texts:
        text = "virtnbdbackup --type raw writes the whole disk; its own type, stream, holds data alone"
        found.findings.append(Finding(call.line, text, by_hand="drop --type raw"))
    else:
        found.good.append(f"line {call.line}: virtnbdbackup: the stream holds data alone")


def _store(name: str, command: str, restore: str) -> Callable[[Call, _Context, Assessment], None]:
    """A store that keeps each content once: zeros take nothing in it, and the restore decides about holes."""

    def judge(call: Call, context: _Context, found: Assessment) -> None:
        if any(word.text == command for word in call.words[1:]):
            images, _ = context.copied(_operands(call))
            _judge_torn(call, images, context, found, name)
            found.unclear.append(
                f"line {call.line}: {name} keeps each content once, so zeros take nothing there; "
                f"whether a restore is sparse is the restore's to say: {restore}"
            )

    return judge


def _rsnapshot(call: Call, context: _Context, found: Assessment) -> None:
    found.unclear.append(
        f"line {call.line}: it runs rsnapshot: declare its configuration, /etc/rsnapshot.conf, as the job"
    )


_JUDGES: dict[str, Callable[[Call, _Context, Assessment], None]] = {
    "rsync": _rsync,
    "rsnapshot": _rsnapshot,
    "cp": _cp,
    "tar": _tar,
    "dd": _dd,
    "qemu-img": _qemu_img,
    "virtnbdbackup": _virtnbdbackup,
    "borg": _store("borg", "create", "borg extract --sparse"),
    "restic": _store("restic", "backup", "restic restore --sparse (since 0.15)"),
}


def iter_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """The findings as they are told, each once."""
    yield from dict.fromkeys(map(str, findings))


def not_ours(path: str) -> str | None:
    """Why the file is not to be edited, or None."""
    if path.startswith(("/usr/lib/", "/lib/")):
        return f"{path} belongs to a package, which would put it back: copy it to /etc and declare that"
    return None


def daemon_reload(job: Job) -> str | None:
    """What makes systemd see the edited unit; None where it has not read it."""
    return "systemctl daemon-reload" if job.path.startswith(("/etc/systemd/", "/run/systemd/")) else None
