"""The other users of an image, sought before it is opened for writing: a start, a trim from outside, an amendment.

Two that write on one image destroy it, and a write to an image below an overlay breaks the overlay.
QEMU's own lock does not help: an overlay of a guest that is off holds none, and of a block device each guest has a
node of its own. So every definition is read, as it is and as it runs, as a managed-save image or a snapshot has it;
every chain of backing files is followed; and files and devices are told apart by their identity, not by their paths.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import libvirt

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.base.text import libvirt_words, printable
from reclaim.definition import qemuargs
from reclaim.definition.domain import DiskView, Element, backing_stores, parse_xml
from reclaim.handles.guest import Guest
from reclaim.handles.node import Node
from reclaim.processes import limited, shell_script
from reclaim.storage import backing, host_image, volumes

#: backing files above one another; QEMU itself opens no more than some hundred
_DEEPEST = 64
#: images that are looked at for one answer, and paths in one question
_MOST, _AT_ONCE = 20_000, 100
#: seconds for one question: a dead network mount never answers
_SECONDS = 60
#: SCSI devices of the host by host, bus, target and unit
_SCSI = "/sys/bus/scsi/devices/"
#: snapshots of one guest whose definitions are read
_SNAPSHOTS = 200


@dataclass(frozen=True)
class Use:
    """An image as one definition names it.

    `place` is a path, or `protocol:name` for a place that is no file here; `depth` counts the overlays above it.
    """

    guest: str
    what: str
    place: str
    format: str | None
    writes: bool
    shared: bool = False
    runs: bool = False
    depth: int = 0
    #: made by a snapshot, which may be the guest's own image by now
    by_snapshot: bool = False
    #: it may be absent without harm
    may_be_gone: bool = False
    #: a kernel, an initrd or firmware, which the guest reads and nothing stands on
    boots: bool = False


# Images in definitions ----------------------------------------------------------------------------


def uses(
    hypervisor: Node, root: Element, guest: str, *, note: str = "", runs: bool = False
) -> Iterator[Use]:
    """Yield every image that a definition names."""
    base = Use(guest, note, "", None, writes=True, runs=runs)
    for disk in root.iterfind("devices/disk"):
        yield from _of_disk(hypervisor, disk, replace(base, what=note + _target(disk)))
    for source in root.iterfind("devices/hostdev[@type='scsi']/source"):
        yield replace(
            base, what=f"{note}hostdev", place=_scsi_device(source), format="raw"
        )
    yield from _of_other_devices(root, base)
    yield from _of_firmware(hypervisor, root, base)
    for name, is_read in qemuargs.images(root):
        for place in _named(name):
            yield replace(
                base, what=f"{note}qemu:commandline", place=place, writes=not is_read
            )


def _of_other_devices(root: Element, base: Use) -> Iterator[Use]:
    """Yield the files and devices of the host behind all devices but disks.

    `what` of *base* is the prefix of theirs.
    """
    for device in root.iterfind("devices/*"):
        if device.tag == "disk":
            continue
        for source in device.iter("source", "block"):
            place = (
                source.get("file")
                or source.get("dev")
                or source.findtext("path")
                or source.text
            )
            path = str(place or "").strip()
            if path.startswith("/"):
                yield replace(base, what=f"{base.what}{device.tag!s}", place=path)


#: elements of <os> that are paths of files which the guest is started from
_READ_AT_BOOT = ("kernel", "initrd", "loader")


def _of_firmware(hypervisor: Node, root: Element, base: Use) -> Iterator[Use]:
    """Yield the variables of the firmware, the firmware itself, the kernel and the initrd."""
    base = replace(base, format="raw", may_be_gone=True)
    for element in root.iterfind("os/*"):
        path = _text_of(element)
        if element.tag in _READ_AT_BOOT and path.startswith("/"):
            named = f"{base.what}{element.tag!s}"
            yield replace(base, what=named, place=path, writes=False, boots=True)
    nvram = root.find("os/nvram")
    path = _text_of(nvram) or _source(hypervisor, nvram)
    if path:
        yield replace(base, what=f"{base.what}nvram", place=path)
    path = _text_of(root.find("os/loader[@readonly='no']"))
    if path:
        yield replace(base, what=f"{base.what}loader", place=path)


def _text_of(element: Element | None) -> str:
    return "" if element is None else str(element.text or "").strip()


def _scsi_device(source: Element) -> str:
    """Return the disk of the host, or of an iSCSI target, that is handed on as a SCSI device; "" for any other."""
    if protocol := source.get("protocol"):
        return _network(str(protocol), source)
    adapter, address = source.find("adapter"), source.find("address")
    if adapter is None or address is None:
        return ""
    host = str(adapter.get("name") or "").removeprefix("scsi_host")
    if not host.isdecimal():
        return ""
    numbers = [str(address.get(name) or "0") for name in ("bus", "target", "unit")]
    return _SCSI + ":".join([host, *numbers])


def written_from_outside(guest: Guest, path: str) -> Use:
    """Return the use of the image at *path* by a writer while the guest is off: nothing below it is opened."""
    return Use(guest.name, "its image", path, "raw", writes=True)


def uses_of_disk(guest: Guest, disk: DiskView) -> list[Use]:
    """Return the images of one disk, as a start or an attachment opens them."""
    return list(
        _of_disk(
            guest.hypervisor,
            disk.element,
            Use(guest.name, disk.target, "", None, writes=True),
        )
    )


def _target(disk: Element) -> str:
    target = disk.find("target")
    return "a disk" if target is None else str(target.get("dev") or "")


def _named(name: str) -> list[str]:
    """Return the places that a name in QEMU's arguments leads to; one that is not understood stays as it is."""
    if name.startswith("/"):
        return [name]
    try:
        return [leaf.place for leaf in backing.locations(name, "/", None)]
    except NotAssessable:
        return [name]


def _of_disk(hypervisor: Node, disk: Element, use: Use) -> Iterator[Use]:
    """Yield the disk's own image, its mirror and data file, and the chain as far as the definition has it."""
    reads = disk.get("device") == "cdrom" or any(
        disk.find(tag) is not None for tag in ("readonly", "transient")
    )
    own = replace(use, writes=not reads, shared=disk.find("shareable") is not None)
    if place := _source(hypervisor, disk):
        kind = _attribute(disk, "driver", "type")
        yield replace(own, place=place, format="raw" if kind is None else kind)
    for data in disk.iterfind("source/dataStore"):
        yield replace(own, place=_source(hypervisor, data), format="raw")
    for mirror in disk.iterfind("mirror"):
        place = _source(hypervisor, mirror) or str(mirror.get("file") or "")
        yield replace(
            use, place=place, format=_attribute(mirror, "format", "type"), writes=True
        )
        yield from _of_chain(hypervisor, mirror, use)
    yield from _of_chain(hypervisor, disk, use)


def _of_chain(hypervisor: Node, parent: Element, use: Use) -> Iterator[Use]:
    """Yield the chain of backing files below *parent*, as far as the definition has it."""
    stores = islice(backing_stores(parent), _DEEPEST - 1)
    for level, store in enumerate(stores, start=1):
        yield replace(
            use,
            place=_source(hypervisor, store),
            format=_attribute(store, "format", "type"),
            writes=False,
            depth=level,
        )


def _attribute(parent: Element, tag: str, name: str) -> str | None:
    child = parent.find(tag)
    return None if child is None else child.get(name)


def _source(hypervisor: Node, parent: Element | None) -> str:
    """Return the place of the `<source>` of *parent*; "" if there is none, or none that two could share."""
    if parent is None:
        return ""
    source = parent.find("source")
    if source is None:
        return ""
    pool, protocol = source.get("pool"), source.get("protocol")
    if pool:
        volume = str(source.get("volume") or "")
        return volumes.place(hypervisor.connection, str(pool), volume)
    if protocol:
        return _network(str(protocol), source)
    return str(source.get("file") or source.get("dev") or "")


#: protocols whose images are found by their names alone, whichever host is asked
_CLUSTERS = ("rbd", "gluster", "sheepdog", "iscsi")


def _network(protocol: str, source: Element) -> str:
    name = str(source.get("name") or "")
    if protocol in _CLUSTERS:
        return backing.network(f"{protocol}:{name}")
    host = source.find("host")
    if host is None:
        return backing.network(f"{protocol}:/{name}")
    socket = host.get("socket")
    if socket:
        return f"{protocol}:{socket}/{name}"
    server = f"{host.get('name')}:{host.get('port') or ''}"
    return backing.network(f"{protocol}://{server}/{name}")


def _all(hypervisor: Node) -> Iterator[Use]:
    """Yield the images of every guest, including guests defined since the run began."""
    listed = hypervisor.connection.listAllDomains(0)
    domains = {domain.UUIDString(): domain for domain in listed}
    domains = hypervisor.known_domains() | domains
    for domain in domains.values():
        try:
            yield from _of_domain(hypervisor, domain)
        except libvirt.libvirtError as exc:
            if (
                exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN
            ):  # it went away: it uses nothing
                raise


def _of_domain(hypervisor: Node, domain: libvirt.virDomain) -> Iterator[Use]:
    name, runs = domain.name(), bool(domain.isActive())
    if domain.isPersistent():
        text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        yield from uses(hypervisor, parse_xml(text, name), name, runs=runs)
    if runs:
        yield from uses(hypervisor, parse_xml(domain.XMLDesc(0), name), name, runs=True)
    elif domain.hasManagedSaveImage(0):
        try:
            text = domain.managedSaveGetXMLDesc(0)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                raise
        else:
            yield from uses(
                hypervisor, parse_xml(text, name), name, note="managed save: "
            )
    yield from _of_snapshots(hypervisor, domain)


def _of_snapshots(hypervisor: Node, domain: libvirt.virDomain) -> Iterator[Use]:
    """Yield the images that external snapshots made, and those that they were made of."""
    try:
        snapshots = domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return
    guest = domain.name()
    for snapshot in snapshots[:_SNAPSHOTS]:
        root = parse_xml(snapshot.getXMLDesc(0), guest)
        note = f"snapshot {snapshot.getName()}"
        base = Use(guest, note, "", None, writes=False, may_be_gone=True)
        for disk in root.iterfind("disks/disk"):
            place = _source(hypervisor, disk)
            if place:
                driver = disk.find("driver")
                kind = "qcow2" if driver is None else driver.get("type")
                yield replace(base, place=place, format=kind, by_snapshot=True)
        for definition in (*root.iterfind("domain"), *root.iterfind("inactiveDomain")):
            for use in uses(hypervisor, definition, guest):
                yield replace(use, what=note, writes=False, may_be_gone=True)


# Identities on the hypervisor ---------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """The object at a place: its identity, the devices that it lies on, its users on the host, and its first bytes.

    `identity` is None if there is none; `problem` is the reason if it cannot be found out. Two ways to one disk have
    `same` in common. `folder` is the state of the folder if the object is absent: an empty one may wait for its storage
    to be mounted.
    """

    identity: str | None = None
    below: frozenset[str] = frozenset()
    same: str = ""
    holders: tuple[str, ...] = ()
    head: bytes = b""
    problem: str = ""
    folder: Literal["absent", "empty", "used"] = "absent"


#: numbers of devices as sysfs writes them, of files as filesystem and inode
_LOOK = (
    shell_script.HEAD
    + shell_script.SAY
    + r"""
below() {
    [ -e "$1/partition" ] && { printf 'device %s\n' "$(cat "$1/../dev")"; below "$1/.."; }
    for slave in "$1"/slaves/*; do
        [ -e "$slave/dev" ] && { printf 'device %s\n' "$(cat "$slave/dev")"; below "$(readlink -f "$slave")"; }
    done
    [ -r "$1/loop/backing_file" ] && stat -L -c 'file %d:%i' -- "$(cat "$1/loop/backing_file")"
    remote "$1"
}
remote() {
    rbd=/sys/bus/rbd/devices/${1##*/rbd}
    if [ -r "$rbd/pool" ]; then
        space=$(cat "$rbd/pool_ns" 2>/dev/null)
        printf 'place rbd:%s/%s\n' "$(cat "$rbd/pool")${space:+/$space}" "$(cat "$rbd/name")"
    fi
    scsi=$(readlink -f "$1/device")
    case $scsi in */session*/*)
        session=${scsi##*/session}
        target=$(cat "/sys/class/iscsi_session/session${session%%/*}/targetname")
        printf 'place iscsi:%s/%s\n' "$target" "${scsi##*:}" ;;
    esac
}
holders() {
    for holder in "$1"/holders/* "$1"/*/holders/*; do [ -e "$holder" ] && printf '%s\n' "${holder##*/}"; done
    for part in "$1/dev" "$1"/*/partition; do
        [ -e "$part" ] || continue
        printf '%s\n' "$mounted" | grep -Fxq "$(cat "${part%/*}/dev")" && { printf 'mounted\n'; break; }
    done
}
mounted=$({
    cut -d ' ' -f 3 /proc/self/mountinfo
    { sed 's/.* - [^ ]* //' /proc/self/mountinfo; tail -n +2 /proc/swaps; } | cut -d ' ' -f 1 | sort -u |
    while read -r source; do
        case $source in /dev/*) [ -b "$source" ] && printf '%d:%d\n' $(stat -L -c '0x%t 0x%T' -- "$source") ;; esac
    done
})
loops=$(for loop in /sys/block/loop*/loop/backing_file; do
    [ -r "$loop" ] && id=$(stat -L -c '%d:%i' -- "$(cat "$loop")") || continue
    name=${loop%/loop/*}
    printf '%s %s\n' "$id" "${name##*/}"
done)
number=0
for path in "$@"; do
    number=$((number + 1))
    case $path in /sys/bus/scsi/devices/*)
        for disk in "$path"/block/*; do [ -e "$disk" ] && path=/dev/${disk##*/}; done ;;
    esac
    if ! status=$(stat -L -c '%F|%d:%i|%t|%T' -- "$path" 2>&1); then
        say "error$number" "$status"
        [ -d "${path%/*}/" ] && say "folder$number" "$(ls -A -- "${path%/*}/" | head -n 1)."
        continue
    fi
    say "stat$number" "$status"
    case $status in
    'block special'*)
        type=${status#*|*|}
        sys=$(readlink -f "/sys/dev/block/$((0x${type%|*})):$((0x${type#*|}))")
        say "below$number" "$(below "$sys")"
        say "same$number" "$(grep -E '^(naa|eui)\.' "$sys/device/wwid")"
        say "holders$number" "$(holders "$sys")" ;;
    regular*)
        id=${status#*|}
        [ -z "$loops" ] ||
            say "holders$number" "$(printf '%s\n' "$loops" | grep -F -- "${id%%|*} " | cut -d ' ' -f 2)" ;;
    *) continue ;;
    esac 2>/dev/null
    printf 'head%s ' "$number"
    { head -c "$SIZE" -- "$path" | base64 | tr -d '\n'; } 2>/dev/null
    printf '\n'
done
"""
)


def _look(hypervisor: Node, paths: Collection[str]) -> dict[str, Layer]:
    """Return the layers at *paths*. Raises ProbeError if the hypervisor does not answer."""
    layers: dict[str, Layer] = {}
    wanted = list(paths)
    script = _LOOK.replace('"$SIZE"', str(backing.HEAD))
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        result = limited.run_script(hypervisor.shell, _SECONDS, script, *some)
        if result.rc != 0:
            why = limited.why_failed(result, _SECONDS)
            raise ProbeError(f"looking at the images of all guests: {why}")
        answers = host_image.answers(
            result.stdout,
            "the answer of the hypervisor's shell about images cannot be parsed",
        )
        for number, path in enumerate(some, 1):
            layers[path] = _node(path, answers, number)
    return layers


def _node(path: str, answers: dict[str, bytes], number: int) -> Layer:
    def text(name: str) -> str:
        answer = answers.get(f"{name}{number}", b"")
        return answer.decode("utf-8", errors="replace").strip()

    if problem := text("error"):
        if problem.endswith(("No such file or directory", "Not a directory")):
            return Layer(folder=_FOLDER_STATES.get(text("folder"), "used"))
        return Layer(problem=problem[-200:])
    kind, _, rest = text("stat").partition("|")
    holders, head = tuple(text("holders").split()), answers.get(f"head{number}", b"")
    if kind.startswith("regular"):
        return Layer(f"file {rest.partition('|')[0]}", holders=holders, head=head)
    if kind == "block special file":
        major, minor = rest.split("|")[1:3]
        identity = f"device {int(major, 16)}:{int(minor, 16)}"
        below = frozenset(text("below").splitlines())
        return Layer(identity, below, text("same"), holders, head)
    if kind:
        return Layer(f"other {rest.partition('|')[0]}")
    return Layer(problem=f"{path}: reclaim cannot identify it")


#: the state of the folder of an absent path, by the answer of `_LOOK`
_FOLDER_STATES: dict[str, Literal["absent", "empty", "used"]] = {
    "": "absent",
    ".": "empty",
}


# Putting both together ------------------------------------------------------------------------


class FoundUse(NamedTuple):
    """A use, and the layer that it uses."""

    use: Use
    node: Layer

    @property
    def key(self) -> str:
        """Return the identity of the image; for an absent one, or no file, its place."""
        return self.node.identity or f"place {os.path.normpath(self.use.place)}"


@dataclass
class Chains:
    """Images by their identity, followed from overlay to base."""

    hypervisor: Node
    nodes: dict[str, Layer] = field(default_factory=dict)

    def follow(
        self, first: Iterable[Use]
    ) -> tuple[list[FoundUse], list[tuple[Use, str]]]:
        """Return every image that *first* lead to, and the uses without a known chain, each with the reason.

        Raises ProbeError.
        """
        followed: list[FoundUse] = []
        unclear: list[tuple[Use, str]] = []
        waiting = [use for use in dict.fromkeys(first) if use.place]
        seen: set[Use] = set()
        while waiting:
            self._ask(use.place for use in waiting)
            following: list[Use] = []
            for use in waiting:
                seen.add(use)
                used = FoundUse(use, self.nodes.get(use.place, Layer()))
                followed.append(used)
                try:
                    following += self._below(used)
                except (NotAssessable, ProbeError) as exc:
                    unclear.append((use, str(exc)))
            waiting = [use for use in dict.fromkeys(following) if use not in seen]
            if len(followed) + len(waiting) > _MOST:
                raise ProbeError(f"the guests' images lead to more than {_MOST} files")
        return followed, unclear

    def _ask(self, places: Iterable[str]) -> None:
        paths = {place for place in places if place.startswith("/")} - self.nodes.keys()
        self.nodes |= _look(self.hypervisor, sorted(paths)) if paths else {}

    def _below(self, used: FoundUse) -> list[Use]:
        """Return the images that the header of this one names. Raises NotAssessable if it cannot be read."""
        use = used.use
        if not self._has_header(used):
            return []
        names = backing.names(partial(self._read, used), use.format, use.place)
        folder = str(PurePosixPath(use.place).parent)
        below = []
        if names.backing:
            base = replace(use, writes=False, shared=False, depth=use.depth + 1)
            for place, kind in backing.locations(names.backing, folder, names.format):
                below.append(replace(base, place=place, format=kind))
        if names.data:
            for place, _ in backing.locations(names.data, folder, "raw"):
                below.append(replace(use, place=place, format="raw"))
        return below

    def _has_header(self, used: FoundUse) -> bool:
        """True if the header of this image may name others. Raises NotAssessable if it cannot be read."""
        use, node = used
        if use.boots:
            return False
        if node.problem:
            raise NotAssessable(node.problem)
        if use.place.startswith("volume:"):
            raise NotAssessable(
                f"libvirt does not report the place of its {use.place} is"
            )
        if use.place.startswith("json:"):
            raise NotAssessable("its name in QEMU's arguments is not understood")
        if use.format is not None and use.format not in backing.CHAINING:
            return False
        if not use.place.startswith("/"):
            return False
        if node.identity is None:
            if use.may_be_gone or node.folder == "used":
                return False  # an absent image stands on no other
            raise NotAssessable(
                f"{use.place} is not there, nor anything else in its folder"
            )
        if node.identity.startswith("other "):
            return False  # a character device, a folder: no image
        if use.depth >= _DEEPEST:
            raise NotAssessable(
                f"{use.place}: more than {_DEEPEST} images are in its backing chain"
            )
        return True

    def _read(self, used: FoundUse, offset: int, length: int) -> bytes:
        head = used.node.head
        if offset == 0 or offset + length <= len(head):
            return head[offset : offset + length]
        return host_image.read_bytes(self.hypervisor, used.use.place, offset, length)


# Answers --------------------------------------------------------------------------------------


@dataclass
class Survey:
    """The images of all guests of a hypervisor, by their identity and by the devices that they lie on."""

    chains: Chains
    found: dict[str, list[FoundUse]] = field(default_factory=dict)
    above: dict[str, list[FoundUse]] = field(default_factory=dict)
    same: dict[str, list[FoundUse]] = field(default_factory=dict)
    unclear: list[tuple[Use, str]] = field(default_factory=list)
    #: until when it serves those who only judge (time.monotonic)
    fresh: float = 0

    @classmethod
    def of(cls, hypervisor: Node) -> Survey:
        """Survey all guests. Raises ProbeError and libvirtError if the images of one cannot be found out."""
        started = time.monotonic()
        survey = cls(Chains(hypervisor))
        followed, survey.unclear = survey.chains.follow(_all(hypervisor))
        for used in followed:
            survey.found.setdefault(used.key, []).append(used)
            for identity in used.node.below:
                survey.above.setdefault(identity, []).append(used)
            if used.node.same:
                survey.same.setdefault(used.node.same, []).append(used)
        now = time.monotonic()
        survey.fresh = now + max(_FRESH, _TIMES_ITS_OWN * (now - started))
        return survey

    def touching(self, mine: FoundUse) -> Iterator[tuple[FoundUse, bool]]:
        """Yield every use of the image, or of a part or the whole of it, and True if it is the very same."""
        same = chain(self.found.get(mine.key, ()), self.same.get(mine.node.same, ()))
        for other in same:
            yield other, True
        below = (self.found.get(identity, ()) for identity in mine.node.below)
        for other in chain(self.above.get(mine.key, ()), *below):
            yield other, False


#: seconds for which a survey serves those who only judge, and how many times as long as it took; before anything is
#: opened all is read anew
_FRESH, _TIMES_ITS_OWN = 10.0, 20
_surveys: WeakKeyDictionary[Node, Survey] = WeakKeyDictionary()


def _survey(hypervisor: Node, *, lately: bool) -> Survey:
    known = _surveys.get(hypervisor)
    if not lately or known is None or time.monotonic() > known.fresh:
        known = _surveys[hypervisor] = Survey.of(hypervisor)
    return known


def users_of(
    hypervisor: Node, status: os.stat_result, *, lately: bool = False
) -> list[Use]:
    """Return the uses of a file or device of this machine that guests have, themselves or below an overlay.

    A use behind a header that cannot be read is not among them. *lately*: a survey of a moment ago will do.
    Raises ProbeError and libvirtError if the images of a guest cannot be found out.
    """
    file = FoundUse(Use("", "", "", None, writes=False), Layer(_identity(status)))
    survey = _survey(hypervisor, lately=lately)
    return [other.use for other, _ in survey.touching(file)]


@dataclass
class Holdings:
    """The images of one guest, by identity, and the devices and disks that they lie on."""

    images: set[str] = field(default_factory=set)
    below: set[str] = field(default_factory=set)
    same: set[str] = field(default_factory=set)
    #: the chain of one of its images is not known: it may share any
    is_unclear: bool = False

    def shares_with(self, other: Holdings) -> bool:
        """True if both have an image, a base or a device in common, or it is not known that they have none."""
        return (
            self.is_unclear
            or other.is_unclear
            or not self.images.isdisjoint(other.images | other.below)
            or not self.below.isdisjoint(other.images)
            or not self.same.isdisjoint(other.same)
        )


def holdings(hypervisor: Node) -> dict[str, Holdings]:
    """Return the holdings of every guest by name. Media that are only read, as a CD, and firmware are nobody's.

    Raises ProbeError and libvirtError if the images of a guest cannot be found out.
    """
    survey = Survey.of(hypervisor)
    held: dict[str, Holdings] = {}
    for used in chain.from_iterable(survey.found.values()):
        if used.use.boots or not (used.use.writes or used.use.depth):
            continue
        own = held.setdefault(used.use.guest, Holdings())
        own.images.add(used.key)
        own.below |= used.node.below
        own.same |= {used.node.same} - {""}
    for use, _ in survey.unclear:
        held.setdefault(use.guest, Holdings()).is_unclear = True
    return held


def _identity(status: os.stat_result) -> str:
    """Return the identity of a file or device of this machine, as `_LOOK` finds it."""
    if stat.S_ISBLK(status.st_mode):
        return f"device {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return f"file {status.st_dev}:{status.st_ino}"


def why_not_alone(
    guest: Guest, mine: Iterable[Use], *, lately: bool = False
) -> str | None:
    """Return why the images that *guest* would open (*mine*) must not be opened, with the other user, or None.

    An image that both sides only read is no clash, nor one that both share on purpose (`<shareable/>`).
    *lately*: a survey of a moment ago will do.
    """
    try:
        wanted = list(mine)
        if not any(use.writes for use in wanted):
            return None
        survey = _survey(guest.hypervisor, lately=lately)
        own, unclear = survey.chains.follow(wanted)
    except ProbeError as exc:
        return f"reclaim cannot find out who else uses its images: {exc}"
    except libvirt.libvirtError as exc:
        return f"reclaim cannot find out who else uses its images: libvirt: {libvirt_words(exc)}"
    for used in own:
        reason = _why_not_beside(used, survey, guest.name)
        if reason:
            return reason
    others = [pair for pair in survey.unclear if pair[0].guest != guest.name]
    return _why_not_for_the_host(own) or _why_not_known(own, unclear, others)


def _why_not_beside(mine: FoundUse, survey: Survey, guest: str) -> str | None:
    for other, same in survey.touching(mine):
        is_own = other.use.guest == guest and not (
            other.use.by_snapshot and other.use.depth
        )
        if is_own or not _is_taken(mine.use, other.use):
            continue
        name, theirs = printable(other.use.guest), printable(other.use.what)
        if other.use.depth:
            return f"the guest {name} uses {_place(mine)}, below an overlay ({theirs})"
        if not same:
            place = f"{printable(other.use.place)} ({theirs})"
            return (
                f"the guest {name} uses {place}, a part of {_place(mine)} or its whole"
            )
        if other.use.runs:
            return f"{name} runs on its image {_place(mine)}, as {theirs}"
        return f"the guest {name}, which is off, uses {_place(mine)} too, as {theirs}"
    return None


def _is_taken(mine: Use, other: Use) -> bool:
    """True if one of both would write to an image that the other relies on."""
    if not mine.writes:
        return mine.depth > 0 and other.writes and other.runs
    if other.depth > 0 or not mine.shared:
        return True
    return other.writes and not other.shared


def _place(used: FoundUse) -> str:
    return f"{printable(used.use.place)} ({printable(used.use.what)})"


#: in words, a holder that is no other device
_HOLDERS = {"mounted": "it is mounted there"}


def _why_not_for_the_host(own: list[FoundUse]) -> str | None:
    for used in own:
        if not used.use.writes or not used.node.holders:
            continue
        holders = [_HOLDERS.get(name, name) for name in used.node.holders]
        return f"the host itself uses {_place(used)}: {printable(', '.join(holders))}"
    return None


def _why_not_known(
    own: list[FoundUse], mine: list[tuple[Use, str]], unknown: list[tuple[Use, str]]
) -> str | None:
    """Return why the users of the images are not known: then none is opened.

    An image whose whole folder is absent cannot be opened anyway.
    """
    written = [used for used in own if used.use.writes and not used.use.may_be_gone]
    for used in written:
        if used.node.identity is None and used.node.folder != "absent":
            return (
                f"reclaim cannot find out who else uses {_place(used)}: it is not there"
            )
    if not any(used.node.identity for used in written):
        return None
    if mine:
        use, why = mine[0]
        image = f"{printable(use.place)} ({printable(use.what)})"
        return f"reclaim cannot find the backing files of {image}: {printable(why)}"
    if unknown:
        use, why = unknown[0]
        whose = f"the guest {printable(use.guest)} ({printable(use.what)})"
        back = "bring that back, or undefine the guest"
        return f"reclaim cannot find out whether {whose} depends on one of its images: {printable(why)} ({back})"
    return None
