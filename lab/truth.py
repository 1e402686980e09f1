"""The truth matrix: what the audit says of a guest, and how many bytes came back from it.

    python -m lab.truth [--resume] [--only 'pc-i440fx-3.1 virtio'] [--at-once 2] [--write docs/truth.md]

A real guest for each machine type and bus, each with a disk for every way to treat discards and every kind of image.
In each filesystem a file is deleted that was there before the guest's first start, and a canary is planted by
`reclaim.space.proof`; both are counted on the host. Ends with 1 where what the audit says and what came back disagree.
What is done is kept as it is had, in reports/truth.json: `--resume` goes on from there.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import libvirt

from lab import cells, demo, host, image, paths
from lab import guest as lab
from lab.cells import BUSES, CELLS, DISCARDS, IMAGES, MIB, OLD_MIB, Cell
from lab.error import LabError
from lab.guest import LabGuest
from reclaim.base.errors import NotAssessable, ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject, judge
from reclaim.handles.guest import Disk, Guest
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory, Policy
from reclaim.requirement import catalogue
from reclaim.space import diagnosis
from reclaim.space.canary import Trimmed
from reclaim.space.proof import SHARE, prove

CANARY_MIB = 16
MACHINES = ("1.6", "3.1", "4.0")
POLICIES = ("scsi", "any-discarding")
PROGRESS = demo.ROOT / "reports" / "truth.json"
#: the requirements that name a layer that keeps bytes back
LAYERS = frozenset(("disk-discard", "disc-max", "live-definition", "image-format"))
_RED = frozenset(map(str, (Verdict.NONCOMPLIANT, Verdict.PENDING, Verdict.ERROR)))


@dataclass(frozen=True)
class Seen:
    """What was seen of one cell. Sizes in bytes.

    `claimed`: what fstrim says after the old file was deleted; `old`: how much less the host held then; `canary`,
    `returned`, `layer`: what `--prove` says. `red`: by policy, the requirements that the audit says do not hold, with
    its reasons; `bus`: by policy, the verdict of disk-bus.
    """

    machine: str
    bus: str
    discard: str
    image: str
    disc_max: int
    claimed: int
    old: int
    canary: int
    returned: int
    layer: str
    problem: str
    red: dict[str, dict[str, str]]
    accepted: dict[str, str]

    @property
    def where(self) -> str:
        return f"{self.machine} {self.bus}, discard {self.discard}, {self.image}"

    @property
    def canary_came_back(self) -> bool:
        return self.returned >= SHARE * self.canary > 0

    @property
    def came_back(self) -> bool:
        return self.canary_came_back and self.old >= SHARE * OLD_MIB * MIB


def disagreements(seen: Iterable[Seen]) -> list[str]:
    """Where what the audit says and what came back are at odds, in words."""
    found = []
    everything = list(seen)
    for one in everything:
        for policy, red in one.red.items():
            if not red and not one.came_back:
                found.append(
                    f"{one.where}: green with bus {policy!r}, and not all came back"
                )
        if not one.canary_came_back and one.layer in ("", diagnosis.UNKNOWN):
            found.append(
                f"{one.where}: the canary did not come back, and the proof names no layer"
            )
        if not one.came_back and not any(
            LAYERS & red.keys() for red in one.red.values()
        ):
            found.append(
                f"{one.where}: not all came back, and the audit names no layer that keeps it"
            )
        if one.problem:
            found.append(f"{one.where}: nothing was proved: {one.problem}")
        works = any(
            other.canary_came_back
            for other in everything
            if (other.machine, other.bus, other.discard, other.image)
            == (one.machine, one.bus, "unmap", "raw")
        )
        if (
            one.bus in ("virtio", "sata")
            and (one.accepted["any-discarding"] == "compliant") != works
        ):
            found.append(
                f"{one.where}: bus 'any-discarding' says {one.accepted['any-discarding']}"
            )
    return found


def observe(name: str, machine: str, bus: str) -> list[Seen]:
    """Make the guest, look at it in every way, and remove it. Raises LabError."""
    guest = cells.create(name, machine, bus)
    try:
        return look(guest, machine, bus, CELLS)
    except (ReclaimError, NotAssessable, libvirt.libvirtError) as error:
        raise LabError(f"{name}: it could not be looked into: {error}") from error
    finally:
        lab.destroy(name)


def look(guest: LabGuest, machine: str, bus: str, some: Iterable[Cell]) -> list[Seen]:
    """What is to be seen of *some* cells of a guest that runs: the old files are gone afterwards.

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
    targets = {
        disk.serial: disk.target for disk in judged.persistent.disks if disk.serial
    }
    again = _rejudged(judged, rows)
    hypervisor.connection.close()
    before = {cell: _held(guest, cell) for cell in wanted}
    offered, claimed = _deleted(guest, wanted)
    found = []
    if missing := [
        cell.label for cell in wanted if f"/truth/{cell.label}" not in proofs
    ]:
        raise LabError(f"{guest.name}: not mounted any more: {', '.join(missing)}")
    for cell in wanted:
        proof = proofs[f"/truth/{cell.label}"]
        red: dict[str, dict[str, str]] = {}
        accepted = {}
        for policy, results in zip(POLICIES, (rows, again), strict=True):
            mine = [
                row for row in results if row["disk"] in (None, targets[cell.label])
            ]
            red[policy] = {
                row["requirement"]: row["reason"]
                for row in mine
                if row["verdict"] in _RED
            }
            accepted[policy] = next(
                row["verdict"] for row in mine if row["requirement"] == "disk-bus"
            )
        found.append(
            Seen(
                machine,
                bus,
                cell.discard,
                cell.image,
                offered[cell],
                claimed[cell],
                max(0, min(OLD_MIB * MIB, before[cell] - _held(guest, cell))),
                proof.canary,
                proof.returned,
                proof.layer,
                proof.problem,
                red,
                accepted,
            )
        )
    return found


def _held(guest: LabGuest, cell: Cell) -> int:
    return cells.image_of(guest, cell).stat().st_blocks * 512


def _audited(guest: LabGuest) -> list[dict[str, Any]]:
    """The rows of an audit, as a user has them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = demo.audit(guest.name, folder)
        if done.returncode not in (0, 1) or not list(
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


def _deleted(
    guest: LabGuest, wanted: list[Cell]
) -> tuple[dict[Cell, int], dict[Cell, int]]:
    """Delete the old files and trim: DISC-MAX of each cell's disk, and the bytes that fstrim says it trimmed."""
    script = (
        "for l in {}; do m=/truth/$l; rm $m/old; sync -f $m; "
        'd=$(lsblk -bndo DISC-MAX "$(findmnt -no SOURCE $m)"); echo "$l" $d "$(fstrim -v $m 2>&1)"; done'
    )
    done = lab.run(
        guest, script.format(" ".join(cell.label for cell in wanted)), seconds=900
    )
    offered, claimed = {}, {}
    for line in done.out.splitlines():
        label, disc_max, words = line.split(maxsplit=2)
        cell = next(one for one in wanted if one.label == label)
        offered[cell] = int(disc_max)
        claimed[cell] = Trimmed(0, words).claimed or 0
    if set(claimed) != set(wanted):
        raise LabError(
            f"{guest.name}: not every old file was deleted: {done.out}{done.err}"
        )
    return offered, claimed


# The matrix -----------------------------------------------------------------------------------


def machines() -> tuple[list[str], list[str]]:
    """The i440fx types of the matrix that this QEMU has, the newest last; and those that it has no more."""
    hypervisor = connect(host.URI, None, Inventory())
    offered = {one.name for several in hypervisor.machines.values() for one in several}
    aliases = [
        names["pc"] for names in hypervisor.machine_aliases.values() if "pc" in names
    ]
    hypervisor.connection.close()
    wanted = dict.fromkeys(
        [*(f"pc-i440fx-{version}" for version in MACHINES), aliases[0]]
    )
    return [one for one in wanted if one in offered], [
        one for one in wanted if one not in offered
    ]


def main() -> int:
    """Fill the matrix, write it down, and say where it disagrees with itself."""
    arguments = _parser().parse_args()
    if reasons := host.missing():
        print(
            f"truth: no real guests can run here: {'; '.join(reasons)}", file=sys.stderr
        )
        return 2
    host.ensure_libvirt().close()
    there, gone = machines()
    done = _read() if arguments.resume else {}
    waiting = [
        (machine, bus)
        for machine in reversed(there)
        for bus in BUSES
        if _key(machine, bus) not in done
        and (not arguments.only or arguments.only == f"{machine} {bus}")
    ]
    failed = []
    with concurrent.futures.ThreadPoolExecutor(arguments.at_once) as pool:
        names = {
            pool.submit(
                observe,
                f"reclaim-lab-truth-{machine[3:].replace('.', '-')}-{bus}",
                machine,
                bus,
            ): (
                machine,
                bus,
            )
            for machine, bus in waiting
        }
        for future in concurrent.futures.as_completed(names):
            machine, bus = names[future]
            try:
                done[_key(machine, bus)] = [asdict(one) for one in future.result()]
            except LabError as error:
                failed.append(f"{machine} {bus}: {error}")
                print(f"truth: {failed[-1]}", flush=True)
                continue
            _write(done)
            print(
                f"truth: {machine} {bus} is done, {len(done)} of {len(there) * len(BUSES)} guests",
                flush=True,
            )
    seen = [
        Seen(**one)
        for machine in there
        for bus in BUSES
        for one in done.get(_key(machine, bus), [])
    ]
    wrong = [*disagreements(seen), *failed]
    if arguments.write and not failed and not arguments.only:
        arguments.write.write_text(page(seen, there, gone), encoding="utf-8")
        rows = ",\n".join(json.dumps(asdict(one)) for one in seen)
        arguments.write.with_suffix(".json").write_text(
            f"[\n{rows}\n]\n", encoding="utf-8"
        )
    for one in wrong:
        print(f"truth: {one}")
    print(f"truth: {len(seen)} cells, {len(wrong)} disagreements")
    return 1 if wrong or not seen else 0


def _key(machine: str, bus: str) -> str:
    return f"{machine} {bus}"


def _read() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(PROGRESS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def _write(done: dict[str, Any]) -> None:
    beside = PROGRESS.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(done), encoding="utf-8")
    beside.replace(PROGRESS)


# The page -------------------------------------------------------------------------------------

_HEAD = """\
# The truth matrix

Written by `make truth`, which counted every number on {day}: QEMU {qemu}, libvirt {libvirt}, Linux {kernel}
on the host, {guest} in the guests, images on {filesystem}. truth.json beside this page has the reasons too.

In every filesystem `make truth` deleted and trimmed two files, and counted on the host by `st_blocks` the bytes that
came back:

- the *canary* of `--prove` ({canary} MiB, written in the running guest);
- an *old* file ({old} MiB), which was there before the guest's first start: before the snapshot was made, and in the
  backing file.

The other columns:

- *fstrim says* is the amount that `fstrim -v` printed after the old file was deleted;
- *audit* lists the requirements that do not hold for the disk or its guest; **green** means that all of them hold;
- *any-discarding* is the verdict of disk-bus if the policy has `bus = "any-discarding"`.

The images are qcow2; *backed*, qcow2 with compat 0.10 on a backing file; *snapshot*, qcow2 with an internal snapshot;
and raw.
"""


def page(seen: list[Seen], there: list[str], gone: list[str]) -> str:
    """The matrix as Markdown."""
    hypervisor = connect(host.URI, None, Inventory())
    kind = hypervisor.shell.run(
        "stat -f -c %%T -- %s", str(paths.guests())
    ).stdout.strip()
    text = _HEAD.format(
        day=date.today().isoformat(),  # noqa: DTZ011 - the day where it was run
        qemu=hypervisor.qemu_version,
        libvirt=hypervisor.libvirt_version,
        kernel=platform.release().partition("-")[0],
        guest=_kernel_release(image.kernel("generic")[0]),
        filesystem=kind,
        canary=CANARY_MIB,
        old=OLD_MIB,
    )
    hypervisor.connection.close()
    return page_of(seen, there, gone, text)


def _kernel_release(kernel: Path) -> str:
    """The release of a Linux image, as its setup header points to it (Linux's Documentation/arch/x86/boot.rst)."""
    head = kernel.read_bytes()[: 64 * 1024]
    at = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    return head[at:].split(b"\0")[0].decode("ascii", errors="replace").split()[0]


def page_of(seen: list[Seen], there: list[str], gone: list[str], head: str) -> str:
    """The tables below *head*; *there* are the matrix's machine types, *gone* those that this QEMU has no more."""
    text = head
    if gone:
        text += f"\nThis QEMU has no {', '.join(gone)} any more.\n"
    if len(seen) < len(there) * len(BUSES) * len(CELLS):
        text += '\nNot every guest was run: `make truth ARGS="--resume"` goes on.\n'
    return (
        text
        + _short(seen, there)
        + "".join(
            _table(seen, machine)
            for machine in dict.fromkeys(one.machine for one in seen)
        )
    )


def _short(seen: list[Seen], there: list[str]) -> str:
    """Does discard='unmap' bring back what a raw image and a plain qcow2 held?"""
    text = (
        "\n## In short\n\nWith `discard='unmap'`, this share of the canary came back "
        "from a plain qcow2 and from a raw image:\n\n"
    )
    text += (
        "| machine | " + " | ".join(BUSES) + " |\n|---|" + "---|" * len(BUSES) + "\n"
    )
    for machine in there:
        parts = []
        for bus in BUSES:
            some = [
                one
                for one in seen
                if (one.machine, one.bus, one.discard) == (machine, bus, "unmap")
            ]
            some = [one for one in some if one.image in ("qcow2", "raw")]
            parts.append(
                ", ".join(_share(one.returned, one.canary) for one in some) or "not run"
            )
        text += f"| {machine} | {' | '.join(parts)} |\n"
    kept = [one for one in seen if one.discard != "unmap"]
    text += (
        f"\nWithout it, in {len(kept)} cells, {sum(one.returned + one.old for one in kept)} bytes came back; "
        f"in {sum(1 for one in kept if one.claimed)} of them fstrim reported that it had trimmed.\n"
    )
    return text


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _table(seen: list[Seen], machine: str) -> str:
    text = (
        f"\n## {machine}\n\n"
        "| bus | discard | image | DISC-MAX | fstrim says | canary | old | audit | any-discarding |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
    )
    order = {name: number for number, name in enumerate((*BUSES, *DISCARDS, *IMAGES))}
    mine = [one for one in seen if one.machine == machine]
    for one in sorted(
        mine, key=lambda one: (order[one.bus], order[one.discard], order[one.image])
    ):
        red = ", ".join(one.red["scsi"]) or "**green**"
        other = one.accepted["any-discarding"]
        text += (
            f"| {one.bus} | {one.discard} | {one.image} | {_mib(one.disc_max)} | {_mib(one.claimed)} | "
            f"{_share(one.returned, one.canary)} | {_share(one.old, OLD_MIB * MIB)} | {red} | {other} |\n"
        )
    return text


def _mib(count: int) -> str:
    return f"{count / MIB:.0f} MiB" if count else "0"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m lab.truth", description="What the audit says, and what came back."
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help=f"go on from {PROGRESS.relative_to(demo.ROOT)}",
    )
    parser.add_argument(
        "--only",
        metavar="'MACHINE BUS'",
        help="one guest, for a try; no page is written",
    )
    parser.add_argument(
        "--at-once", type=int, default=2, metavar="N", help="guests at a time"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="the page; its data go beside it"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
