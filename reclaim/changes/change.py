"""Changes: small values that can describe, apply and undo themselves. Only the engine applies them."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

import libvirt
from testinfra.host import Host

from reclaim.base import strict
from reclaim.base.errors import AgentAbsent, AgentBlocked, ChangedSince, ChangeFailed, NotAssessable, NotYet, ProbeError
from reclaim.base.masked import diff_files, news
from reclaim.base.text import libvirt_words, size
from reclaim.changes.boot_stopped import Boot
from reclaim.changes.domfstrim import TrimTimer
from reclaim.changes.live_update import LiveUpdate
from reclaim.changes.power import PowerCycle, its_own
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.changes.qcow2_amend import AmendCycle, ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.definition import domain as xml
from reclaim.definition.domain import Definition, Edit
from reclaim.files import localfile
from reclaim.handles.guest import Guest

#: one argument of a process holds 128 KiB on Linux (MAX_ARG_STRLEN); base64 takes a third of it
MAX_FILE_BYTES = 90_000
#: seconds a command may take that rebuilds an initramfs or a boot menu
COMMAND_SECONDS = 900
TRIM_SECONDS = 900
#: filesystems that could not be trimmed, as far as they are named
_PATHS = 5


class Place(Protocol):
    """What has a name and a shell: a guest, or the hypervisor."""

    @property
    def name(self) -> str: ...

    @property
    def shell(self) -> Host: ...


class Change(Protocol):
    """Something that can be applied to a guest or the hypervisor (its *place*), and taken back."""

    kind: ClassVar[str]

    @property
    def target(self) -> str:
        """What is changed, in words."""
        ...

    @property
    def diff(self) -> str:
        """The change as a diff, or as the command that is run. Shows no secret (`reclaim.base.masked`)."""
        ...

    def apply(self, place: Any, /) -> dict[str, str]:
        """Apply it, or raise ChangeFailed and leave nothing half done.

        What it returns is kept in the journal and given to `undo`; `note` is shown to the user.
        """
        ...

    def undo(self, place: Any, /, outcome: dict[str, str]) -> str:
        """Take it back; returns what was done in words. Raises ChangeFailed where that is not safe."""
        ...


@dataclass(frozen=True)
class DefinitionChange:
    """Another persistent definition. A running guest uses it from its next cold start."""

    kind: ClassVar[str] = "definition"
    name: str
    before: str
    after: str
    #: disk targets that the change renames
    renames: dict[str, str] = field(default_factory=dict)
    #: what is lost or moved elsewhere by it, for the evidence
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        return f"definition of {self.name}"

    @property
    def diff(self) -> str:
        return xml.diff_definitions(Definition(self.before), Definition(self.after))

    def apply(self, guest: Guest) -> dict[str, str]:
        _define(guest, self.before, self.after)
        guest.renamed.update(self.renames)
        guest.forget(inside=False)
        return {"defined": guest.persistent.xml}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        now = _current(guest)
        before, left = (its_own(guest, xml) for xml in (self.before, outcome.get("defined", self.after)))
        if xml.same(now, Definition(before)):
            return "the definition is as it was before"
        if "defined" not in outcome and not xml.missing_from(now, Definition(left)):
            left = now.xml  # the run died before it could write down what libvirt made of it
        if not xml.same(now, Definition(left)):
            raise ChangedSince(
                f"{guest.name}: the definition has changed since that run, and is left as it is",
                xml.diff_definitions(Definition(left), now),
            )
        _define(guest, left, before)
        for renamed in self.renames:
            guest.renamed.pop(renamed, None)
        guest.forget(inside=False)
        return "the definition is as it was" + ("; it counts from the next cold start" if guest.is_running else "")


def changed_definition(edit: Edit) -> DefinitionChange:
    """The change that an edit makes."""
    return DefinitionChange(
        edit.origin.name, edit.origin.xml, edit.definition.xml, dict(edit.renames), tuple(edit.notes)
    )


def _current(guest: Guest) -> Definition:
    """The persistent definition as it is at this moment. Raises ChangeFailed if there is none."""
    guest.forget(inside=False)
    try:
        found = guest.persistent if guest.is_persistent else None
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        raise ChangeFailed(f"{guest.name}: somebody has undefined it; nothing was changed") from exc
    if found is None:
        raise ChangeFailed(f"{guest.name}: it is transient, there is no definition to change")
    return found


def _define(guest: Guest, expected: str, wanted: str) -> None:
    """Define *wanted* if *expected* is defined now, and see that libvirt kept all of it."""
    current = _current(guest)
    if its_own(guest, wanted) != wanted:
        name = Definition(wanted).name
        raise ChangeFailed(f"{guest.name}: somebody has renamed it from {name}; nothing was changed: run again")
    if not xml.same(current, Definition(expected)):
        raise ChangeFailed(f"{guest.name}: the definition has changed since it was read; run again")
    define = guest.hypervisor.connection.defineXMLFlags
    try:
        define(wanted, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    except libvirt.libvirtError as exc:
        raise ChangeFailed(f"{guest.name}: libvirt refuses the definition: {libvirt_words(exc)}") from exc
    guest.forget(inside=False)
    lost = xml.missing_from(guest.persistent, Definition(wanted))
    if lost:
        dropped = news(lost[0], expected)
        try:
            define(current.xml, 0)
        except libvirt.libvirtError as exc:
            raise ChangeFailed(
                f"{guest.name}: libvirt dropped {dropped}, and does not take the old definition back: "
                f"{libvirt_words(exc)}"
            ) from exc
        guest.forget(inside=False)
        raise ChangeFailed(f"{guest.name}: libvirt dropped {dropped}; the definition is as it was")


@dataclass(frozen=True)
class FileChange:
    """Another content for one file of a guest or of the hypervisor; `before` or `after` is None where there is no file.

    `verify` is a command that is given the new file's path before it counts, and must not find more
    errors than in the old one. `then` is run afterwards; where it fails the file is put back.
    `devices` are those that `before` boots from: where they are gone it must not come back.
    `like` is the content of another file that a new one is made from.
    """

    kind: ClassVar[str] = "file"
    place: str
    path: str
    before: str | None
    after: str | None
    verify: str | None = None
    then: str | None = None
    devices: list[str] = field(default_factory=list)
    like: str | None = field(default=None, compare=False)

    @property
    def target(self) -> str:
        return f"{self.path} in {self.place}"

    @property
    def diff(self) -> str:
        text = diff_files(_shown(self.before), _shown(self.after), self.path, _shown(self.like))
        return f"{text}\nthen: {self.then}" if self.then else text

    def apply(self, place: Place) -> dict[str, str]:
        self._write(place, self.before, self.after, self.verify)
        if self.then:
            try:
                _run(place, self.then)
            except (ChangeFailed, ProbeError) as exc:  # it failed, or nobody knows how it ended
                self._write(place, self.after, self.before, None)
                raise ChangeFailed(f"{exc}; {self.path} is as it was") from exc
        return {}

    def undo(self, place: Place, outcome: dict[str, str]) -> str:
        if not self._is_back(place):
            _expect_devices(place, self.devices)
            self._write_back(place)
        if _is_here(place):
            localfile.sweep(self.path, *(None if text is None else _bytes(text) for text in (self.before, self.after)))
        if self.then:
            try:
                _run(place, self.then)
            except (ChangeFailed, ProbeError) as exc:
                raise ChangeFailed(f"{self.path} is as it was, but {exc}") from exc
        return f"{self.path} is as it was"

    def _write_back(self, place: Place) -> None:
        try:
            self._write(place, self.after, self.before, None)
        except ChangeFailed as exc:
            if not any(words in str(exc) for words in _ANOTHER):
                raise
            now = self._content(place)
            raise ChangedSince(
                f"{self.place}: {self.path} has changed since that run, and is left as it is",
                "" if now is None else diff_files(_shown(self.after), now, self.path),
            ) from exc

    def _content(self, place: Place) -> str | None:
        """The file as it is now; None if nobody can read it."""
        if _is_here(place):
            try:
                return localfile.read(self.path, MAX_FILE_BYTES).decode("utf-8", errors="replace")
            except (ProbeError, NotAssessable):
                return None
        result = place.shell.run("head -c %s < %s", str(MAX_FILE_BYTES), self.path)
        return str(result.stdout) if result.rc == 0 else None

    def _is_back(self, place: Place) -> bool:
        """Does the file have its old content already? A run may have died before it wrote."""
        if _is_here(place):
            return localfile.holds(self.path, None if self.before is None else _bytes(self.before))
        if self.before is None:
            return bool(place.shell.run("test ! -e %s", self.path).rc == 0)
        result = place.shell.run("sha256sum < %s", self.path)
        return bool(result.rc == 0 and result.stdout.split()[:1] == [_digest(self.before)])

    def _write(self, place: Place, expected: str | None, wanted: str | None, verify: str | None) -> None:
        if _is_here(place) and not verify:
            contents = [None if text is None else _bytes(text) for text in (expected, wanted)]
            try:
                localfile.sweep(self.path, *contents)  # what a run that died at this very edit left is in the way
                localfile.write(self.path, *contents)
            except ChangeFailed as exc:
                raise ChangeFailed(f"{self.place}: {self.path}: {exc}") from exc
            return
        content = _bytes(wanted or "")
        if len(content) > MAX_FILE_BYTES:
            raise ChangeFailed(f"{self.place}: {self.path} is too large to be written this way")
        result = place.shell.run(
            "/bin/sh -c %s reclaim %s %s %s %s",
            _WRITE,
            self.path,
            "absent" if expected is None else _digest(expected),
            "-" if wanted is None else "+" + base64.b64encode(content).decode(),
            verify or "",
        )
        if result.rc != 0:
            raise ChangeFailed(f"{self.place}: {self.path}: {_last_words(result.stderr, result.stdout)}")


#: how it is said that the file is not what it was to be
_ANOTHER = ("has changed since it was read", "exists by now")
# Beside, synced, renamed: a crash leaves the old file or the new one. The old file's owner, mode,
# xattrs and label come along with the copy; a symbolic link is followed to the file it means.
# A shell looks a name up each time, and in between others may let it mean another file: so nothing
# is edited in a folder that others may write in, nor below one (as sudoedit(8) does not).
_WRITE = r"""
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
path=$1 expected=$2 content=$3 verify=$4
fail() { printf '%s\n' "$1" >&2; [ -n "${new:-}" ] && rm -f -- "$new"; exit 1; }
me=$(id -u)
expect_own() {
    folder=$(cd -P -- "$1" 2>/dev/null && pwd -P) || fail 'its folder cannot be looked into'
    while :; do
        found=$(stat -c '%u %a' -- "$folder") || fail "$folder cannot be looked at"
        case "${found%% *} ${found#* }" in
        "0 "[1357]??? | "$me "[1357]???) ;;
        *[2367]? | *[2367]) fail "others may write in $folder (mode ${found#* }): nothing is edited there" ;;
        "0 "* | "$me "*) ;;
        *) fail "the user ${found%% *} may write in $folder: nothing is edited there" ;;
        esac
        [ "$folder" = / ] && return
        folder=$(dirname -- "$folder")
    done
}
links=0
expect_own "$(dirname -- "$path")"
while [ -L "$path" ]; do
    [ $((links += 1)) -le 40 ] || fail 'too many symbolic links'
    target=$(readlink -- "$path") || fail 'the symbolic link cannot be read'
    case $target in /*) path=$target ;; *) path=$(dirname -- "$path")/$target ;; esac
    expect_own "$(dirname -- "$path")"
done
if [ -e "$path" ]; then
    # in a folder like /tmp its owner may rename it
    owner=$(stat -c %u -- "$path")
    case $(stat -c %a -- "$(dirname -- "$path")") in
    [1357]???) [ "$owner" = 0 ] || [ "$owner" = "$me" ] || fail "it is the user $owner's: nothing is edited there" ;;
    esac
fi
if [ "$expected" = absent ]; then
    [ -e "$path" ] && fail 'the file exists by now; nothing was changed'
else
    sum=$(sha256sum <"$path") || fail 'the file cannot be read'
    [ "${sum%% *}" = "$expected" ] || fail 'the file has changed since it was read; nothing was changed'
fi
if [ "$content" = - ]; then
    rm -f -- "$path" && sync
    exit
fi
trap '[ -n "${new:-}" ] && rm -f -- "$new"' HUP INT TERM
made=$(mktemp -- "$(dirname -- "$path")/.reclaim.XXXXXX" 2>&1) || fail "no file can be made beside it: ${made##*: }"
new=$made
if [ "$expected" = absent ]; then
    chmod 0644 "$new"
else
    said=$(cp -a -- "$path" "$new" 2>&1) || fail "the file cannot be copied: ${said##*: }"
fi
said=$(printf '%s' "${content#+}" | base64 -d 2>&1 >"$new") || fail "the new content cannot be written: ${said##*: }"
[ "$(wc -c <"$new")" -gt 0 ] || [ "$content" = + ] || fail 'there is no room for the new content'
if [ -n "$verify" ]; then
    errors() { $verify "$1" 2>&1 | grep -c '\[E\]'; }
    if ! said=$($verify "$new" 2>&1) && [ "$(errors "$new")" -gt "$(errors "$path")" ]; then
        fail "$verify: $(printf '%s' "$said" | tr '\n' ' ')"
    fi
fi
sync -- "$new" || fail 'the new content cannot be synced'
mv -f -- "$new" "$path" || fail 'the new file cannot be put in place'
sync -- "$(dirname -- "$path")" || sync
"""


@dataclass(frozen=True)
class CommandChange:
    """A command run in the guest by its shell, and the one that takes it back (None: nothing does).

    `devices` are those that `back` names: where they are gone it must not be run.
    """

    kind: ClassVar[str] = "command"
    guest: str
    command: str
    back: str | None = None
    devices: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"command in {self.guest}"

    @property
    def diff(self) -> str:
        return self.command

    def apply(self, guest: Guest) -> dict[str, str]:
        _run(guest, self.command)
        return {}

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        if self.back is None:
            return f"{self.command}: nothing takes it back"
        _expect_devices(guest, self.devices)
        _run(guest, self.back)
        return self.back


@dataclass(frozen=True)
class Trim:
    """The free space of every mounted filesystem given back now.

    `promised` is the space that was counted to come back, in words; `price` is what the trim costs the backups.
    """

    kind: ClassVar[str] = "trim"
    guest: str
    promised: str = ""
    price: str = ""

    @property
    def target(self) -> str:
        return f"free space of {self.guest}"

    @property
    def diff(self) -> str:
        come = f": {self.promised} can come back" if self.promised else ""
        price = f"; {self.price}" if self.price else ""
        return f"guest-fstrim (guest agent){come}{price}"

    def apply(self, guest: Guest) -> dict[str, str]:
        paths = [disk.path for disk in guest.disks if disk.path and disk.view.type == "file"]
        before = guest.hypervisor.allocated_each(paths)
        # virDomainFSTrim drops the result of each path (libvirt's qemuAgentFSTrim), so ask the agent
        try:
            trimmed, failed = self._by_agent(guest)
        except (AgentAbsent, AgentBlocked):
            trimmed, failed = self._by_command(guest)
        if failed and not trimmed:
            raise ChangeFailed(f"{self.guest}: nothing could be trimmed: {'; '.join(failed[:_PATHS])}")
        after = guest.hypervisor.allocated_each(paths)
        came = sum(max(0, held - after.get(path, held)) for path, held in before.items())
        of = f" of {self.promised} that were counted to" if self.promised else ""
        price = f"; {self.price}" if self.price else ""
        note = f"{size(came)} came back{of}; the guest says it trimmed {trimmed} bytes{price}"
        return {"note": f"{note}; not {'; '.join(failed[:_PATHS])}" if failed else note}

    def _by_agent(self, guest: Guest) -> tuple[int, list[str]]:
        """Bytes that the agent says it trimmed, and what failed by mount point."""
        answer = guest.agent.command("guest-fstrim", seconds=TRIM_SECONDS)
        paths = answer.get("paths") if isinstance(answer, dict) else None
        if not isinstance(paths, list):
            raise ProbeError(f"{self.guest}: the guest agent's answer to guest-fstrim has no paths")
        trimmed, failed = 0, []
        for one in paths:
            if not isinstance(one, dict):
                raise ProbeError(f"{self.guest}: the guest agent's answer to guest-fstrim cannot be parsed")
            if one.get("error"):
                failed.append(f"{str(one.get('path'))[:100]}: {str(one['error'])[:100]}")
            elif isinstance(one.get("trimmed"), int):
                trimmed += one["trimmed"]
        return trimmed, failed

    def _by_command(self, guest: Guest) -> tuple[int, list[str]]:
        """The same by fstrim(8): a line for each filesystem, an error for each that failed."""
        result = guest.shell.run("LC_ALL=C fstrim -av", seconds=TRIM_SECONDS)
        trimmed = sum(int(count) for count in re.findall(r"\((\d{1,18}) bytes\) trimmed", result.stdout))
        failed = [line.strip().removeprefix("fstrim: ")[:200] for line in result.stderr.splitlines() if line.strip()]
        if result.rc != 0 and not failed:
            failed = [f"fstrim ended with status {result.rc}"]
        return trimmed, failed

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        return "trimmed space stays trimmed: it was free"


def to_json(change: Change) -> dict[str, Any]:
    """*change* as plain values, for the journal."""
    return {"kind": change.kind, **asdict(change)}  # type: ignore[call-overload]


def from_json(data: Any) -> Change:
    """The change that `to_json` wrote. Raises ValueError for a kind or a value that is unknown."""
    values = dict(data) if isinstance(data, dict) else {}
    kind = values.pop("kind", None)
    for known in _KINDS:
        if known.kind == kind:
            change: Change = strict.build(known, values)  # type: ignore[assignment]
            return change
    raise ValueError(f"a change of kind {kind!r:.60} is unknown to this version")


_KINDS = (
    DefinitionChange,
    FileChange,
    CommandChange,
    Trim,
    LiveUpdate,
    PowerCycle,
    AmendCycle,
    Boot,
    TrimTimer,
    ImageAmend,
    HolePunch,
    SparseRewrite,
    Sparsify,
)


def _is_here(place: Place) -> bool:
    """Is it the hypervisor, on the machine that this runs on? A guest, and another machine, have a shell alone."""
    return bool(getattr(place, "is_local", False))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def _digest(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()


def _shown(text: str | None) -> str:
    return (text or "").encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _expect_devices(place: Place, devices: list[str]) -> None:
    """Raises NotYet where one of *devices* is not there: a guest that looks for it would not boot."""
    for device in devices:
        if place.shell.run("test -b %s", device).rc != 0:
            raise NotYet(
                f"{place.name}: it named {device}, which is not there on the bus the guest runs on; "
                "what stands now works on either bus: shut the guest down, start it, and undo once more"
            )


def _run(place: Place, command: str) -> None:
    """Run *command* there. Raises ChangeFailed with its last words where it fails."""
    result = place.shell.run(command, seconds=COMMAND_SECONDS)
    if result.rc != 0:
        words = _last_words(result.stderr, result.stdout)
        raise ChangeFailed(f"{place.name}: {command} ended with status {result.rc}: {words}")


def _last_words(*outputs: str) -> str:
    """The last lines of the first output that says something: the cause often stands before what came of it."""
    for output in outputs:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        if lines:
            return "; ".join(line[:200] for line in lines[-3:])
    return "it said nothing"
