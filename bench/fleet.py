"""What a fleet's definitions cost: the audit's own work beside the raw work, and the memory of a very large fleet.

    python -m bench.fleet [--guests 1000] [--fleet 10000] [--uri URI]

Own work is to list the guests, read and parse each definition once and judge it, without pytest around it; raw work
is to list, read and parse the same XML with nothing made of it. Both are in one process, in turn, and the fastest round
of each counts; where a process happens to lie in memory makes some hundredths, so several are asked and the one in the
middle counts. The default is libvirt's test driver, where reading is a function call: a real libvirtd (--uri
qemu:///system) answers over a socket, and raw work is ten times as much. Ends with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import libvirt
from lxml import etree

from bench.definitions import FINDINGS, ROOT, node
from reclaim.definition.domain import parse_xml
from reclaim.engine.engine import Engine, subjects
from reclaim.engine.journal import Journal
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import Hypervisor, connect
from reclaim.inventory import Inventory
from reclaim.requirement import catalogue

GUEST = ROOT / "bench/guest.xml"
#: root ports as libvirt adds them to a q35 guest
_PORTS = 14
TARGET = 1.5
TARGET_MIB = 600
_ROUNDS = 9
_PROCESSES = 7


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.once:
        json.dump(once(arguments.uri), sys.stdout)
        return 0
    with tempfile.TemporaryDirectory(prefix="reclaim-bench-") as name:
        folder = Path(name)
        uri = arguments.uri
        if uri is None:
            path = folder / "guests.xml"
            path.write_text(
                f"<node>{''.join(typical(arguments.guests))}</node>", encoding="utf-8"
            )
            uri = f"test://{path}"
        ratio = _own_work(uri)
        mebibytes, seconds = _whole_run(folder, arguments.fleet)
    sys.stdout.write(
        f"{arguments.fleet} guests, the whole audit: {seconds:.1f} s of processor time, "
        f"{mebibytes:.0f} MiB at its peak (target: below {TARGET_MIB})\n"
    )
    return 0 if ratio <= TARGET and mebibytes < TARGET_MIB else 1


def typical(guests: int, kind: str = "test") -> Iterator[str]:
    """Yield the definitions of typical guests, of the type that a driver of libvirt takes."""
    port = (
        "<controller type='pci' index='{0}' model='pcie-root-port'><model name='pcie-root-port'/>"
        "<target chassis='{0}' port='0x{1:x}'/>"
        "<address type='pci' domain='0x0000' bus='0x00' slot='0x{2:02x}' function='0x{3}' multifunction='on'/>"
        "</controller>"
    )
    ports = "".join(
        port.format(index, 15 + index, 2 + (index - 1) // 8, (index - 1) % 8)
        for index in range(1, _PORTS + 1)
    )
    text = GUEST.read_text(encoding="utf-8").replace("PORTS", ports)
    for number in range(guests):
        domain = etree.fromstring(text.replace("NAME", f"guest-{number:05}").encode())
        uuid = domain.find("uuid")
        if uuid is None:
            raise SystemExit(f"{GUEST}: no uuid")
        uuid.text = f"00000000-0000-4000-8000-{number:012x}"
        domain.set("type", kind)
        yield etree.tostring(domain, encoding="unicode")


def _own_work(uri: str) -> float:
    """What own work is of raw work; says so."""
    command = [sys.executable, "-m", "bench.fleet", "--uri", uri, "--once"]
    said = [
        subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        for _ in range(_PROCESSES)
    ]
    found = sorted((Once(*json.loads(one)) for one in said), key=lambda one: one.ratio)
    middle = found[len(found) // 2]
    sys.stdout.write(
        f"{middle.guests} guests of {uri.partition(':')[0]}, {middle.characters} characters each: "
        f"list, read, parse {middle.raw:.0f} µs a guest; and judge {middle.own:.0f} µs; "
        f"ratio {middle.ratio:.2f} (target: at most {TARGET}), "
        f"{found[0].ratio:.2f} to {found[-1].ratio:.2f} in {len(found)} processes\n"
    )
    return middle.ratio


class Once(NamedTuple):
    """What one process measured: guests, characters of a definition, and µs a guest."""

    guests: int
    characters: int
    raw: float
    own: float

    @property
    def ratio(self) -> float:
        return self.own / self.raw


def once(uri: str) -> Once:
    """Do raw and own work in turn, in this process."""
    hypervisor = connect(uri, None, Inventory(), readonly=True)
    count = len(hypervisor.guests)
    # in this process other processes are no part of the work; a daemon's answer has to be waited for
    clock = time.process_time if hypervisor.is_test_driver else time.perf_counter
    gc.freeze()  # as the plugin does
    rounds = [
        (
            _took(clock, lambda: _raw(hypervisor.connection)),
            _took(clock, lambda: _own(hypervisor)),
        )
        for _ in range(_ROUNDS)
    ]
    raw, own = (min(one) / count * 1e6 for one in zip(*rounds, strict=True))
    return Once(
        count, len(hypervisor.connection.listAllDomains(0)[0].XMLDesc(2)), raw, own
    )


def _took(clock: Callable[[], float], work: Callable[[], object]) -> float:
    started = clock()
    work()
    return clock() - started


def _raw(connection: libvirt.virConnect) -> None:
    for domain in connection.listAllDomains(0):
        parse_xml(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), domain.name())


def _own(hypervisor: Hypervisor) -> None:
    """As the plugin does it: everything that is judged is found first, then judged guest by guest."""
    definitions = [one for one in catalogue().values() if one.reads_definitions_only]
    kinds = {one.parameters: one for one in definitions}
    engine = Engine(hypervisor, "audit", Journal(Path(), hypervisor.uri, "audit"))
    for domain in hypervisor.connection.listAllDomains(0):
        guest = Guest(hypervisor, domain, domain.name(), domain.UUIDString())
        found = {handles: subjects(one, guest) for handles, one in kinds.items()}
        for one in definitions:
            for subject in found[one.parameters]:
                engine.run(one, subject)


def _whole_run(folder: Path, guests: int) -> tuple[float, float]:
    """MiB and seconds of processor time of one audit of *guests* sample guests, report and all."""
    fleet = folder / "fleet.xml"
    fleet.write_bytes(node(guests))
    audit = [
        "checks/",
        "--definitions-only",
        "--uri",
        f"test://{fleet}",
        "--reports",
        str(folder / "reports"),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *audit],
        cwd=ROOT,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != FINDINGS:
        raise SystemExit(
            f"the audit ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return after.ru_maxrss / 1024, seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench.fleet", description="What the definitions of a fleet cost."
    )
    parser.add_argument(
        "--guests", type=int, default=1000, help="guests for own and raw work"
    )
    parser.add_argument(
        "--fleet", type=int, default=10_000, help="guests for the whole run"
    )
    parser.add_argument(
        "--uri", help="measure own and raw work here instead of the test driver"
    )
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
