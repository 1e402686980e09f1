"""What tests are built from: domain XML, the inside of a guest as values, guests of libvirt's test driver."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from reclaim.base.errors import AgentAbsent, ProbeError
from reclaim.base.verdict import Verdict
from reclaim.changes import trim
from reclaim.definition.compare import flattened
from reclaim.definition.domain import Definition
from reclaim.engine.engine import Engine, Mode, Subject, judge, subjects
from reclaim.engine.journal import Journal
from reclaim.handles import refusals
from reclaim.handles.agent import Agent
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.hypervisor import Hypervisor, connect
from reclaim.handles.node import Node
from reclaim.inside import facts
from reclaim.inventory import Inventory
from reclaim.requirement import Requirement, catalogue
from reclaim.space import free_space

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from reclaim.base.verdict import Result
    from reclaim.definition.machine_type import OfferedMachine
    from reclaim.inside.facts import Facts, Kernel

ROOT = Path(__file__).resolve().parent.parent
EMULATOR = "/usr/bin/qemu-system-x86_64"
#: a libvirt whose refusals are known
_LIBVIRT = 9_000_000
GIB = 1024**3
#: the run of pytest writes the documents that tests hold, and does not compare them
WRITES = os.environ.get("RECLAIM_DOCS") == "write"

# Domain XML -----------------------------------------------------------------------------------


def disk_xml(
    target: str = "vda",
    bus: str = "virtio",
    source: str | None = None,
    *,
    driver: str = "",
    device: str = "disk",
    inner: str = "",
) -> str:
    """One `<disk>`; *driver* are attributes beside name and type, *inner* are elements."""
    path = source or f"/images/{target}.qcow2"
    return (
        f"<disk type='file' device='{device}'><driver name='qemu' type='qcow2' {driver}/>"
        f"<source file='{path}'/><target dev='{target}' bus='{bus}'/>{inner}</disk>"
    )


def drive(unit: int, controller: int = 0) -> str:
    return f"<address type='drive' controller='{controller}' bus='0' target='0' unit='{unit}'/>"


def scsi_xml(index: int = 0, model: str | None = "virtio-scsi") -> str:
    return f"<controller type='scsi' index='{index}'" + (f" model='{model}'/>" if model else "/>")


#: the devices of a guest whose definition has nothing to mend
GOOD = (disk_xml("sda", "scsi", driver="discard='unmap'", inner=drive(0)), scsi_xml())


def pci_xml(slot: int, bus: int = 0, function: int = 0) -> str:
    """The address of a PCI device."""
    return f"<address type='pci' domain='0x0000' bus='0x{bus:02x}' slot='0x{slot:02x}' function='0x{function:x}'/>"


def uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def domain_xml(
    *devices: str,
    name: str = "one",
    machine: str | None = "pc-q35-7.2",
    arch: str = "x86_64",
    metadata: str = "",
    running: bool = True,
) -> str:
    """A definition that the test driver takes."""
    kind = f"<type arch='{arch}' machine='{machine}'>hvm</type>" if machine else "<type>hvm</type>"
    state = "" if running else "<test:runstate>5</test:runstate>"
    return (
        "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"
        f"<name>{name}</name><uuid>{uuid_of(name)}</uuid><metadata>{metadata}</metadata><memory>65536</memory>"
        f"<os>{kind}</os>{state}<devices><emulator>{EMULATOR}</emulator>{''.join(devices)}</devices></domain>"
    )


def node(folder: Path, *domains: str) -> str:
    """A private test driver with *domains*; returns its URI."""
    path = folder / "node.xml"
    path.write_text(f"<node>{''.join(domains)}</node>", encoding="utf-8")
    return f"test://{path}"


def opened(
    folder: Path, *domains: str, inventory: Inventory | None = None, offered: Iterable[OfferedMachine] = ()
) -> Hypervisor:
    """A hypervisor on a private test driver, whose QEMU offers the machine types *offered*.

    It refuses what QEMU refuses. The driver of a newer libvirt changes more of a running disk, and is asked to.
    """
    hypervisor = connect(node(folder, *domains), None, inventory or Inventory())
    hypervisor.refused_live.update(refusals.known(_LIBVIRT))
    hypervisor.machines = {("x86_64", EMULATOR): list(offered)}
    return hypervisor


def definition_of(guest: Guest) -> Definition:
    """The persistent definition as libvirt has it now."""
    guest.forget()
    return guest.persistent


def difference(before: Definition, after: Definition) -> tuple[Counter[str], Counter[str]]:
    """What went and what came, element by element."""
    old, new = flattened(before.root), flattened(after.root)
    return old - new, new - old


def executable(path: Path, text: str) -> Path:
    """Write a program, such as a script that takes the place of a tool."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def without_guestfs(folder: Path) -> Path:
    """A folder for PATH with every program of this machine but those of guestfs-tools."""
    programs = folder / "programs"
    programs.mkdir()
    for place in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in sorted(Path(place).glob("*")):
            link = programs / program.name
            if not program.name.startswith("virt-") and not link.is_symlink():
                link.symlink_to(program)
    return programs


def letters(number: int) -> str:
    """The name of a disk as the kernel counts: a, b, … z, aa, ab, …"""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(97 + rest) + text
    return text


# The inside -----------------------------------------------------------------------------------


def section(data: str | bytes, status: int = 0) -> bytes:
    """A section as facts.sh prints it."""
    raw = data.encode("utf-8", errors="surrogateescape") if isinstance(data, str) else data
    return raw + b"%03d" % status


#: the word that begins a section, if facts.sh is given none
MARK = b"reclaim-section"


def printed(sections: Mapping[str, bytes]) -> bytes:
    """What facts.sh prints."""
    return b"".join(b"%s %s\n%s\n" % (MARK, name.encode(), data) for name, data in sections.items()) + MARK + b" end\n"


def block(
    name: str,
    *children: dict[str, Any],
    type: str = "disk",  # noqa: A002
    size: int = 10 * GIB,
    disc_max: int = 1073741824,
    **more: Any,
) -> dict[str, Any]:
    """A block device as `lsblk --json --bytes` writes it."""
    found = {"name": name, "path": f"/dev/{name}", "type": type, "size": size, "ro": False, "fstype": None}
    found |= {"uuid": None, "label": None, "partuuid": None, "partlabel": None, "serial": None}
    found |= {"disc-max": disc_max, "disc-gran": 4096, **{key.replace("_", "-"): value for key, value in more.items()}}
    return found | ({"children": list(children)} if children else {})


def part(name: str, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    return block(name, *children, type=more.pop("type", "part"), **more)


def mounted(
    target: str, source: str, fstype: str = "ext4", options: str = "rw,relatime", **more: Any
) -> dict[str, Any]:
    """A mount as `findmnt --json --bytes --list` writes it."""
    found = {"target": target, "source": source, "fstype": fstype, "options": options, "uuid": None, "fsroot": "/"}
    return {**found, "size": 9 * GIB, "used": 2 * GIB, **more}


def _systemd(**properties: str) -> str:
    return "".join(f"{key}={value}\n" for key, value in properties.items())


TIMER = {"LoadState": "loaded", "ActiveState": "active", "SubState": "waiting", "UnitFileState": "enabled"}
#: ExecStart= of util-linux 2.38, as systemctl show writes it
EXEC_START = (
    "{ path=/sbin/fstrim ; argv[]=/sbin/fstrim --listed-in /etc/fstab:/proc/self/mountinfo --verbose "
    "--quiet-unsupported ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
)
SERVICE = {
    "LoadState": "loaded",
    "Result": "success",
    "ExecStart": EXEC_START,
    "ExecMainStatus": "0",
    "ExecMainStartTimestamp": "",
}
#: the inside of a Debian that has nothing to mend
FILES = {
    "/etc/fstab": "UUID=aaaa-1 / ext4 errors=remount-ro 0 1\n",
    "/etc/default/grub": 'GRUB_CMDLINE_LINUX=""\n',
    "/boot/grub/grub.cfg": "\tlinux /vmlinuz root=UUID=aaaa-1 ro quiet\n",
}
TOOLS = ("systemctl", "update-grub", "update-initramfs", "mkinitramfs", "findmnt", "fstrim")
MODULES = ("virtio_scsi", "sd_mod", "virtio_pci")


def _as_files(files: Mapping[str, str]) -> bytes:
    """As the script's `files` prints them."""
    contents = {path: text.encode("utf-8", errors="surrogateescape") for path, text in files.items()}
    sizes = b"".join(b"%s\n%d\n" % (path.encode(), len(data)) for path, data in contents.items())
    return b"%d\n%s%s" % (len(contents), sizes, b"".join(contents.values()))


@dataclass
class Inside:
    """The inside of a guest: values that a facts script reads, and commands that change them."""

    files: dict[str, str] = field(default_factory=lambda: dict(FILES))
    os: str = 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
    devices: list[dict[str, Any]] = field(
        default_factory=lambda: [block("vda", part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"))]
    )
    mounts: list[dict[str, Any]] = field(default_factory=lambda: [mounted("/", "/dev/vda1", uuid="aaaa-1")])
    links: dict[str, str] = field(default_factory=dict)
    sysfs: dict[str, str] = field(default_factory=dict)
    kernels: str = (
        "kernel 6.1.0-13-amd64\ninitramfs virtio_scsi\ninitramfs sd_mod\ninitramfs virtio_pci\ninitramfs virtio_blk\n"
    )
    debconf: str = ""
    #: the administrator's mount and swap units, by path
    units: dict[str, str] = field(default_factory=dict)
    #: unified kernel images and their command lines, by path
    unified: dict[str, str] = field(default_factory=dict)
    #: lines of grep -H on lvm.conf and system.devices
    lvm: str = ""
    system: str = "Linux"
    #: UUID, tab, kernel name of the members of each btrfs that is mounted
    btrfs: str = ""
    command_line: str = "root=UUID=aaaa-1 ro\n"
    #: dmsetup status --target thin-pool
    thin: str = ""
    #: lines of grep -H on what runs beside the boot
    named: str = ""
    #: KiB free on /boot
    boot_free: int = 400_000
    #: cron's lines that trim, as file, tab, line; and the daemons that run them
    cron: str = ""
    daemons: str = "cron\n"
    #: where its partitions and volumes lie, as the script says it
    layout: str = ""
    #: `zpool get -H -o name,value autotrim`
    zfs: str = ""
    #: `zpool list -vHP`
    vdevs: str = ""
    #: what looking inside ends with
    problem: ProbeError | None = None
    #: /proc/self/attr/current
    context: str = "unconfined\n"
    release: str = "6.1.0-13-amd64"
    timer: dict[str, str] = field(default_factory=lambda: dict(TIMER))
    service: dict[str, str] = field(default_factory=lambda: dict(SERVICE))
    #: `systemctl is-system-running`, then `systemctl list-units`
    systemd: str = "running\n"
    #: `ip -j address`
    addresses: list[dict[str, Any]] = field(default_factory=list)
    #: lines of /proc/swaps
    swaps: tuple[str, ...] = ()
    tools: tuple[str, ...] = TOOLS
    #: what a command does to the inside; it returns the exit status, or that and what it prints
    commands: dict[str, Callable[[Inside], int | tuple[int, bytes, bytes]]] = field(default_factory=dict)
    #: the answer of the script that reads the maps of the free space
    free_space: str = ""
    #: the mount points that the script which trims XFS by halves could not trim
    untrimmed: str = ""
    #: every command that was run, but for the facts script
    ran: list[str] = field(default_factory=list)

    def sections(self) -> dict[str, bytes]:
        """The sections that facts.sh would print."""
        units = {path: text for path, text in self.files.items() if path.startswith("/etc/systemd/system/")}
        boot = {path: text for path, text in self.files.items() if path != "/etc/fstab" and path not in units}
        free = (
            f"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 900000 1 {self.boot_free} 9% /boot\n"
        )
        return {
            "os": section(self.os),
            "kernel": section(f"{self.system} {self.release}\n"),
            "context": section(self.context),
            "cmdline": section(self.command_line),
            "fstab": section(self.files.get("/etc/fstab", ""), 0 if "/etc/fstab" in self.files else 1),
            "swaps": section("\n".join(("Filename Type Size Used Priority", *self.swaps)) + "\n"),
            "boot_files": section(_as_files(boot)),
            "units": section(_as_files(units)),
            "unified": section("".join(f"{path}\t{text}\n" for path, text in self.unified.items())),
            "lvm": section(self.lvm),
            "named": section(self.named),
            "boot_free": section(free),
            "lsblk": section(json.dumps({"blockdevices": self.devices})),
            "findmnt": section(json.dumps({"filesystems": self.mounts})),
            "links": section("".join(f"{path}\t{to}\n" for path, to in self.links.items())),
            "btrfs": section(self.btrfs),
            "thin": section(self.thin),
            "sysfs": section("".join(f"{name}\t{path}\n" for name, path in self.sysfs.items())),
            "layout": section(self.layout),
            "kernels": section(self.kernels),
            "debconf": section(self.debconf),
            "addresses": section(json.dumps(self.addresses)),
            "timer": self._unit(self.timer),
            "service": self._unit(self.service),
            "systemd": section(self.systemd),
            "cron": section(self.cron),
            "daemons": section(self.daemons),
            "zfs": section(self.zfs),
            "vdevs": section(self.vdevs),
            "tools": section("".join(f"{tool}\n" for tool in self.tools)),
        }

    def _unit(self, properties: Mapping[str, str]) -> bytes:
        """`systemctl show` as it answers; it fails if systemd does not run, or if it is not there."""
        return section(_systemd(**properties)) if "systemctl" in self.tools else section("", 1)

    def __post_init__(self) -> None:
        self.files.update(self.units)

    def facts(self, guest: str = "one", known: Sequence[Kernel] = ()) -> Facts:
        return facts.read(printed(self.sections()), guest, known)

    def run(self, command: str) -> tuple[int, bytes, bytes]:
        """Run *command*: the facts script, a file's new content, or one of `commands`."""
        if self.problem is not None:
            raise self.problem
        if command.endswith(facts.script()):
            return 0, printed(self.sections()), b""
        self.ran.append(command)
        words = shlex.split(command)
        if free_space.script() in words:
            return 0, self.free_space.encode(), b""
        if trim.xfs_script() in words:
            return 0, self.untrimmed.encode(), b""
        if words[:2] == ["/bin/sh", "-c"] and words[3] == "reclaim":
            return self._write(words)
        if command in self.commands:
            done = self.commands[command](self)
            return done if isinstance(done, tuple) else (done, b"", b"it failed\n" if done else b"")
        return 127, b"", b"not found\n"

    def _write(self, words: list[str]) -> tuple[int, bytes, bytes]:
        """The real script, on a copy of the file in a folder of its own; `verify` would look at this machine."""
        with tempfile.TemporaryDirectory() as folder:
            path, copy = words[4], Path(folder) / "file"
            if path in self.files:
                copy.write_bytes(self.files[path].encode("utf-8", errors="surrogateescape"))
            done = subprocess.run([*words[:4], str(copy), *words[5:7], ""], capture_output=True, check=False)
            self.files.pop(path, None)
            if copy.exists():
                self.files[path] = copy.read_bytes().decode("utf-8", errors="surrogateescape")
        return done.returncode, done.stdout, done.stderr


class InsideBackend(BaseBackend):  # type: ignore[misc]
    """testinfra's view of an `Inside`."""

    NAME = "inside"

    def __init__(self, inside: Inside) -> None:
        super().__init__("inside")
        self.inside = inside

    def decode(self, data: bytes) -> str:
        return data.decode("utf-8", errors="replace")

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        command = self.get_command(command, *args)
        status, stdout, stderr = self.inside.run(command)
        return self.result(status, command.encode(), stdout, stderr)


@dataclass(frozen=True)
class ScriptedAgent(Agent):
    """An agent whose answers are given; what has none is as if nothing listened."""

    answers: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

    def command(self, name: str, arguments: dict[str, Any] | None = None, *, seconds: int = 0) -> Any:
        del arguments, seconds
        if name not in self.answers:
            raise AgentAbsent(f"{self.name}: the guest agent does not answer")
        return self.answers[name]()


@dataclass(eq=False)
class InhabitedGuest(Guest):
    """A guest of the test driver with an inside made of values. The definition is libvirt's."""

    within: Inside = field(default_factory=Inside)
    answers: dict[str, Callable[[], Any]] = field(default_factory=dict)

    @property
    def agent(self) -> Agent:
        return ScriptedAgent(self.domain, self.name, self.answers)

    @property
    def agent_shell(self) -> Host:
        backend = InsideBackend(self.within)
        host = Host(backend)
        backend.set_host(host)
        return host


class HungUp:
    """What libvirt's handles are once its daemon is gone: every question fails."""

    def isAlive(self) -> bool:  # noqa: N802
        return False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*_arguments: Any) -> Any:
            libvirt.virResetLastError()  # or it would be the last error of this thread
            raise libvirt.libvirtError("client socket is closed")

        return ask


def hang_up(guest: Guest) -> None:
    """libvirt's daemon ends; it answers again to whoever connects anew."""
    hypervisor, domain, connection = guest.hypervisor, guest.domain, guest.hypervisor.connection

    def reconnect(_seconds: float) -> None:
        guest.domain, hypervisor.connection = domain, connection
        guest.forget()

    guest.domain = hypervisor.connection = HungUp()
    hypervisor.__dict__["reconnect"] = reconnect


def inhabited(
    folder: Path,
    inside: Inside,
    *devices: str,
    inventory: Inventory | None = None,
    offered: Iterable[OfferedMachine] = (),
    **domain: Any,
) -> InhabitedGuest:
    """The one guest, with *inside*, of a hypervisor that does not say it is the test driver."""
    hypervisor = opened(folder, domain_xml(*(devices or (disk_xml(),)), **domain), inventory=inventory, offered=offered)
    hypervisor.is_test_driver = False
    empty = hypervisor.guests[0]
    guest = InhabitedGuest(hypervisor, empty.domain, empty.name, empty.uuid, within=inside)
    hypervisor.guests[:] = [guest]
    return guest


# Judging and mending --------------------------------------------------------------------------


def hypervisor_of(guest: Guest) -> Hypervisor:
    """The hypervisor of *guest*, with all its guests."""
    assert isinstance(guest.hypervisor, Hypervisor)
    return guest.hypervisor


def engine(hypervisor: Node, folder: Path, mode: Mode = "fix", *, force: bool = False, restart: bool = False) -> Engine:
    """An engine with a journal of its own in *folder*."""
    number = len(list(folder.glob("journal-*")))
    path = folder / f"journal-{number}"
    path.mkdir()
    return Engine(hypervisor, mode, Journal(path / "journal.jsonl", hypervisor.uri, mode), restart, force)


def requirement(slug: str) -> Requirement:
    return catalogue()[slug]


def subject(guest: Guest, disk: str | None = None) -> Subject:
    return Subject(guest.hypervisor, guest, Disk(guest, disk) if disk else None)


def walk(one: Engine, guest: Guest, *slugs: str) -> list[Result]:
    """Run *slugs* (all where there is none) for *guest* as pytest would order them."""
    chosen = [one for one in catalogue().values() if (one.slug in slugs if slugs else not one.option)]
    return [one.run(each, subject) for each in chosen for subject in subjects(each, guest)]


@dataclass(frozen=True)
class Mended:
    """What a fixer did: the row, and what went from the definition and what came."""

    result: Result
    gone: Counter[str]
    came: Counter[str]


def mend(folder: Path, guest: Guest, slug: str, disk: str | None = None) -> Mended:
    """Refused → fixed → accepted → a second run proposes nothing; then what it took is the caller's to judge."""
    before = definition_of(guest)
    result = _refused_and_fixed(folder, slug, subject(guest, disk))
    gone, came = difference(before, definition_of(guest))
    now = guest.renamed.get(disk, disk) if disk else None
    guest.renamed.clear()  # another run knows nothing of this one's names
    _accepted(folder, slug, subject(guest, now))
    return Mended(result, gone, came)


def mend_subject(folder: Path, slug: str, asked: Subject) -> Result:
    """The same for what is no guest and no disk: the hypervisor, a copy, a job."""
    result = _refused_and_fixed(folder, slug, asked)
    _accepted(folder, slug, asked)
    return result


def _refused_and_fixed(folder: Path, slug: str, asked: Subject) -> Result:
    assert judge(requirement(slug), asked).verdict is Verdict.NONCOMPLIANT
    result = engine(asked.hypervisor, folder, force=True).run(requirement(slug), asked)
    assert result.verdict is Verdict.FIXED, result.reason
    assert all(change.applied for change in result.changes)
    return result


def _accepted(folder: Path, slug: str, asked: Subject) -> None:
    again = engine(asked.hypervisor, folder, force=True).run(requirement(slug), asked)
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def verdict_of(guest: Guest, slug: str, disk: str | None = None) -> Verdict:
    return judge(requirement(slug), subject(guest, disk)).verdict
