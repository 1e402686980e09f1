"""Writes the page of the truth matrix, docs/truth.md, from its numbers."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import host, image, paths, stores
from lab.cells import BUSES, DISCARDS, IMAGES, MIB, NVME, OLD_MIB
from lab.seen import Seen
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory

CANARY_MIB = 16


@dataclass(frozen=True)
class Plan:
    """The matrix of one machine.

    `machines`: the machine types, the newest last; `gone`: by each type that this QEMU has no more, the next newer one
    that boots; `stores`: the kinds of store; `missing`: by the title of each other store, why it cannot be had.
    """

    machines: tuple[str, ...]
    gone: Mapping[str, str]
    buses: tuple[str, ...]
    stores: tuple[str, ...]
    missing: Mapping[str, str]


_HEAD = """\
# The truth matrix: QEMU {qemu}

Written by `{by}`, which counted every number {days}: QEMU {qemu}, libvirt {libvirt}, Linux {kernel}
on the host, {guest} in the guests, images on {filesystem}. {data} beside this page has the reasons too.

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
_STORES = """
## On other filesystems

Each image lies on a new filesystem, with `discard='unmap'`, and the guest is {machine}. The host was asked to write
all to its disk before each count. The column *in the store* shows the share of the old file by which the free space of
that filesystem grew. btrfs frees an extent when nothing of it is in use any more, so its free space may grow by less
than `st_blocks` falls; the rest follows when the neighbours are deleted too.

"""


def page(seen: Sequence[Seen], wanted: Plan, *, whole: bool, by: str, data: str) -> str:
    """Return the matrix as Markdown; `whole`: every guest was run; `by`: the command; `data`: the name of its data."""
    hypervisor = connect(host.URI, None, Inventory())
    kind = hypervisor.shell.run(
        "stat -f -c %%T -- %s", str(paths.guests())
    ).stdout.strip()
    head = _HEAD.format(
        by=by,
        data=data,
        days=_days(seen),
        qemu=hypervisor.qemu_version,
        libvirt=hypervisor.libvirt_version,
        kernel=platform.release().partition("-")[0],
        guest=_kernel_release(image.kernel("generic")[0]),
        filesystem=kind,
        canary=CANARY_MIB,
        old=OLD_MIB,
    )
    hypervisor.connection.close()
    return page_of(seen, wanted, head, whole=whole)


def _days(seen: Sequence[Seen]) -> str:
    days = sorted({one.day for one in seen})
    if not days:
        return "on no day"
    return f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"


def _kernel_release(kernel: Path) -> str:
    """The release of a Linux image, as its setup header points to it (Linux's Documentation/arch/x86/boot.rst)."""
    head = kernel.read_bytes()[: 64 * 1024]
    at = int.from_bytes(head[0x20E:0x210], "little") + 0x200
    return head[at:].split(b"\0")[0].decode("ascii", errors="replace").split()[0]


def page_of(seen: Sequence[Seen], wanted: Plan, head: str, *, whole: bool) -> str:
    """Return the tables below *head*."""
    text = head
    for old, other in wanted.gone.items():
        text += f"\nThis QEMU has no {old} any more; {other} is the next newer that boots.\n"
    if NVME not in wanted.buses:
        text += "\nThis libvirt has no bus nvme for disks; QEMU's driver has one from libvirt 11.5.\n"
    if not whole:
        text += "\nNot every guest was run: `--resume` goes on.\n"
    here = [one for one in seen if not one.store]
    text += _short(here, wanted) + _stored([one for one in seen if one.store], wanted)
    return text + "".join(
        _table(here, machine) for machine in dict.fromkeys(one.machine for one in here)
    )


def _short(seen: Sequence[Seen], wanted: Plan) -> str:
    """Return the share that discard='unmap' brings back of a raw image and of a plain qcow2."""
    text = (
        "\n## In short\n\nWith `discard='unmap'`, this share of the canary came back "
        "from a plain qcow2 and from a raw image:\n\n"
    )
    text += _head("machine", *wanted.buses)
    for machine in wanted.machines:
        text += _row(machine, *(_shares(seen, machine, bus) for bus in wanted.buses))
    kept = [one for one in seen if one.discard != "unmap"]
    return text + (
        f"\nWithout it, in {len(kept)} cells, {sum(one.returned + one.old for one in kept)} bytes came back; "
        f"in {sum(1 for one in kept if one.claimed)} of them fstrim reported that it had trimmed.\n"
    )


def _shares(seen: Sequence[Seen], machine: str, bus: str) -> str:
    found = [
        _share(one.returned, one.canary)
        for one in seen
        if (one.machine, one.bus, one.discard) == (machine, bus, "unmap")
        and one.image in ("qcow2", "raw")
    ]
    return ", ".join(found) or "not run"


def _stored(seen: Sequence[Seen], wanted: Plan) -> str:
    """Return the section of the stores."""
    text = _STORES.format(machine=wanted.machines[-1])
    text += "".join(
        f"{title} could not be had: {reason}.\n\n"
        for title, reason in wanted.missing.items()
    )
    if not seen:
        return text + "None was run.\n"
    text += _head(
        *("store", "bus", "image", "DISC-MAX", "fstrim says", "canary", "old"),
        *("in the store", "audit", "any-discarding"),
    )
    order = {name: number for number, name in enumerate((*wanted.stores, *IMAGES))}
    for one in sorted(
        seen,
        key=lambda one: (order.get(one.store, -1), one.bus, order[one.image]),
    ):
        text += _row(
            stores.kind(one.store).title,
            *(one.bus, one.image, *_counts(one)),
            _share(one.freed, OLD_MIB * MIB),
            *_verdicts(one),
        )
    return text


def _table(seen: Sequence[Seen], machine: str) -> str:
    text = f"\n## {machine}\n\n" + _head(
        *("bus", "discard", "image", "DISC-MAX", "fstrim says", "canary", "old"),
        *("audit", "any-discarding"),
    )
    order = {
        name: number for number, name in enumerate((*BUSES, NVME, *DISCARDS, *IMAGES))
    }
    for one in sorted(
        (one for one in seen if one.machine == machine),
        key=lambda one: (order[one.bus], order[one.discard], order[one.image]),
    ):
        text += _row(one.bus, one.discard, one.image, *_counts(one), *_verdicts(one))
    return text


def _counts(one: Seen) -> tuple[str, ...]:
    return (
        _mib(one.disc_max),
        _mib(one.claimed),
        _share(one.returned, one.canary),
        _share(one.old, OLD_MIB * MIB),
    )


def _verdicts(one: Seen) -> tuple[str, str]:
    return ", ".join(one.red["scsi"]) or "**green**", one.accepted["any-discarding"]


def _head(*names: str) -> str:
    return _row(*names) + "|" + "---|" * len(names) + "\n"


def _row(*fields: str) -> str:
    return f"| {' | '.join(fields)} |\n"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _mib(count: int) -> str:
    return f"{count / MIB:.0f} MiB" if count else "0"
