"""A shell in a guest by ssh, through testinfra's own backend: the second way in, only if the inventory names it.

The guest is not trusted, and neither is its address: DHCP may have given it to another machine. Host keys are never
learned by themselves, each script sees that it runs in this guest before it does anything, and its output is
bounded in time and size.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
import shlex
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import libvirt
from testinfra.backend.base import CommandResult
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from reclaim.base.errors import NoAccess, ProbeError, TimedOut, Unreachable
from reclaim.base.text import last_words, libvirt_words, printable
from reclaim.definition.domain import Definition
from reclaim.handles.agent import COMMAND_SECONDS, OUTPUT_BYTES, Agent
from reclaim.handles.node import Node
from reclaim.inventory import Ssh, table_of
from reclaim.processes import child, shell_script, worker

#: seconds until a connection stands, and for the first answer over it
CONNECT_SECONDS = 30
_ANSWER_SECONDS = 60
#: seconds that an idle connection is kept
_KEPT_SECONDS = 120
#: seconds for ssh to end once the command has
_CLOSING_SECONDS = 1
#: seconds for ssh to close a connection
_CLOSED_SECONDS = 5
#: seconds until an sshd that holds us off is tried again: sshd_config(5) has 15 for the shortest of PerSourcePenalties
HELD_OFF_SECONDS = 20
_MOST_ADDRESSES = 4
_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
#: flags of an entry of /proc/net/arp without an answer
_INCOMPLETE = "0x0"

# A user's ssh_config(5) holds too, but these stand before it.
_STRICT = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "VerifyHostKeyDNS": "no",
    "CheckHostIP": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "EscapeChar": "none",
    "LogLevel": "ERROR",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
}

# Words that every login shell reads alike, csh and fish too: the script itself comes on standard input.
_REMOTE = "/bin/sh -c 'eval \"$(cat)\"'"

# One function, called in the last line: a script whose end was lost on the way does nothing.
# Who runs it and on which machine comes first; the marks keep the output of a user's start-up files apart.
# product_uuid: Linux' dmi-sysfs; vm,uuid: QEMU's spapr; /proc/sysinfo: s390's STSI.
_SCRIPT = """
reclaim() {
PATH=PROGRAMS:$PATH LC_ALL=C
export PATH LC_ALL
umask 022
cd /
uuid=
if [ -r /sys/class/dmi/id/product_uuid ]; then
    read -r uuid </sys/class/dmi/id/product_uuid
elif [ -r /proc/device-tree/vm,uuid ]; then
    uuid=$(tr -d '\\0' </proc/device-tree/vm,uuid)
elif [ -r /proc/sysinfo ]; then
    uuid=$(sed -n 's/^VM00 UUID: *//p' /proc/sysinfo)
fi
id=$(id -u)
printf '%s is %s %s\\n' MARK "$id" "${uuid:--}"
case $id/$uuid in
EXPECTED) ;;
*) exit 0 ;;
esac
printf '%s begin\\n' MARK >&2
set -- COMMAND
if command -v timeout >/dev/null 2>&1; then
    timeout -k 5 SECONDS /bin/sh -c "$1" </dev/null
else
    /bin/sh -c "$1" </dev/null
fi
status=$?
printf '%s end %d\\n' MARK $status
printf '%s end %d\\n' MARK $status >&2
}
reclaim
""".replace("PROGRAMS", shell_script.PATH)


class SshRefused(NoAccess):
    """ssh does not get in, and nothing was run."""


class HeldOff(SshRefused):
    """Its sshd ends our connections before a log-in; that may pass."""


class OtherMachine(ProbeError):
    """Another machine answers, not this guest; the command was not run there."""


@dataclass(frozen=True)
class Address:
    """An address or a host name, and its source."""

    host: str
    source: str

    def __str__(self) -> str:
        return f"{self.host} ({self.source})"


class Reached(Protocol):
    """A guest, as far as it has to be known to be reached by ssh."""

    name: str
    uuid: str
    domain: libvirt.virDomain
    hypervisor: Node

    @property
    def live(self) -> Definition | None: ...
    @property
    def persistent(self) -> Definition: ...
    @property
    def agent(self) -> Agent: ...
    @property
    def run_id(self) -> int: ...


@dataclass(frozen=True)
class Connection:
    """ssh into one guest, for as long as the QEMU with the domain ID `run` runs."""

    host: Host
    backend: GuestSsh
    address: Address
    run: int

    def close(self) -> None:
        self.backend.hang_up()


def connect(guest: Reached, settings: Ssh) -> Connection:
    """Reach *guest* as *settings* demand, at the first of its addresses that lets us in and is this guest.

    Raises the error of the first of them: SshRefused with a remedy, or OtherMachine; and ProbeError if one does
    not answer in time.
    """
    run = guest.run_id
    problems: list[ProbeError] = []
    for address in islice(addresses(guest, settings), _MOST_ADDRESSES):
        backend = GuestSsh(guest, settings, address)
        try:
            _expect_answer(backend)
        except (SshRefused, OtherMachine) as exc:
            backend.hang_up()
            problems.append(exc)
            continue
        except BaseException:
            backend.hang_up()
            raise
        host = Host(backend)
        backend.set_host(host)
        return Connection(host, backend, address, run)
    raise problems[0]


def _expect_answer(backend: GuestSsh) -> None:
    """Run nothing in the guest. An sshd that holds us off is tried once more. Errors are those of a run."""
    try:
        backend.run(":", seconds=_ANSWER_SECONDS)
    except HeldOff:
        backend.hang_up()
        worker.sleep(HELD_OFF_SECONDS)
        backend.run(":", seconds=_ANSWER_SECONDS)


# Addresses ------------------------------------------------------------------------------------


def addresses(guest: Reached, settings: Ssh) -> Iterator[Address]:
    """Yield the addresses of *guest*: from the inventory, else from libvirt's leases, its agent and the ARP table.

    Of one source in the order of the definition's interfaces, IPv4 before IPv6, then by number. The next source is
    asked when it is its turn. Raises SshRefused if none knows any.
    """
    if settings.address is not None:
        yield Address(settings.address, "inventory")
        return
    root = (guest.live or guest.persistent).root
    macs = [
        mac.get("address", "").lower() for mac in root.iterfind("devices/interface/mac")
    ]
    troubles = []
    seen: set[str] = set()
    for source, look_up in _sources(guest).items():
        try:
            known = look_up()
        except libvirt.libvirtError as exc:
            troubles.append(f" ({source}: {libvirt_words(exc)})")
            continue
        for ip in map(str, _in_order(known, macs)):
            if ip not in seen:
                seen.add(ip)
                yield Address(ip, source)
    if not seen:
        raise SshRefused(
            f"{guest.name}: its address is not known: no DHCP lease of libvirt's networks, not reported by its agent, "
            f"not in the host's ARP table{''.join(troubles)}; give it one in the inventory "
            f'([{table_of(guest.name)}.ssh]: address = "…")'
        )


def _sources(guest: Reached) -> dict[str, Callable[[], list[tuple[str, str]]]]:
    """Return the functions that look up pairs of MAC address and IP address, by the name of their source."""
    leases = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE
    return {
        "libvirt's leases": partial(_told_by_libvirt, guest, leases),
        "its agent": partial(_told_by_agent, guest),
        "the host's ARP table": partial(_told_by_arp, guest),
    }


def _in_order(known: list[tuple[str, str]], macs: list[str]) -> list[_Ip]:
    """Return the usable addresses of the interfaces with *macs*, each once for each interface."""
    usable: set[tuple[int, _Ip]] = set()
    for mac, text in known:
        ip = _usable(text) if mac in macs else None
        if ip is not None:
            usable.add((macs.index(mac), ip))
    ordered = sorted(usable, key=lambda pair: (pair[0], pair[1].version, int(pair[1])))
    return [ip for _, ip in ordered]


def _told_by_libvirt(guest: Reached, source: int) -> list[tuple[str, str]]:
    try:
        interfaces = guest.domain.interfaceAddresses(source, 0)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (
            libvirt.VIR_ERR_NO_SUPPORT,
            libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
        ):
            return []
        raise
    return [
        (str(interface.get("hwaddr") or "").lower(), str(entry.get("addr")))
        for interface in interfaces.values()
        for entry in interface.get("addrs") or ()
    ]


def _told_by_arp(guest: Reached) -> list[tuple[str, str]]:
    """Return the table as libvirt reads it, else by proc(5): libvirt 9.0 fails on Linux 6.18 ("wrong nlmsg len")."""
    try:
        return _told_by_libvirt(guest, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP)
    except libvirt.libvirtError:
        listed = guest.hypervisor.shell.run("cat /proc/net/arp")
        if listed.rc != 0:
            raise
    lines = (line.split() for line in listed.stdout.splitlines()[1:])
    return [
        (columns[3].lower(), columns[0])
        for columns in lines
        if len(columns) == 6 and columns[2] != _INCOMPLETE
    ]


def _told_by_agent(guest: Reached) -> list[tuple[str, str]]:
    """Return the addresses that the guest claims, by its agent: it may claim any, and the host key decides."""
    try:
        interfaces = guest.agent.interfaces()
    except ProbeError:
        return []  # there are other sources; the agent's own row reports why it does not answer
    known = []
    for interface in interfaces:
        known += [(interface.mac, address) for address in interface.addresses]
    return known


def _usable(text: str) -> _Ip | None:
    """Return the address in *text*, unless it is one that leads to another machine from another place.

    A zone (RFC 4007) is of this machine alone, and Python takes any text for one: the guest's words would become ours.
    """
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if "%" in text:
        return None
    odd = (
        ip.is_loopback
        or ip.is_link_local
        or ip.is_multicast
        or ip.is_unspecified
        or ip.is_reserved
    )
    return None if odd else ip


# The backend ----------------------------------------------------------------------------------


# parts of the messages of sudo and of ssh(1)
_SUDO_ASKS = ("password is required", "terminal is required", "must have a tty")
_KEY_CHANGED = ("HAS CHANGED", "REVOKED")
_DENIED = ("Permission denied", "Too many authentication failures")
_BAD_SETTINGS = (
    "UNPROTECTED PRIVATE KEY",
    "Bad configuration option",
    "Bad owner or permissions",
)
# if sshd ends a connection before it has sent its version
_BEFORE_KEYS = "kex_exchange_identification: "
_ENDED = ("Connection reset by peer", "Connection closed by remote host")
_HELD_OFF = (
    "its sshd ended the connection before a log-in: {}; it may hold this address off (PerSourcePenalties or "
    "MaxStartups in its sshd_config), as after connections that never log in (ssh-keyscan, a monitoring): wait some "
    "minutes, or read its log in the guest"
)


def _has_one_of(signs: Iterable[str], said: str) -> bool:
    return any(sign in said for sign in signs)


def _is_ended(said: str) -> bool:
    """True if an sshd accepted the connection and ended it. OpenSSH 10 prints nothing then, at our LogLevel."""
    return not said.strip() or (_BEFORE_KEYS in said and _has_one_of(_ENDED, said))


class GuestSsh(SshBackend):  # type: ignore[misc]
    """testinfra's ssh backend, strict and bounded: COMMAND_SECONDS for a command, OUTPUT_BYTES of either output."""

    NAME = "ssh"

    def __init__(self, guest: Reached, settings: Ssh, address: Address) -> None:
        user = f"{quote(settings.user, safe='')}@" if settings.user else ""
        port = f":{settings.port}" if settings.port else ""
        self.guest_name = guest.name
        self.settings = settings
        self.address = address
        self.alias = None if settings.address else _alias(guest)
        self.through = _proxy(guest.hypervisor, settings)
        self.machines = _spellings(guest.uuid)
        options = dict(_STRICT)
        if self.alias:
            options["HostKeyAlias"] = self.alias
        if settings.known_hosts:
            options["UserKnownHostsFile"] = f'"{settings.known_hosts}"'
        if settings.key:
            options["IdentitiesOnly"] = "yes"
        if self.through:
            options["ProxyCommand"] = self.through
        super().__init__(
            f"{user}[{quote(address.host, safe=':')}]{port}",
            ssh_identity_file=str(settings.key) if settings.key else None,
            timeout=CONNECT_SECONDS,
            controlpath=str(guest.hypervisor.sockets / secrets.token_hex(6)),
            controlpersist=_KEPT_SECONDS,
            ssh_extra_args=shlex.join(
                part
                for name, value in options.items()
                for part in ("-o", f"{name}={value}")
            ),
        )

    @property
    def encoding(self) -> str:
        return "utf-8"  # testinfra would start a python3 in the guest to find out

    def decode(self, data: bytes) -> str:
        return data.decode("utf-8", errors="replace")

    def encode(self, data: str) -> bytes:
        return data.encode("utf-8", errors="surrogateescape")

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        """Run *command* in the guest as root, if it is this guest.

        Raises SshRefused or OtherMachine if it was not run, ProbeError if its end was not seen.
        """
        command = self.quote(command, *args)
        seconds = int(kwargs.get("seconds") or COMMAND_SECONDS)
        mark = secrets.token_hex(8)
        marks = _Marks(mark.encode())
        expected = "|".join(f"0/{machine}" for machine in self.machines)
        script = (
            _SCRIPT.replace("MARK", mark)
            .replace("SECONDS", str(seconds))
            .replace("EXPECTED", expected)
        )
        script = script.replace(
            "COMMAND", shlex.quote(command)
        )  # the last: it may hold any of these words
        status, stdout, stderr = self._call(
            self._argv(), self.encode(script), seconds + CONNECT_SECONDS + 10, marks
        )
        who = marks.identity(stdout)
        if who is None:
            raise self._refused(status, self.decode(stderr))
        self._expect_guest(*who)
        ended = marks.between(stdout, stderr)
        if ended is None:
            raise ProbeError(f"{self._where}: the connection broke while a command ran")
        return self.result(ended[0], self.encode(command), ended[1], ended[2])

    @property
    def _where(self) -> str:
        return f"{self.guest_name}: ssh to {self.address}"

    def _argv(self) -> list[str]:
        command, values = self._build_ssh_command(
            f"sudo -n {_REMOTE}" if self.settings.sudo else _REMOTE
        )
        return shlex.split(self.quote(" ".join(command), *values))

    def _call(
        self, argv: list[str], stdin: bytes, seconds: int, marks: _Marks
    ) -> tuple[int | None, bytes, bytes]:
        """Run ssh and return its exit status and both outputs. Raises SshRefused, ProbeError."""
        process = self._started(argv, stdin)
        try:
            stdout, stderr = self._heard(process, time.monotonic() + seconds, marks)
        except TimeoutError as exc:
            raise TimedOut(
                f"{self._where}: a command did not end within {seconds} s"
            ) from exc
        except OverflowError as exc:
            raise ProbeError(
                f"{self._where}: the output of a command has more than {OUTPUT_BYTES} bytes"
            ) from exc
        return process.poll(), stdout, stderr

    def _heard(
        self, process: subprocess.Popen[bytes], deadline: float, marks: _Marks
    ) -> tuple[bytes, bytes]:
        """Return both outputs of ssh. Raises TimeoutError, OverflowError; ssh and its connection end then."""
        stdout = stderr = bytearray()
        with process:
            try:
                for stdout, stderr in child.outputs(process, deadline, OUTPUT_BYTES):
                    worker.expect_wanted()
                    if marks.are_complete(stdout, stderr):
                        break  # its background processes may keep the connection busy: that is not waited for
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_CLOSING_SECONDS)
            except BaseException:
                self.hang_up()
                child.end(process)
                raise
            finally:
                process.kill()
        return bytes(stdout), bytes(stderr)

    def _started(self, argv: list[str], stdin: bytes) -> subprocess.Popen[bytes]:
        """Start ssh, with *stdin* in a file. Raises SshRefused if it is not installed."""
        with tempfile.TemporaryFile() as script:
            script.write(stdin)
            script.seek(0)
            try:
                return child.start(argv, stdin=script, environment=child.c_locale())
            except FileNotFoundError as exc:
                raise SshRefused(
                    f"{self._where}: there is no ssh here: install openssh-client"
                ) from exc

    def _expect_guest(self, user: str, machine: str) -> None:
        if user != "0":
            raise SshRefused(
                f"{self._where}: it is not root there (uid {printable(user)[:20]}): set sudo = true, or another user"
            )
        if machine == "-":
            raise SshRefused(
                f"{self._where}: reclaim cannot verify that it is this guest: it shows no machine UUID"
            )
        if machine not in self.machines:
            raise OtherMachine(
                f"{self._where}: another machine answers there (UUID {printable(machine)[:40]}); nothing was run on it"
            )

    def _refused(self, status: int | None, said: str) -> ProbeError:
        """Return the error for the message of ssh, or of sudo, that ran no command."""
        ending = last_words(said, most=2)
        if status == 255 and not self.through and _is_ended(said):
            return HeldOff(f"{self._where}: {_HELD_OFF.format(ending)}")
        if status == 255:  # ssh(1): it is its own
            reason = self._why_not_connected(said, ending)
        elif _has_one_of(_SUDO_ASKS, said):
            reason = (
                "sudo asks for a password: allow it in the guest (sudoers: "
                f"{self.host.user or 'the user'} ALL=(ALL) NOPASSWD: ALL), or name another user"
            )
        else:
            reason = f"it runs no shell for this login: {ending}"
        return SshRefused(f"{self._where}: {reason}")

    def _why_not_connected(self, said: str, ending: str) -> str:
        """Return why ssh itself failed, by its message; *ending* is the end of that, fit to be shown."""
        is_unknown = "host key" in said.lower() and "known" in said
        if is_unknown or "Host key verification failed" in said:
            return self._host_key(changed=_has_one_of(_KEY_CHANGED, said))
        if _has_one_of(_DENIED, said):
            return f"it refuses the login: {ending}; name the user and the key in the inventory"
        if _has_one_of(_BAD_SETTINGS, said):
            return ending
        reason = f"it does not answer: {ending}"
        if self.through:
            # ssh(1) drops the messages of a ProxyCommand if a connection is kept
            port = str(self.host.port or 22)
            hop = self.through.replace("%h", self.address.host).replace("%p", port)
            hop = hop.replace("%%", "%")
            reason += f"; the connection goes through the hypervisor: try {hop}"
        return reason

    def _host_key(self, *, changed: bool) -> str:
        name = self.alias or (
            f"[{self.address.host}]:{self.host.port}"
            if self.host.port
            else self.address.host
        )
        file = self.settings.known_hosts or "~/.ssh/known_hosts"
        if changed:
            return (
                f"the host key is not the one that is known as {name}: another machine, or a guest that was installed "
                f"anew; nothing was run. In the latter case: ssh-keygen -f {file} -R {name}, then add the new key"
            )
        port = f"-p {self.host.port} " if self.host.port else ""
        # one type is one connection: sshd counts those without a log-in
        scan = f"ssh-keyscan -t ed25519 {port}{self.address.host}"
        if self.alias:
            scan += f" | sed 's/^[^ ]*/{self.alias}/'"
        return (
            f"its host key is not known as {name}: {scan} >>{file}"
            f"{' (scan on the hypervisor)' if self.through else ''}, once ssh-keygen -lf {file} shows the same as "
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the guest's console"
        )

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if not Path(str(self.controlpath)).exists():
            return
        argv = [
            "ssh",
            "-o",
            f"ControlPath={self.controlpath}",
            "-O",
            "exit",
            "--",
            "guest",
        ]
        with contextlib.suppress(TimeoutError, OverflowError):
            child.run_limited(argv, _CLOSED_SECONDS, OUTPUT_BYTES)
        Path(str(self.controlpath)).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Marks:
    """The marks at which a command's outputs begin and end among other output of the connection."""

    mark: bytes

    def identity(self, stdout: bytes) -> tuple[str, str] | None:
        """Return user and machine, as the guest reports them; None if the script did not begin."""
        match = re.search(
            rb"^(?:.*)" + self.mark + rb" is (\S{1,20}) (\S{1,64})$",
            stdout,
            re.MULTILINE,
        )
        if match is None:
            return None
        user, machine = match.groups()
        return user.decode("ascii", "replace"), machine.decode("ascii", "replace")

    def are_complete(self, stdout: bytearray, stderr: bytearray) -> bool:
        return self._end(stdout) is not None and self._end(stderr) is not None

    def between(self, stdout: bytes, stderr: bytes) -> tuple[int, bytes, bytes] | None:
        """Return exit status and outputs of the command; None if it did not come to its end."""
        ended, ended_beside = self._end(stdout), self._end(stderr)
        if ended is None or ended_beside is None:
            return None
        _, began, said = stdout[: ended.start()].partition(self.mark + b" is ")
        _, began_beside, said_beside = stderr[: ended_beside.start()].partition(
            self.mark + b" begin\n"
        )
        if not (began and began_beside):
            return None
        return int(ended[1]), said.partition(b"\n")[2], said_beside

    def _end(self, output: bytes | bytearray) -> re.Match[bytes] | None:
        """Return the match of the last mark, which is the script's.

        Earlier output of the command may look like it, and does not count.
        """
        tail = output.rfind(self.mark + b" end ")
        if tail < 0:
            return None
        return re.compile(self.mark + rb" end (\d{1,3})\n").match(output, tail)


def _alias(guest: Reached) -> str:
    """Return the name that the guest's host key is known by, whatever address it has: the guest's, else its UUID."""
    name = guest.name.lower()  # ssh(1) compares in lower case
    return name if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) else guest.uuid


def _spellings(text: str) -> list[str]:
    """Return the UUID of a machine as its kernel may print it.

    SMBIOS before 2.6 left the order of bytes in the first three fields open, and kernels print either case.
    """
    machine = uuid.UUID(text)
    swapped = uuid.UUID(bytes_le=machine.bytes)
    lower = [str(machine), str(swapped)]
    return [spelling for name in lower for spelling in (name, name.upper())]


def _proxy(hypervisor: Node, settings: Ssh) -> str | None:
    """Return the way through a hypervisor on another machine: guests have their addresses in its networks.

    Raises SshRefused if the hypervisor is not reached by ssh. An address of the inventory is reached from here.
    """
    if hypervisor.is_local or settings.address is not None:
        return None
    backend = hypervisor.shell.backend
    if not isinstance(backend, SshBackend):
        raise SshRefused(
            f"{hypervisor.name} is not reached by ssh, so its guests are not either: give them an address in the "
            "inventory that leads there from here"
        )
    command = ["ssh"]
    for name in ("BatchMode=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR"):
        command += ["-o", name]
    for option, value in (
        ("-F", backend.ssh_config),
        ("-i", backend.ssh_identity_file),
        ("-l", backend.host.user),
        ("-p", backend.host.port),
    ):
        if value:
            command += [option, value]
    master = getattr(backend, "master", None)
    if master is not None:
        try:
            master.try_open()
        except Unreachable as exc:
            raise SshRefused(str(exc)) from exc
        command += master.options
    quoted = [shlex.quote(word).replace("%", "%%") for word in command]
    host = shlex.quote(backend.host.name).replace("%", "%%")
    return " ".join([*quoted, "-W", "'[%h]:%p'", "--", host])
