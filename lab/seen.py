"""The numbers and verdicts of the truth matrix, and the places at which they disagree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab.cells import MIB, OLD_MIB
from reclaim.space import diagnosis
from reclaim.space.proof import SHARE

#: the share of the old file that has to be free in its store again: btrfs frees an extent when nothing of it is in use
#: any more, and qemu-img writes extents of 2 MiB, of which a file ends in the midst of two
STORE_SHARE = 0.5
#: the requirements that name a layer that keeps bytes back
LAYERS = frozenset(("disk-discard", "disc-max", "live-definition", "image-format"))


@dataclass(frozen=True)
class Seen:
    """What was seen of one cell. Sizes in bytes.

    `claimed`: what fstrim says after the old file was deleted; `old`: how much less the host held then; `canary`,
    `returned`, `layer`: what `--prove` says. `red`: by policy, the requirements that the audit says do not hold, with
    its reasons; `accepted`: by policy, the verdict of disk-bus. `store`: the kind of store under the image, none: the
    guests' folder; `freed`: how much more was free in the store when the old file was gone. `day`: in ISO 8601.
    `note`: the obstacles that remain by `--prove`.
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
    store: str = ""
    freed: int = 0
    day: str = ""
    note: str = ""

    @property
    def where(self) -> str:
        place = f" on {self.store}" if self.store else ""
        return f"{self.machine} {self.bus}, discard {self.discard}, {self.image}{place}"

    @property
    def canary_came_back(self) -> bool:
        return self.returned >= SHARE * self.canary > 0

    @property
    def came_back(self) -> bool:
        return self.canary_came_back and self.old >= SHARE * OLD_MIB * MIB

    @property
    def store_got_it(self) -> bool:
        """True if the old file's bytes are free in the store again: `st_blocks` counts those of one image alone."""
        return self.freed >= STORE_SHARE * OLD_MIB * MIB


def disagreements(seen: Iterable[Seen]) -> list[str]:
    """Return in words the places at which the audit is at odds with the bytes that came back."""
    everything = list(seen)
    found = []
    for one in everything:
        found += [f"{one.where}: {words}" for words in _of(one, everything)]
    return found


def _of(one: Seen, everything: list[Seen]) -> Iterator[str]:
    for policy, red in one.red.items():
        if not red and not one.came_back:
            yield f"green with bus {policy!r}, and not all came back"
        elif not red and one.store and not (one.store_got_it or one.note):
            yield f"green with bus {policy!r}, and its store has not got it back"
    if not one.canary_came_back and one.layer in ("", diagnosis.UNKNOWN):
        yield "the canary did not come back, and the proof names no layer"
    if not one.came_back and not any(LAYERS & red.keys() for red in one.red.values()):
        yield "not all came back, and the audit names no layer that keeps it"
    if one.problem:
        yield f"nothing was proved: {one.problem}"
    works = any(
        other.canary_came_back
        for other in everything
        if (other.machine, other.bus, other.store, other.discard, other.image)
        == (one.machine, one.bus, one.store, "unmap", "raw")
    )
    verdict = one.accepted["any-discarding"]
    if one.bus in ("virtio", "sata") and (verdict == "compliant") != works:
        yield f"bus 'any-discarding' says {verdict}"
