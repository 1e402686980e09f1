"""Makes, uses and removes the lab's guests.

`create` makes one and waits until it answers; `run` runs a command in it, `churn` makes its image grow, `allocated`
says what the image takes; `shutdown` and `start` are a power cycle; `destroy` leaves nothing of it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import libvirt

from lab import (
    agent,
    domain,
    host,
    image,
    machines,
    mounts,
    paths,
    recipes,
    ssh,
    stores,
    tools,
    unused,
)
from lab.agent import Output
from lab.error import LabError

BOOT_SECONDS = 300.0
"""The limit for a guest to answer after its start: it takes 15-25 s under emulation on two idle cores."""
SHUTDOWN_SECONDS = 120.0


@dataclass(frozen=True)
class LabGuest:
    """A guest of the lab: its domain's name, its disk image, and the file its serial console is written to.

    `ssh_port` is the port on 127.0.0.1 that leads to its sshd, where it has one: the way in if it has no `agent`.
    """

    name: str
    image: Path
    console: Path
    ssh_port: int | None = None
    agent: bool = True

    @property
    def known_hosts(self) -> Path:
        """Where the lab keeps the key of its sshd."""
        return self.image.with_suffix(".known_hosts")


def create(
    name: str,
    recipe: str = "article",
    *,
    machine: str = machines.OLD,
    bus: str = "virtio",
    discard: str | None = None,
    memory_mib: int = 512,
    vcpus: int = 2,
) -> LabGuest:
    """Make a guest, start it, and return it when its agent answers.

    Raises LabError where the name is taken or not the lab's, a tool fails, or the agent does not answer in time:
    then the guest is removed again, and the error has its console's last lines.
    """
    guest = define(
        name,
        recipe,
        machine=machine,
        bus=bus,
        discard=discard,
        memory_mib=memory_mib,
        vcpus=vcpus,
    )
    try:
        start(guest)
        wait(guest, BOOT_SECONDS)
    except LabError:
        destroy(name)
        raise
    return guest


def define(
    name: str,
    recipe: str = "article",
    *,
    machine: str = machines.OLD,
    bus: str = "virtio",
    discard: str | None = None,
    memory_mib: int = 512,
    vcpus: int = 2,
) -> LabGuest:
    """Make a guest and return it, not started; on the next newer `machine` that boots if this QEMU lacks it.

    Raises LabError where the name is taken or not the lab's, or a tool fails.
    """
    kind = recipes.recipe(recipe)
    guest = LabGuest(
        paths.checked(name),
        paths.image(name),
        paths.console(name),
        ssh.free_port() if kind.ssh else None,
        kind.agent,
    )
    connection = host.ensure_libvirt()
    if _found(connection, name) is not None:
        raise LabError(
            f"there is a guest {name} already; remove it first: python3 -m lab down {name}"
        )
    _delete_files(name)
    hardware = domain.Hardware(
        machines.here(machine),
        bus,
        discard,
        memory_mib,
        vcpus,
        guest.ssh_port,
        guest.agent,
    )
    try:
        image.instantiate(recipe, guest.image)
        xml = domain.definition(
            name, host.accelerator(), hardware, guest.image, guest.console
        )
        connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    except libvirt.libvirtError as error:
        _delete_files(name)
        raise LabError(
            f"libvirt does not take the definition of {name}: {error}"
        ) from None
    except LabError:
        _delete_files(name)
        raise
    return guest


def find(name: str) -> LabGuest:
    """Return the guest of that name. Raises LabError where the lab has none."""
    xml = lookup(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    forward = re.search(r"hostfwd=tcp:127\.0\.0\.1:(\d+)-", xml)
    return LabGuest(
        name,
        paths.image(name),
        paths.console(name),
        int(forward[1]) if forward else None,
        domain.AGENT in xml,
    )


def lookup(name: str) -> libvirt.virDomain:
    """Return the libvirt domain of a lab guest. Raises LabError where there is none."""
    dom = _found(host.ensure_libvirt(), paths.checked(name))
    if dom is None:
        raise LabError(f"there is no guest {name}")
    return dom


def start(guest: LabGuest) -> None:
    """Start a guest that is off. Raises LabError, with libvirt's words, where it does not start."""
    try:
        lookup(guest.name).create()
    except libvirt.libvirtError as error:
        raise LabError(f"{guest.name} does not start: {error}") from None


def shutdown(guest: LabGuest, seconds: float = SHUTDOWN_SECONDS) -> None:
    """Ask the guest to power off and wait until it has. Raises LabError after `seconds`."""
    dom = lookup(guest.name)
    try:
        dom.shutdownFlags(
            libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT
            | libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        )
    except libvirt.libvirtError as error:
        if dom.isActive():
            raise LabError(
                f"{guest.name} cannot be asked to shut down: {error}"
            ) from None
    end = time.monotonic() + seconds
    while dom.isActive():
        if time.monotonic() > end:
            raise LabError(f"{guest.name} did not power off within {seconds:.0f} s")
        time.sleep(0.25)


def wait(guest: LabGuest, seconds: float) -> None:
    """Wait until the guest answers: its agent, or its sshd. Raises LabError as `wait_for_agent` does."""
    if guest.agent:
        wait_for_agent(guest, seconds)
    else:
        _wait(guest, seconds, "sshd", lambda: _ssh_answers(guest))


def _ssh_answers(guest: LabGuest) -> bool:
    try:
        return run(guest, "true", 120).code == 0
    except LabError:
        return False


def wait_for_agent(guest: LabGuest, seconds: float) -> None:
    """Wait until the guest's agent answers.

    Raises LabError, with the console's last lines, where the guest goes off first or `seconds` pass.
    """
    dom = lookup(guest.name)
    _wait(guest, seconds, "agent", lambda: agent.answers(dom))


def _wait(
    guest: LabGuest, seconds: float, who: str, answers: Callable[[], bool]
) -> None:
    dom = lookup(guest.name)
    end = time.monotonic() + seconds
    while not answers():
        if not dom.isActive():
            raise LabError(
                f"{guest.name} went off before its {who} answered{_last_words(guest)}"
            )
        if time.monotonic() > end:
            raise LabError(
                f"the {who} of {guest.name} did not answer within {seconds:.0f} s{_last_words(guest)}"
            )
        time.sleep(0.25)


def run(
    guest: LabGuest, command: str | Sequence[str], seconds: float = 300.0
) -> Output:
    """Run a command in the guest, a text by its shell, and return (code, out, err).

    Raises LabError where the agent (or sshd) does not answer or the command takes longer than `seconds`.
    """
    if not guest.agent and guest.ssh_port is not None:
        return ssh.run(guest.ssh_port, guest.known_hosts, command, seconds)
    return agent.run(lookup(guest.name), command, seconds)


def churn(guest: LabGuest, mebibytes: int) -> None:
    """Write that much incompressible data in the guest, in files of up to 50 MiB, and delete it: its image grows.

    Raises LabError where the guest has no room for it.
    """
    script = (
        f"set -e; d=/var/tmp/reclaim-lab-churn; mkdir $d; left={mebibytes}; n=0; "
        "while [ $left -gt 0 ]; do "
        "size=50; [ $left -ge 50 ] || size=$left; "
        "dd if=/dev/urandom of=$d/$n bs=1M count=$size status=none; "
        "left=$((left-size)); n=$((n+1)); done; "
        "sync; rm -r $d; sync"
    )
    done = run(guest, script, seconds=60 + mebibytes)
    if done.code != 0:
        raise LabError(
            f"{guest.name} could not write {mebibytes} MiB: {done.err.strip()}"
        )


def allocated(guest: LabGuest) -> int:
    """Return how many bytes the guest's image takes on the host."""
    return guest.image.stat().st_blocks * 512


def console_tail(guest: LabGuest, lines: int = 20) -> str:
    """Return the last lines of the guest's serial console, or nothing where it never said any."""
    try:
        text = guest.console.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return tools.last_lines(text, lines)


def names() -> list[str]:
    """Return the names of all the lab's guests."""
    found = (dom.name() for dom in host.ensure_libvirt().listAllDomains())
    return sorted(name for name in found if name.startswith(paths.PREFIX))


def destroy(name: str) -> None:
    """Pull the guest's plug, undefine it and delete its files; nothing happens where there is none.

    Raises LabError where the name is not the lab's, or libvirt refuses.
    """
    dom = _found(host.ensure_libvirt(), paths.checked(name))
    if dom is not None:
        _undefine(dom)
    _delete_files(name)


def clean() -> list[str]:
    """Remove every guest of the lab, the daemons it started and its folder; return what was removed, in words.

    Raises LabError if another run uses the lab, if libvirt refuses, or if this is not root and there is something to
    remove.
    """
    removed: list[str] = []
    if os.geteuid() != 0:
        if paths.root().exists():
            raise LabError(f"not root: {paths.root()} is root's")
        return removed
    with unused.held():
        removed += _remove_guests()
        stores.remove_all()
        mounts.expect_none(paths.root())
        if paths.root().exists():
            shutil.rmtree(paths.root())
            removed.append(f"folder {paths.root()}")
    return removed


def _remove_guests() -> list[str]:
    """Remove every guest and the daemons that the lab started; return what was removed, in words."""
    removed: list[str] = []
    connection = host.ensure_libvirt() if host.has_libvirt() else None
    if connection is not None:
        for name in names():
            destroy(name)
            removed.append(f"guest {name}")
    return removed + [f"daemon {name}" for name in host.stop_libvirt(connection)]


def _found(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise LabError(
            f"libvirt cannot say whether there is a guest {name}: {error}"
        ) from None


def _undefine(dom: libvirt.virDomain) -> None:
    flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    flags |= (
        libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    )
    try:
        if dom.isActive():
            dom.destroy()
        if dom.isPersistent():
            dom.undefineFlags(flags)
    except libvirt.libvirtError as error:
        # A guest that went off by itself in between, or a transient one, is gone already.
        if error.get_error_code() not in (
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            raise LabError(f"libvirt does not remove {dom.name()}: {error}") from None


def _delete_files(name: str) -> None:
    logs = Path("/var/log/libvirt/qemu")
    for left in (*paths.guests().glob(f"{name}.*"), *logs.glob(f"{name}.log*")):
        if left.is_dir():  # what a build that was killed was making an image of
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _last_words(guest: LabGuest) -> str:
    said = console_tail(guest)
    return (
        f"; its console's last lines:\n{said}" if said else "; its console said nothing"
    )
