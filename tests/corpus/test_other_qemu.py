"""Definitions that an older or a newer QEMU left behind: they lie in libvirt's folder before it starts.

libvirt lists them. It neither starts nor defines them as long as they name a machine type that its QEMU does not have.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import libvirt
import pytest

from reclaim.definition.machine_type import numbers
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from tests.command import audit, reclaim
from tests.corpus import private
from tests.corpus.variants import EMULATOR, disk, domain
from tests.support import definition_of, uuid_of

pytestmark = pytest.mark.guest

#: of QEMU 1.2, 1.6, 2.3 and 4.2: each host has at least the first no more
OLD = ("pc-1.2", "pc-i440fx-1.6", "pc-i440fx-2.3", "pc-q35-2.3", "pc-q35-4.2")
NEWER = "pc-q35-99.0"
VENDOR = "pc-q35-rhel8.2.0"

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
#: emulators of other hosts and earlier days, and what libvirt says of them
GONE = {
    "ubuntu": ("/usr/bin/kvm-spice", "No such file or directory"),
    "rhel": ("/usr/libexec/qemu-kvm", "No such file or directory"),
    "folder": ("/usr/bin", "Is a directory"),
    "text": ("/etc/hostname", "Exec format error"),
    "no-qemu": ("/bin/true", ""),
}


class Daemon(Protocol):
    """Starts libvirtd with a definition of each of *machines*, and with *emulators* other than QEMU's own."""

    def __call__(self, machines: Mapping[str, str], emulators: Mapping[str, str] = ...) -> str: ...


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Starts a libvirtd of our own in whose folder definitions of these machine types lie already; gives its URI."""
    with ExitStack() as stack:

        def start(machines: Mapping[str, str], emulators: Mapping[str, str] = MappingProxyType({})) -> str:
            definitions = {
                name: _definition(name, machine, emulators.get(name, EMULATOR)) for name, machine in machines.items()
            }
            try:
                return stack.enter_context(private.libvirtd(tmp_path / "libvirtd", definitions))
            except (OSError, RuntimeError) as exc:
                (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no libvirtd of our own here: {exc}")

        yield start


def _definition(name: str, machine: str, emulator: str = EMULATOR) -> str:
    return domain(disk("vda", "virtio"), CHANNEL, machine=machine, emulator=emulator).replace(
        "<name>x</name>", f"<name>{name}</name><uuid>{uuid_of(name)}</uuid>"
    )


def _offered() -> set[str]:
    listed = subprocess.run([EMULATOR, "-machine", "help"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


def _rows(folder: Path, uri: str, *options: str) -> dict[tuple[str, str], dict[str, Any]]:
    outcome = audit(folder, "-q", *options, uri=uri)
    assert outcome.status in (0, 1, 6), outcome.said[-4000:]
    return {(row["guest"], row["requirement"]): row for row in outcome.document["results"]}


def _altered(row: dict[str, Any]) -> list[list[str]]:
    """The lines that each change takes and brings, wherever libvirt has put them."""
    return [
        [line for line in change["diff"].splitlines() if line.startswith(("+ ", "- "))] for change in row["changes"]
    ]


def _machines(uri: str) -> dict[str, tuple[str, str, str]]:
    """Each guest's machine type, and its disk's bus and discard."""
    hypervisor = connect(uri, None, Inventory())
    try:
        seen = {}
        for guest in hypervisor.guests:
            definition = definition_of(guest)
            (view,) = definition.disks
            seen[guest.name] = (definition.machine or "", view.bus, view.driver.get("discard", "absent"))
        return seen
    finally:
        hypervisor.close()


def test_a_type_that_is_gone_is_mended_first_and_at_once(daemon: Daemon, tmp_path: Path) -> None:
    offered = _offered()
    gone = {machine.replace(".", "-"): machine for machine in OLD if machine not in offered}
    assert gone, "each QEMU of today has dropped QEMU 1.2's types"
    uri = daemon(gone)
    before = _machines(uri)
    assert before == {name: (machine, "virtio", "absent") for name, machine in gone.items()}

    rows = _rows(tmp_path / "audit", uri)
    for name, machine in gone.items():
        row = rows[name, "machine-type"]
        assert row["verdict"] == "noncompliant"
        assert row["reason"] == f"this QEMU has no {machine} any more: the guest cannot start"

    planned = _rows(tmp_path / "plan", uri, "--plan")
    assert _machines(uri) == before
    fixed = _rows(tmp_path / "fix", uri, "--fix")
    after = _machines(uri)
    for name, machine in gone.items():
        for slug in ("machine-type", "disk-discard"):
            assert len(planned[name, slug]["changes"]) == 1, planned[name, slug]["reason"]
            assert fixed[name, slug]["verdict"] == "fixed", fixed[name, slug]["reason"]
        assert f"--undo cannot bring {machine} back" in planned[name, "machine-type"]["evidence"]
        for slug in ("scsi-controller", "disk-bus"):
            # nobody looked inside, so the disk stays on its bus, and /dev/vda1 is right
            assert planned[name, slug]["changes"] == fixed[name, slug]["changes"] == []
        family = "pc-q35-" if "q35" in machine else "pc-i440fx-"
        assert after[name][0] in offered
        assert after[name][0].startswith(family)
        assert after[name][1:] == ("virtio", "unmap")

    again = _rows(tmp_path / "again", uri, "--fix")
    assert not [row for row in again.values() if row["changes"]]
    assert _machines(uri) == after
    _starts(uri, "pc-1-2")


def _starts(uri: str, name: str) -> None:
    """QEMU takes the machine type now: it starts with the disk taken away, of which there is no image."""
    connection = libvirt.open(uri)
    try:
        xml = connection.lookupByName(name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        head, _, rest = xml.partition("<disk ")
        domain = connection.createXML(head + rest.partition("</disk>")[2], libvirt.VIR_DOMAIN_START_PAUSED)
        domain.destroy()
    finally:
        connection.close()


def test_undo_takes_back_all_but_the_type(daemon: Daemon, tmp_path: Path) -> None:
    machine = next(machine for machine in OLD if machine not in _offered())
    uri = daemon({"old": machine})
    fix = audit(tmp_path / "fix", "-q", "--fix", uri=uri)
    (now, _, _) = _machines(uri)["old"]
    undo = reclaim("undo", fix.folder)
    assert undo.returncode == 1
    assert f"this QEMU has no {machine} any more, so libvirt refuses the old definition" in undo.stdout
    assert _machines(uri) == {"old": (now, "virtio", "absent")}


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        pytest.param(NEWER, "is of a newer QEMU than this one, whose newest type of the family is pc-q35-", id="newer"),
        pytest.param(VENDOR, "is a type of RHEL's QEMU, and this QEMU is not RHEL's", id="vendor"),
        pytest.param("pc-q35-acme", "this QEMU has no machine type pc-q35-acme", id="unknown"),
    ],
)
def test_plan_and_fix_agree_on_a_type_of_another_qemu(
    daemon: Daemon, tmp_path: Path, machine: str, reason: str
) -> None:
    uri = daemon({"other": machine})
    planned = _rows(tmp_path / "plan", uri, "--plan")
    assert reason in planned["other", "machine-type"]["reason"]
    fixed = _rows(tmp_path / "fix", uri, "--fix")
    for key, row in planned.items():
        assert _altered(row) == _altered(fixed[key])
        assert all(change["applied"] for change in fixed[key]["changes"])
    now, bus, discard = _machines(uri)["other"]
    if machine == VENDOR:
        # upstream's type of the family, never older than the QEMU that RHEL's is made from
        assert numbers(now.removeprefix("pc-q35-")) >= (4, 2)
        assert (bus, discard) == ("virtio", "unmap")
    else:
        assert (now, bus, discard) == (machine, "virtio", "absent")


def test_boot_stopped_starts_nothing_that_cannot_start(daemon: Daemon, tmp_path: Path) -> None:
    machine = next(machine for machine in OLD if machine not in _offered())
    uri = daemon({"old": machine})
    rows = _rows(tmp_path / "audit", uri, "--boot-stopped")
    for slug in ("fstab-uuid", "guest-access"):
        assert f"this QEMU has no {machine} any more" in (rows["old", slug]["reason"] or "")


# An emulator that is gone ---------------------------------------------------------------------


def test_an_emulator_that_is_gone_is_one_reason_for_all_rows(daemon: Daemon, tmp_path: Path) -> None:
    machines = dict.fromkeys(GONE, "q35") | {"rhel": VENDOR, "here": "q35"}
    uri = daemon(machines, {name: path for name, (path, _words) in GONE.items()})
    before = _xml(uri)
    runs = (("--plan",), ("--fix", "--boot-stopped"), ("--fix", "--force"))
    for number, options in enumerate(runs):
        rows = _rows(tmp_path / str(number), uri, *options, "--guests", ",".join(GONE))
        for name, (path, words) in GONE.items():
            row = rows[name, "machine-type"]
            assert row["verdict"] == "noncompliant"
            reason, _, advice = row["reason"].partition(": the guest cannot start; withheld: ")
            assert reason.startswith(f"libvirt cannot use the emulator {path} (")
            assert words in reason
            assert advice.startswith(f"set <emulator> to one that is here, {EMULATOR} (virsh edit)")
            assert ("and a machine type that it has" in advice) == (name == "rhel")
            access, discard = (rows[name, slug]["reason"] for slug in ("guest-access", "disk-discard"))
            assert f"--boot-stopped does not start it: {reason} (see machine-type)" in access
            assert f"withheld: {reason}, and libvirt refuses definitions with it" in discard
            assert not [key for key in rows if key[0] == name and rows[key]["changes"]]
    assert _xml(uri) == before

    fixed = _rows(tmp_path / "here", uri, "--fix", "--guests", "here")
    assert fixed["here", "disk-discard"]["verdict"] == "fixed", "the others are nothing to it"


def test_once_the_emulator_is_set_by_hand_all_is_mended(daemon: Daemon, tmp_path: Path) -> None:
    path, _words = GONE["ubuntu"]
    uri = daemon({"ubuntu": "q35"}, {"ubuntu": path})
    connection = libvirt.open(uri)
    try:
        connection.defineXML(_xml(uri)["ubuntu"].replace(path, EMULATOR))
    finally:
        connection.close()
    rows = _rows(tmp_path, uri, "--fix")
    assert rows["ubuntu", "machine-type"]["verdict"] == "compliant"
    assert rows["ubuntu", "disk-discard"]["verdict"] == "fixed"


def test_a_connection_that_may_not_ask_reports_that(daemon: Daemon, tmp_path: Path) -> None:
    """libvirt lets nobody who only reads choose a program that it runs."""
    path, _words = GONE["ubuntu"]
    uri = daemon({"ubuntu": "pc-q35-5.2"}, {"ubuntu": path})
    row = _rows(tmp_path, uri, "--definitions-only")["ubuntu", "machine-type"]
    assert row["verdict"] == "compliant"
    assert row["evidence"].endswith(
        f"libvirt does not list the emulator {path}, and was not asked about it (--definitions-only)"
    )


def _xml(uri: str) -> dict[str, str]:
    connection = libvirt.open(uri)
    try:
        return {one.name(): one.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) for one in connection.listAllDomains()}
    finally:
        connection.close()
