"""The downtime of a fix that power-cycles a guest, beside a plain shutdown and start of the same guest."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import libvirt

from bench import guests
from bench.page import Aim, Asked, Results, Topic
from bench.rounds import Contender, Failed, Taken, progress, race
from lab import agent, paths, tools
from lab import guest as lab
from lab.guest import LabGuest

NAME = "reclaim-lab-bench-remedy"
OURS = "reclaim fix --restart"
PLAIN = "shutdown and start"
DOWN = "downtime, s"
#: seconds between two looks at the guest
_STEP = 0.1

ABOUT = """\
A guest with a virtio disk, no `discard` and `/dev/vda1` in its fstab is mended with one power cycle, beside the same \
guest that is shut down and started by libvirt's own calls. Downtime begins when libvirt sees the guest off, and ends \
when its agent answers; a watcher beside both sees that. The seconds are those of the whole work: reclaim also looks, \
edits files in the guest, judges again, trims, and writes its report."""


def measure(asked: Asked) -> Results:
    rounds = asked.rounds_or(1 if asked.quick else 3)
    with (
        tempfile.TemporaryDirectory(prefix="rb-", dir=paths.guests()) as name,
        guests.guest(NAME, recipe="both", discard=None) as made,
    ):
        watched = race(
            "One guest, one power cycle",
            _contenders(made, Path(name)),
            rounds,
            baseline=PLAIN,
        )
    aim = Aim(
        f"downtime of {OURS}, over {PLAIN}",
        watched.ratio(OURS, PLAIN, DOWN),
        1.15,
        why="The first start on virtio-scsi probes another bus.",
    )
    return Results((watched,), (aim,))


def _contenders(made: LabGuest, folder: Path) -> list[Contender]:
    numbers = count()
    old = lab.lookup(made.name).XMLDesc(
        libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    )
    lab.shutdown(made, guests.BOOT_SECONDS)
    image = folder / "old.qcow2"
    _copy(made.image, image)

    def as_it_was() -> None:
        domain = lab.lookup(made.name)
        if domain.isActive():
            lab.shutdown(made, guests.BOOT_SECONDS)
        _copy(image, made.image)
        domain.connect().defineXML(old)
        guests.up(made)
        progress("remedy: the guest is as it was")

    def mend() -> None:
        guests.reclaim(
            made, folder / f"run-{next(numbers)}", "--fix", "--restart", expected=(0,)
        )

    def plain() -> None:
        lab.shutdown(made, guests.BOOT_SECONDS)
        guests.up(made)

    return [
        Contender(PLAIN, lambda: _watched(made, plain), as_it_was),
        Contender(OURS, lambda: _watched(made, mend), as_it_was),
    ]


def _copy(source: Path, target: Path) -> None:
    tools.call(
        ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)],
        seconds=600,
    )


def _watched(made: LabGuest, work: Callable[[], None]) -> Taken:
    """Do *work*, and measure how long the guest is away meanwhile. Raises Failed if it is not, or stays away."""
    over = threading.Event()
    times: list[float] = []
    watcher = threading.Thread(target=_watch, args=(made, times, over))
    watcher.start()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    if len(times) != 2:
        raise Failed(f"{made.name} was not seen to go off and to answer again")
    return Taken(figures={DOWN: times[1] - times[0]})


def _watch(made: LabGuest, times: list[float], over: threading.Event) -> None:
    """Note when the guest goes off, and when its agent answers again."""
    domain = lab.lookup(made.name)
    while domain.isActive() and not over.is_set():
        time.sleep(_STEP)
    if over.is_set():
        return
    times.append(time.monotonic())
    while not (domain.isActive() and agent.answers(domain)):
        if over.is_set():
            break
        time.sleep(_STEP)
    times.append(time.monotonic())


TOPIC = Topic("remedy", "Downtime of a remedy", ABOUT, measure)
