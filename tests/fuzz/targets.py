"""Every parser of what others have written, each with seeds and what must hold of any input.

A target takes bytes. It returns quietly, whatever they are; an `AssertionError` says what does not hold, and every
other exception is a fault of the parser: what is the project's own is handled here.
"""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import libvirt_qemu

from reclaim import inventory
from reclaim.backups import copy_names
from reclaim.base import text
from reclaim.base.errors import (
    NotApplicable,
    NotAssessable,
    Pending,
    ReclaimError,
    Withheld,
)
from reclaim.changes.kinds import to_json
from reclaim.changes.trim import Trim
from reclaim.definition.compare import flattened, same, storage_differences
from reclaim.definition.domain import Definition
from reclaim.engine import journal
from reclaim.engine.engine import judge, subjects
from reclaim.handles import agent, health, hypervisor
from reclaim.inside import facts, fstab, trim_schedule, units
from reclaim.inside.boot import cmdline, crypttab, grub, loaders
from reclaim.record import record
from reclaim.report import compare
from reclaim.requirement import catalogue
from reclaim.space import measured
from reclaim.storage import host_image, local_image, qcow2
from tests.fuzz import inside
from tests.fuzz.jobs import JOB_SEEDS, job, mended, owner_of, rsync_line, rsync_version
from tests.records import change, document, row, storage
from tests.support import Inside, disk_xml, domain_xml, drive, inhabited, opened, scsi_xml

#: what the project raises, each a line to the user
OURS = (ReclaimError, NotApplicable, NotAssessable, Withheld, Pending)
SEEDS = Path(__file__).parent / "seeds"


@dataclass(frozen=True)
class Target:
    """One parser: its name, what it begins from, what is done with an input."""

    name: str
    check: Callable[[bytes], None]
    given: list[bytes]
    #: function calls that an input may take for each of its bytes, beside a fixed number of them
    calls_a_byte: int = 300
    #: can an input be any number of seeds, one behind the other?
    repeats: bool = True

    @property
    def seeds(self) -> list[bytes]:
        """Its own, and what once was a fault."""
        kept = sorted((SEEDS / self.name).glob("*"))
        return [*self.given, *(path.read_bytes() for path in kept)]


TARGETS: dict[str, Target] = {}


def target(*seeds: bytes | str, **more: Any) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    def add(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
        name = check.__name__.replace("_", "-")
        given = [one.encode("utf-8", "surrogateescape") if isinstance(one, str) else one for one in seeds]
        TARGETS[name] = Target(name, check, given, **more)
        return check

    return add


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _shown(words: str) -> None:
    assert words.isprintable(), f"not to be shown: {words!r}"


# Inside a guest -------------------------------------------------------------------------------


@target(inside.FILES["/etc/fstab"])
def fstab_text(data: bytes) -> None:
    """Each entry, and each of its names replaced: nothing but the name differs."""
    lines = _text(data).split("\n")
    for entry in fstab.entries(_text(data)):
        assert entry.devices is not None
        assert isinstance(entry.opaque, tuple)
        _ = entry.tag, entry.is_optional
        line = lines[entry.number - 1]
        new = fstab.replace_device(line, entry.source, "UUID=zz")
        rest = new.replace("UUID=zz", "", 1)
        assert _is_subsequence(rest, line), f"{line!r} became {new!r}"


def _is_subsequence(short: str, long: str) -> bool:
    rest = iter(long)
    return all(character in rest for character in short)


@target(inside.FILES["/etc/fstab"])
def fstab_rewrite(data: bytes) -> None:
    """What was rewritten is rewritten no further, and lines without a bus name stay as they are."""
    before = _text(data)
    with suppress(*OURS):
        once = fstab.named_stably(inside.with_file("/etc/fstab", before))
        old, new = before.split("\n"), once.text.split("\n")
        assert len(old) == len(new)
        for line, other in zip(old, new, strict=True):
            assert line == other or "/dev/" in line or "=" in line, f"{line!r} became {other!r}"
        again = fstab.named_stably(inside.with_file("/etc/fstab", once.text))
        assert again.text == once.text, "rewriting twice is not rewriting once"


@target(inside.FILES["/etc/crypttab"])
def crypttab_text(data: bytes) -> None:
    before = _text(data)
    for entry in islice(crypttab.entries(before), 9):
        once = crypttab.with_discard(before, entry.name)
        assert crypttab.with_discard(once, entry.name) == once
        assert len(once.split("\n")) == len(before.split("\n"))
    with suppress(*OURS):
        for place in crypttab.places(inside.with_file("/etc/crypttab", before)):
            if place.after is not None:
                _same_but_names(place.before, place.after)
                again = crypttab.places(inside.with_file("/etc/crypttab", place.after))
                assert all(one.after in (None, place.after) for one in again)


#: a line that a mend may write anew as a whole: all of mdadm's DEVICE lines, grubenv's padding
_WHOLE = re.compile(r"DEV(ICE)?\b|#", re.IGNORECASE)


def _same_but_names(before: str, after: str) -> None:
    """Lines that name no device are as they were."""
    old, new = before.split("\n"), after.split("\n")
    assert len(old) == len(new)
    for line, other in zip(old, new, strict=True):
        names = "/dev/" in line or "UUID" in line.upper() or _WHOLE.match(line)
        assert line == other or names, f"{line!r} became {other!r}"


@target(*inside.UNITS.values())
def unit_text(data: bytes) -> None:
    before = _text(data)
    units.names(before)
    once = units.named_stably(inside.facts(), before)
    again = units.named_stably(inside.facts(), once.text)
    assert again.text == once.text
    assert re.fullmatch(r"[A-Za-z0-9:_.\\-]*", units.escaped(before[:100]))


@target(
    "root=/dev/vda1 ro resume=/dev/vda2 cryptdevice=/dev/vda3:root rootflags=device=/dev/vdb root=8:1 root=801",
    'root="/dev/vda1" resume=LABEL=x',
)
def command_line(data: bytes) -> None:
    before = _text(data)
    cmdline.names(before)
    once = cmdline.named_stably(inside.facts(), before)
    assert cmdline.named_stably(inside.facts(), once) == once


@target(inside.FILES["/etc/default/grub"])
def grub_defaults(data: bytes) -> None:
    before = _text(data)
    grub.default_names(before)
    once = grub.defaults_named_stably(inside.facts(), before)
    assert grub.defaults_named_stably(inside.facts(), once) == once
    _places("/etc/default/grub", before)


def _places(path: str, before: str) -> None:
    """Every place of the boot with this text: what it would write is written once."""
    with suppress(*OURS):
        for place in loaders.places(inside.with_file(path, before)):
            str(place)
            if place.path != path or place.after is None:
                continue
            _same_but_names(place.before, place.after)
            again = loaders.places(inside.with_file(path, place.after))
            assert all(one.after in (None, place.after) for one in again if one.path == path), "not written once"


@target(inside.FILES["/boot/grub/grub.cfg"])
def grub_menu(data: bytes) -> None:
    list(grub.kernel_lines(_text(data)))
    _places("/boot/grub/grub.cfg", _text(data))


@target(inside.FILES["/boot/grub2/grubenv"])
def grub_environment(data: bytes) -> None:
    _places("/boot/grub2/grubenv", _text(data))


@target(inside.FILES["/boot/loader/entries/a.conf"], inside.FILES["/boot/extlinux/extlinux.conf"])
def boot_entry(data: bytes) -> None:
    _places("/boot/loader/entries/a.conf", _text(data))
    _places("/boot/extlinux/extlinux.conf", _text(data))


@target(inside.FILES["/etc/mdadm/mdadm.conf"], "MAILADDR root\nDEV partitions\nARRAY /dev/md1 devices=/dev/vda1\n")
def mdadm_text(data: bytes) -> None:
    _places("/etc/mdadm/mdadm.conf", _text(data))


@target(inside.FILES["/etc/initramfs-tools/conf.d/resume"], inside.FILES["/etc/kernel/cmdline"])
def initramfs_text(data: bytes) -> None:
    _places("/etc/initramfs-tools/conf.d/resume", _text(data))
    _places("/etc/kernel/cmdline", _text(data))


@target(inside.LVM)
def lvm_and_others(data: bytes) -> None:
    """What grep finds in lvm.conf, in udev's rules, in the files of daemons."""
    with suppress(*OURS):
        loaders.places(inside.facts(lvm=_text(data), named=_text(data)))


@target(json.dumps({"blockdevices": inside.rich().devices}))
def lsblk_answer(data: bytes) -> None:
    with suppress(*OURS):
        found = inside.facts(lsblk=_text(data))
        for device in found.block_devices:
            for one in device.walk():
                found.stack(one)
        loaders.places(found)


@target(json.dumps({"filesystems": inside.rich().mounts}))
def findmnt_answer(data: bytes) -> None:
    with suppress(*OURS):
        found = inside.facts(findmnt=_text(data))
        trim_schedule.trimmable(found)
        trim_schedule.untrimmed(found)


@target(inside.rich().kernels)
def kernel_list(data: bytes) -> None:
    with suppress(*OURS):
        for kernel in inside.facts(kernels=_text(data)).kernels:
            kernel.has("virtio_scsi")
            assert kernel.initramfs_bytes >= 0


@target(*inside.seeds_of_answers(), calls_a_byte=3000, repeats=False)
def facts_answer(data: bytes) -> None:
    """A whole answer through every check, every fixer, the look at how it is, and measuring."""
    guest = _guest()
    guest.within.run = _answering(inside.gathered(data))
    guest.forget()
    guest._earlier = guest._way = None
    for requirement in _requirements():
        for subject in subjects(requirement, guest):
            judgement = judge(requirement, subject)
            assert not judgement.reason.startswith("a fault"), judgement.reason
            _shown(judgement.reason + judgement.evidence)
            with suppress(*OURS, libvirt.libvirtError):
                for change in requirement.fixer(*subject.arguments(requirement)):
                    json.dumps(to_json(change))
                    _ = change.diff, change.target
    with suppress(*OURS, libvirt.libvirtError):
        health.observe(guest)
    with suppress(*OURS, libvirt.libvirtError):
        measured.measure(guest.hypervisor, [guest], {}, after=True)


@cache
def _guest() -> Any:
    found = inhabited(_folder(), Inside())
    found.hypervisor.inventory = inventory.Inventory.model_validate({"policy": {"luks_discard": True}})
    return found


@cache
def _requirements() -> list[Any]:
    known = catalogue().values()
    return [one for one in known if one.stage != "backup" and one.parameters[0] != "job" and not one.option]


def _answering(output: bytes) -> Callable[[str], tuple[int, bytes, bytes]]:
    def run(command: str) -> tuple[int, bytes, bytes]:
        return (0, output, b"") if command.endswith(facts.script()) else (1, b"\xff\x1b[31m", b"<script>\n")

    return run


@cache
def _folder() -> Path:
    kept = tempfile.TemporaryDirectory(prefix="reclaim-fuzz-")
    _KEPT.append(kept)
    return Path(kept.name)


_KEPT: list[Any] = []

_ANSWERS = (
    {"return": {"pid": 7}},
    {"return": {"exited": True, "exitcode": 0, "out-data": "YQ==", "err-data": "Yg=="}},
    {"return": {"id": "debian", "pretty-name": "x"}},
    {"return": {"paths": [{"path": "/", "trimmed": 1}, {"path": "/x", "error": "e"}]}},
    {"return": [{"name": "eth0", "ip-addresses": [{"ip-address": "10.0.0.1", "prefix": 24}]}]},
    {"error": {"class": "CommandNotFound", "desc": "x"}},
)


@target(*(json.dumps(one) for one in _ANSWERS), repeats=False)
def agent_answer(data: bytes) -> None:
    """The same answer to whatever is asked."""
    words = data.decode("utf-8", "replace")
    asked = 0

    def answer(*_arguments: Any) -> str:
        nonlocal asked
        asked += 1
        return '{"return": {"pid": 1}}' if asked % 7 == 0 else words

    before = libvirt_qemu.qemuAgentCommand
    libvirt_qemu.qemuAgentCommand = answer
    try:
        _ask_all(agent.Agent(SimpleNamespace(), "g"))
    finally:
        libvirt_qemu.qemuAgentCommand = before


def _ask_all(one: agent.Agent) -> None:
    with suppress(*OURS):
        one.execute("/bin/x", ["a"], seconds=0)
    with suppress(*OURS):
        one.system()
    hypervisor = SimpleNamespace(strain=lambda: 1)
    guest = SimpleNamespace(agent=one, can_be_looked_into=True, name="g", hypervisor=hypervisor)
    with suppress(*OURS):
        Trim("g")._by_agent(guest)  # type: ignore[arg-type]
    with suppress(*OURS):
        health._by_agent(guest)  # type: ignore[arg-type]


# On the host ----------------------------------------------------------------------------------


def _header(version: int, **fields: int) -> bytes:
    """The header of a qcow2 image (docs/interop/qcow2.txt of QEMU)."""
    known = {"backing": 0, "length": 0, "bits": 16, "size": 1 << 30, "crypt": 0, "l1": 2, "snapshots": 0, "at": 0}
    known |= {"incompatible": 0, **fields}
    front = struct.pack(
        ">4sIQIIQIIQQIIQ",
        *(b"QFI\xfb", version, known["backing"], known["length"], known["bits"], known["size"], known["crypt"]),
        *(known["l1"], 65536, 65536, 1, known["snapshots"], known["at"]),
    )
    return front + struct.pack(">QQQII", known["incompatible"], 0, 0, 4, 104) + b'json:{"driver":"nbd"}' + bytes(100)


_HEADERS = (
    _header(3),
    _header(2),
    _header(3, backing=112, length=5),
    _header(3, snapshots=3, at=131072),
    _header(3, backing=2**63, length=5),
    _header(3, incompatible=4),
)


@target(*_HEADERS, repeats=False)
def qcow2_header(data: bytes) -> None:
    path = _folder() / "image.qcow2"
    path.write_bytes(data)
    os.truncate(path, 1 << 20)  # its tables lie within it
    with suppress(*OURS):
        descriptor, found = local_image.open_image(str(path))
        os.close(descriptor)
        if found.qcow2 is not None:
            assert found.qcow2.tables >= 0
            qcow2.snapshot_names(found.qcow2, data[72:], 5)


@target(*_HEADERS, repeats=False)
def raw_disk(data: bytes) -> None:
    """What a guest writes into its raw disk: the chain of images is followed no further than the host says."""
    path = _folder() / "raw.img"
    path.write_bytes(data)
    with suppress(*OURS):
        descriptor, _ = local_image.open_image(str(path))
        os.close(descriptor)


@target(b"\x00\x00\x00\x01" + bytes(12) + b"snap" + bytes(40), repeats=False)
def snapshot_table(data: bytes) -> None:
    path = _folder() / "snapshots.qcow2"
    path.write_bytes(_header(3, snapshots=3, at=131072))
    os.truncate(path, 1 << 20)
    descriptor, found = local_image.open_image(str(path))
    os.close(descriptor)
    assert found.qcow2 is not None
    with suppress(*OURS):
        for name in qcow2.snapshot_names(found.qcow2, data, 5):
            assert isinstance(name, str)


@target(
    b"stat regular file|1000|8|512|fd00|0|0\nreal /x\nfilesystem ext4\n",
    b"stat block special file|0|0|512|5|fd|3\nreal /x\ntable 0 100 linear 8:1 0\nstatus 0 100 thin 55 99\nmax 100\n",
    b"stat block special file|0|0|512|5|fd|1a00\nmapper LVM-x\nhead " + _HEADERS[0][:40].replace(b"\n", b"") + b"\n",
)
def host_image_look(data: bytes) -> None:
    said = b"".join(
        name + b" " + base64.b64encode(value) + b"\n"
        for name, _, value in (line.partition(b" ") for line in data.split(b"\n"))
    )
    result = SimpleNamespace(rc=0, stdout=said.decode("utf-8", "replace"), stderr="")
    owner: Any = SimpleNamespace(shell=SimpleNamespace(run=lambda *_: result), name="h", is_local=False)
    with suppress(*OURS):
        found = host_image.look(owner, "/x")
        _ = found.inside, found.folder
        host_image.header(owner, found)


# seven kinds of file, each read three times, loops turn by turn, as far as the budget of the reader goes
@target(*JOB_SEEDS, repeats=False, calls_a_byte=4000)
def backup_jobs(data: bytes) -> None:
    """A word lies inside its file; what a mend adds is added once, and everything else stays."""
    job(data)
    mended(_owner(), data)


@cache
def _owner() -> Any:
    folder = _folder() / "owner"
    folder.mkdir()
    disks = (disk_xml(source="/var/lib/libvirt/images/a.qcow2"), disk_xml("vdb", source="/a/b.qcow2"))
    return owner_of(opened(folder, domain_xml(*disks, running=False)))


@target(
    b"rsync -aAXvS --inplace --exclude=*.iso --filter='- /x/***' --include /y/ -e ssh -f '+ a' --link-dest=../1 "
    b"--files-from=x /var/lib/libvirt/images/ /var/lib/./libvirt host:/b/"
)
def rsync_words(data: bytes) -> None:
    rsync_line(_text(data))


@target(b"rsync  version 3.2.7  protocol version 31\n")
def rsync_says(data: bytes) -> None:
    rsync_version(_text(data))


# What the user and the project itself wrote ---------------------------------------------------


@target(
    b'[policy]\nboot_seconds = 600\nmachine = "minimum"\n[[ssh]]\nguests=["web*"]\nuser="admin"\nsudo=true\n'
    b'[guest.db]\nthick=true\n[guest.db.waive]\ndisk-bus="x"\n[[backup]]\npath="/b"\nguests=["*"]\nimages=["/x"]\n'
    b'[guest."w*".waive]\ndisk-bus={reason="it is old",until=2027-01-31}\n'
    b'[[window]]\ndays=["sat"]\nfrom="22:00"\nto="04:00"\nzone="Europe/Vienna"\n',
    repeats=False,
)
def inventory_file(data: bytes) -> None:
    path = _folder() / "inventory.toml"
    path.write_bytes(data)
    try:
        found = inventory.read_inventory(path)
        found.ssh_of("web1")
        found.notes("db")
        found.on_hypervisor("kvm1").windows_of("web1")
    except ReclaimError as exc:
        _shown(text.printable(str(exc)))
        if str(path) not in str(exc):
            raise AssertionError("it does not say which file") from exc


_INTENT: dict[str, Any] = {"event": "intent", "seq": 1, "guest": "g", "uuid": "u", "requirement": "r"}
_FILE = {"kind": "file", "place": "g", "path": "/etc/fstab", "before": "a", "after": "b", "verify": None, "then": None}
_CYCLE = {"kind": "power-cycle", "guest": "g", "booted": "<domain/>", "before": None, "why": "", "defined": ""}
_JOURNAL = (
    {"event": "begin", "uri": "test:///default", "mode": "fix", "inventory": None},
    {**_INTENT, "change": {**_FILE, "devices": []}},
    {"event": "done", "seq": 1, "outcome": {}},
    {**_INTENT, "seq": 2, "change": _CYCLE},
    {**_INTENT, "seq": 3, "change": {"kind": "definition", "name": "g", "before": "<domain/>", "after": "<domain/>"}},
    {"event": "unknown", "seq": 2, "reason": "x"},
    {"event": "undone", "seq": 1, "reason": "x"},
    {"event": "end"},
)


@target("".join(json.dumps(one) + "\n" for one in _JOURNAL))
def journal_file(data: bytes) -> None:
    path = _folder() / "journal.jsonl"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        found = journal.read(path)
        _ = found.applied, found.interrupted, found.left_only_boots, found.power_cycles
        for entry in found.entries:
            assert isinstance(entry.change.target, str)
            found.defined_since_start(entry)
    except ReclaimError as exc:
        _shown(text.printable(str(exc)))


@target(json.dumps(document([row("disk-discard", "fixed", changes=[change()])], [storage()])), repeats=False)
def results_file(data: bytes) -> None:
    folder = _folder() / "run"
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_bytes(data)
    try:
        found = record.read(folder)
        for line in compare.lines(compare.compare([found], found)):
            _shown(line)
    except ReclaimError as exc:
        _shown(text.printable(str(exc)))


# Names, definitions, addresses ----------------------------------------------------------------


@target("web-2024-01-01.qcow2.bak-2", "/x/y z.img", "\x1b[31m\u202e")
def names_and_words(data: bytes) -> None:
    words = _text(data)
    copy_names.stem("/x/" + words)
    copy_names.stream("/x/" + words)
    _shown(text.printable(words))
    assert all(one.isprintable() for one in text.printable(words, lines=True).split("\n"))


@target("qemu+ssh://root@[::1]:22/system?socket=/x", "test:///default", "ssh://root@kvm1?port=2")
def addresses(data: bytes) -> None:
    words = _text(data)
    with suppress(*OURS, ValueError):  # urlsplit's own for a bad port: told by connect as --hosts' or --uri's
        hypervisor.host_of(words)
    with suppress(*OURS):
        hypervisor.uri_of(words)


_DISK = disk_xml("sda", "scsi", driver="discard='unmap'", inner=drive(0))


@target(domain_xml(disk_xml("vda"), _DISK, scsi_xml()), domain_xml(disk_xml(), metadata="<x/>"), repeats=False)
def domain_definition(data: bytes) -> None:
    """libvirt's own XML, and what another's might be: an edit that changes nothing changes nothing."""
    with suppress(*OURS):
        found = Definition(_text(data))
        flattened(found.root)
        for disk in found.disks:
            _ = disk.path, disk.address, disk.identity, disk.element
        _ = found.machine, found.arch, found.emulator, found.is_windows, found.kernel_parameters, found.scsi_controllers
        assert same(found, found.edit().definition)
        assert storage_differences(found, found) == []


def chosen(names: list[str]) -> Iterator[Target]:
    """The targets of these *names*; all where there is none."""
    yield from (TARGETS[name] for name in names or TARGETS)
