"""The truth matrix: the verdicts of the audit about a guest, and how many bytes came back from it.

    python -m lab.truth [--resume] [--only 'pc-i440fx-3.1 virtio'] [--at-once 2] [--write docs/truth.md]

A real guest for each machine type and bus, each with a disk for every way to treat discards and every kind of image;
and guests of the newest type with their images on other filesystems, its stores. In each filesystem a file is deleted
that was there before the guest's first start, and a canary is planted by `reclaim.space.proof`; both are counted on
the host. Ends with 1 if the audit and the counts disagree.
Each guest is kept as soon as it is done, in reports/truth.json: `--resume` goes on from there. A page about those that
are done is beside it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from lab import cells, demo, host, machines, paths, stores, truth_page
from lab import guest as lab
from lab.cells import BUSES, CELLS, MIB, NVME, OLD_MIB, Cell
from lab.error import LabError
from lab.guest import LabGuest
from lab.seen import Seen, disagreements
from lab.truth_page import CANARY_MIB, Plan
from reclaim.base.errors import NotAssessable, ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject, judge
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory, Policy
from reclaim.requirement import catalogue
from reclaim.space.canary import Trimmed
from reclaim.space.proof import prove

POLICIES = ("scsi", "any-discarding")
PROGRESS = demo.ROOT / "reports" / "truth.json"
_RED = frozenset(map(str, (Verdict.NONCOMPLIANT, Verdict.PENDING, Verdict.ERROR)))


def observe(name: str, machine: str, bus: str, some: Sequence[Cell]) -> list[Seen]:
    """Make the guest, look at it in every way, and remove it. Raises LabError."""
    lab.destroy(name)
    with stores.mounted(name, dict.fromkeys(cell.store for cell in some if cell.store)):
        guest = cells.create(name, machine, bus, some)
        try:
            return look(guest, machine, bus, some)
        except (ReclaimError, NotAssessable, libvirt.libvirtError) as error:
            raise LabError(f"{name}: it could not be looked into: {error}") from error
        finally:
            lab.destroy(name)


def look(guest: LabGuest, machine: str, bus: str, some: Iterable[Cell]) -> list[Seen]:
    """Return all that is to be seen of *some* cells of a guest that runs: the old files are gone afterwards.

    Raises LabError, ReclaimError, NotAssessable, and libvirt's own error.
    """
    wanted = list(some)
    rows = _audited(guest)
    hypervisor = connect(
        host.URI,
        None,
        Inventory(policy=Policy(bus="any-discarding", canary_mib=CANARY_MIB)),
    )
    judged = next(one for one in hypervisor.guests if one.name == guest.name)
    proofs = {one.mount: one for one in prove(judged)}
    targets = {disk.path: disk.target for disk in judged.persistent.disks}
    again = _rejudged(judged, rows)
    hypervisor.connection.close()
    if missing := [
        cell.label for cell in wanted if f"/truth/{cell.label}" not in proofs
    ]:
        raise LabError(f"{guest.name}: not mounted any more: {', '.join(missing)}")
    found = []
    for cell in wanted:
        proof = proofs[f"/truth/{cell.label}"]
        target = targets[str(cells.image_of(guest, cell))]
        red: dict[str, dict[str, str]] = {}
        accepted = {}
        for policy, results in zip(POLICIES, (rows, again), strict=True):
            mine = [row for row in results if row["disk"] in (None, target)]
            red[policy] = {
                row["requirement"]: row["reason"]
                for row in mine
                if row["verdict"] in _RED
            }
            accepted[policy] = next(
                row["verdict"] for row in mine if row["requirement"] == "disk-bus"
            )
        gone = _deleted(guest, cell)
        found.append(
            Seen(
                machine,
                bus,
                cell.discard,
                cell.image,
                gone.disc_max,
                gone.claimed,
                gone.old,
                proof.canary,
                proof.returned,
                proof.layer,
                proof.problem,
                red,
                accepted,
                cell.store,
                gone.freed,
                date.today().isoformat(),  # noqa: DTZ011 - the day here
                proof.note,
            )
        )
    return found


def _audited(guest: LabGuest) -> list[dict[str, Any]]:
    """The rows of an audit, as a user has them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = demo.audit(guest.name, folder)
        if done.returncode not in (0, 1, 6) or not list(
            folder.glob("*/latest/results.json")
        ):
            raise LabError(
                f"{guest.name}: the audit ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        rows: list[dict[str, Any]] = demo.record(folder)["results"]
    for row in rows:
        if row["verdict"] == str(Verdict.ERROR):
            raise LabError(
                f"{guest.name}: {row['requirement']}: {row['reason']}"
            )  # a busy host, not the truth
    return rows


def _rejudged(guest: Guest, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows under the policy of *guest*: it concerns what is judged by the definition."""
    found = []
    for row in rows:
        requirement = catalogue()[row["requirement"]]
        if requirement.reads_definitions_only:
            disk = Disk(guest, row["disk"]) if row["disk"] else None
            judgement = judge(requirement, Subject(guest.hypervisor, guest, disk))
            found.append(
                {**row, "verdict": str(judgement.verdict), "reason": judgement.reason}
            )
        else:
            found.append(row)
    return found


@dataclass(frozen=True)
class _Gone:
    """The end of an old file. Sizes in bytes.

    `disc_max`: DISC-MAX of its disk; `claimed`: the amount that fstrim reports; `old`: how much less the host held for
    the image; `freed`: how much more was free in the store, at most the file.
    """

    disc_max: int
    claimed: int
    old: int
    freed: int


def _deleted(guest: LabGuest, cell: Cell) -> _Gone:
    """Delete the old file of a cell and trim, and count on the host. Raises LabError."""
    script = (
        f"m=/truth/{cell.label}; rm $m/old && sync -f $m && "
        'd=$(lsblk -bndo DISC-MAX "$(findmnt -no SOURCE $m)") && echo $d "$(fstrim -v $m 2>&1)"'
    )
    store = stores.folder(guest.name, cell.store) if cell.store else None
    room = stores.free(store) if store else 0
    before = cells.held(guest, cell)
    done = lab.run(guest, script, seconds=900)
    disc_max, _, words = done.out.strip().partition(" ")
    if done.code != 0 or not disc_max.isdecimal():
        raise LabError(
            f"{guest.name}: the old file of {cell.label} was not deleted: {done.out}{done.err}"
        )
    old = before - cells.held(guest, cell)
    freed = stores.free(store) - room if store else 0
    claimed = Trimmed(0, words).claimed or 0
    return _Gone(int(disc_max), claimed, _of_the_file(old), _of_the_file(freed))


def _of_the_file(count: int) -> int:
    return max(0, min(OLD_MIB * MIB, count))


# The matrix -----------------------------------------------------------------------------------

#: machine types from before and after virtio-blk offered discards (4.0), and the oldest one that guests still have
MACHINES = ("1.6", "3.1", "4.0")
#: for a QEMU without the first of them: the oldest that boots stands for those before 4.0
MACHINES_NOW = ("1.6", "4.0", "5.2")
#: the buses of the guests with stores: the one that disks are moved to, and one that any-discarding accepts
BUSES_ON_STORES = ("virtio-scsi", "virtio")


def plan() -> Plan:
    """Ask this machine for its machine types, buses and stores, and return the guests to make. Raises LabError."""
    there, gone = machine_types()
    missing = stores.not_to_be_had()
    nvme = (NVME,) if has_nvme(there[-1]) else ()
    return Plan(tuple(there), gone, BUSES + nvme, stores.choice(missing), missing)


def machine_types() -> tuple[list[str], dict[str, str]]:
    """Return the i440fx types of the matrix, the newest last; and by each that is gone the one in its place."""
    known = machines.offered()
    oldest = f"pc-i440fx-{MACHINES[0]}"
    wanted = [
        f"pc-i440fx-{version}"
        for version in (MACHINES if oldest in known else MACHINES_NOW)
    ]
    here = {name: machines.here(name) for name in wanted}
    newest = max(
        (name for name in known if machines.family(name) == "pc-i440fx"),
        key=machines.version,
    )
    there = sorted({*here.values(), newest}, key=machines.version)
    return there, {name: other for name, other in here.items() if name != other}


def has_nvme(machine: str) -> bool:
    """True if this libvirt has the bus nvme for disks of a machine type."""
    connection = host.ensure_libvirt()
    try:
        text = connection.getDomainCapabilities(
            None, "x86_64", machine, host.accelerator()
        )
    finally:
        connection.close()
    return NVME in disk_buses(text)


def disk_buses(capabilities: str) -> list[str]:
    """Return the buses for disks in libvirt's domain capabilities."""
    root = ET.fromstring(capabilities)  # noqa: S314 (libvirt wrote it)
    found = root.findall("devices/disk/enum[@name='bus']/value")
    return [value.text or "" for value in found]


@dataclass(frozen=True)
class Run:
    """One guest to be made: its key in the progress, and its cells."""

    machine: str
    bus: str
    key: str
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The name of its domain."""
        return f"{paths.PREFIX}truth-{self.key[3:].replace('.', '-').replace(' ', '-')}"


def runs(wanted: Plan) -> list[Run]:
    """Return all guests of the matrix, those of the newest machine type first."""
    newest = wanted.machines[-1]
    stored = cells.on_stores(wanted.stores)
    found = [
        Run(newest, bus, f"{newest} {bus} stores", stored)
        for bus in BUSES_ON_STORES
        if stored
    ]
    found += [
        Run(machine, bus, f"{machine} {bus}", CELLS)
        for machine in reversed(wanted.machines)
        for bus in wanted.buses
    ]
    return found


@dataclass(frozen=True)
class Matrix:
    """The guests to be made, and those that are `done`, by their keys: they are kept in the file `progress`.

    `by` is the command that the page names.
    """

    wanted: Plan
    every: Sequence[Run]
    done: dict[str, Any]
    progress: Path
    by: str

    def keep(self, run: Run, found: list[Seen]) -> None:
        """Keep a guest that is done, and write the page so far."""
        self.done[run.key] = [asdict(one) for one in found]
        _write(self.progress, self.done)
        self.publish(so_far(self.progress))
        known = sum(each.key in self.done for each in self.every)
        print(
            f"truth: {run.key} is done, {known} of {len(self.every)} guests", flush=True
        )

    def seen(self, only: str | None = None) -> list[Seen]:
        """Return the cells of the guests that are done, or of the one with the key `only`."""
        keys = [run.key for run in self.every if only in (None, run.key)]
        return [Seen(**one) for key in keys for one in self.done.get(key, [])]

    def publish(self, path: Path) -> None:
        """Write the page and, beside it, its data."""
        whole = all(run.key in self.done for run in self.every)
        data = path.with_suffix(".json")
        text = truth_page.page(
            self.seen(), self.wanted, whole=whole, by=self.by, data=data.name
        )
        path.write_text(text, encoding="utf-8")
        rows = ",\n".join(json.dumps(asdict(one)) for one in self.seen())
        data.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


def main() -> int:
    """Fill the matrix, write it down, and name where it disagrees with itself."""
    arguments = _parser().parse_args()
    if reasons := host.missing():
        print(
            f"truth: no real guests can run here: {'; '.join(reasons)}", file=sys.stderr
        )
        return 2
    host.ensure_libvirt().close()
    wanted = plan()
    only = arguments.only
    # a try keeps the others as they are
    done = _read(arguments.progress) if arguments.resume or only else {}
    if only and not arguments.resume:
        done.pop(only, None)
    matrix = Matrix(wanted, runs(wanted), done, arguments.progress, arguments.by)
    if only and only not in [run.key for run in matrix.every]:
        keys = "\n".join(run.key for run in matrix.every)
        print(f"truth: no guest {only!r}; there are:\n{keys}", file=sys.stderr)
        return 2
    waiting = [
        run for run in matrix.every if run.key not in done and only in (None, run.key)
    ]
    failed = _observed(waiting, arguments.at_once, matrix.keep)
    if arguments.write and not failed and not only:
        matrix.publish(arguments.write)
    seen = matrix.seen(only)
    wrong = [*disagreements(seen), *failed]
    for one in wrong:
        print(f"truth: {one}")
    print(f"truth: {len(seen)} cells, {len(wrong)} disagreements")
    return 1 if wrong or not seen else 0


def so_far(progress: Path) -> Path:
    """Return the place of the page about the guests that are done, beside the file that keeps them."""
    return progress.with_name(f"{progress.stem}-so-far.md")


def _observed(
    waiting: Sequence[Run], at_once: int, keep: Callable[[Run, list[Seen]], None]
) -> list[str]:
    """Observe the guests, `at_once` at a time; return those that failed, in words."""
    failed = []
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        futures = {
            pool.submit(observe, run.name, run.machine, run.bus, run.cells): run
            for run in waiting
        }
        for future in concurrent.futures.as_completed(futures):
            run = futures[future]
            try:
                keep(run, future.result())
            except LabError as error:
                failed.append(f"{run.key}: {error}")
                print(f"truth: {failed[-1]}", flush=True)
    return failed


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def _write(path: Path, done: dict[str, Any]) -> None:
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(done), encoding="utf-8")
    beside.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m lab.truth", description="What the audit says, and what came back."
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the guests that are kept",
    )
    parser.add_argument(
        "--only",
        metavar="'MACHINE BUS [stores]'",
        help="one guest, for a try; no page is written",
    )
    parser.add_argument(
        "--at-once", type=int, default=2, metavar="N", help="guests at a time"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="the page; its data go beside it"
    )
    parser.add_argument(
        "--by",
        default="make truth",
        metavar="COMMAND",
        help="the command that the page names (%(default)s)",
    )
    parser.add_argument(
        "--progress",
        type=Path,
        default=PROGRESS,
        metavar="FILE",
        help="the guests that are done (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
