"""The guests of one hypervisor and the bytes of their disks, by the newest runs that know them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from reclaim.record.record import Record, Storage
from reclaim.report import summary
from reclaim.report.summary import Standing

#: is the run of this number newer than that of the other?
IsNewer = Callable[[int, int], bool]


@dataclass(frozen=True)
class KnownGuest:
    """The standing of a guest by the run `stood`, and the run that counted its bytes.

    `road` is true if that run judged all that decides about a guest: no other takes the place of such a standing.
    """

    standing: Standing
    stood: int
    road: bool
    measured: int | None = None


class KnownDisk(NamedTuple):
    image: str | None
    virtual: int | None
    allocated: int | None
    used: int | None
    reclaimable: int | None


class Guests:
    """The guests of one hypervisor. `write` writes those that changed."""

    def __init__(self, connection: sqlite3.Connection, hypervisor: int) -> None:
        self._base = connection
        self._hypervisor = hypervisor
        self.every = dict(self._read_guests())
        self.disks = dict(self._read_disks())
        self._old = dict(self.every), dict(self.disks)

    def _read_guests(self) -> Iterator[tuple[str, KnownGuest]]:
        for name, standing, stood, road, measured in self._base.execute(
            "SELECT name, standing, stood, road, measured FROM guest WHERE hypervisor = ?",
            (self._hypervisor,),
        ):
            yield (
                name,
                KnownGuest(Standing[standing.upper()], stood, bool(road), measured),
            )

    def _read_disks(self) -> Iterator[tuple[tuple[str, str], KnownDisk]]:
        for guest, disk, *values in self._base.execute(
            "SELECT guest, disk, image, virtual, allocated, used, reclaimable FROM disk WHERE hypervisor = ?",
            (self._hypervisor,),
        ):
            yield (guest, disk), KnownDisk(*values)

    def take(
        self,
        run: int,
        record: Record,
        standings: Mapping[str, Standing],
        is_newer: IsNewer,
    ) -> None:
        """Take the standings and the bytes of *run* in, if none that is newer has them."""
        road = summary.is_whole(record)
        for name, standing in standings.items():
            known = self.every.get(name)
            if known is None:
                self.every[name] = KnownGuest(standing, run, road)
            elif road > known.road or (
                road == known.road and is_newer(run, known.stood)
            ):
                self.every[name] = replace(
                    known, standing=standing, stood=run, road=road
                )
        disks: dict[str, list[Storage]] = {}
        for disk in record.storage:
            disks.setdefault(disk.guest, []).append(disk)
        for name, several in disks.items():
            known = self.every.get(name)
            if known and (known.measured is None or is_newer(run, known.measured)):
                self.every[name] = replace(known, measured=run)
                self._measure(name, several)

    def _measure(self, name: str, several: list[Storage]) -> None:
        for key in [key for key in self.disks if key[0] == name]:
            del self.disks[key]
        for disk in several:
            self.disks[name, disk.disk] = KnownDisk(
                disk.path,
                _storable(disk.virtual),
                disk.allocated_after,
                disk.used,
                summary.reclaimable(disk),
            )

    def keep(self, names: set[str]) -> None:
        """Forget the guests that are not among *names*: they are gone."""
        for name in self.every.keys() - names:
            del self.every[name]
        for key in [key for key in self.disks if key[0] not in names]:
            del self.disks[key]

    def write(self) -> None:
        guests, disks = self._old
        many, here = self._base.executemany, self._hypervisor
        many(
            "DELETE FROM guest WHERE hypervisor = ? AND name = ?",
            [(here, name) for name in guests.keys() - self.every.keys()],
        )
        many(
            "INSERT OR REPLACE INTO guest VALUES (?, ?, ?, ?, ?, ?)",
            [
                (
                    here,
                    name,
                    guest.standing.name.lower(),
                    guest.stood,
                    guest.road,
                    guest.measured,
                )
                for name, guest in self.every.items()
                if guests.get(name) != guest
            ],
        )
        many(
            "DELETE FROM disk WHERE hypervisor = ? AND guest = ? AND disk = ?",
            [(here, *key) for key in disks.keys() - self.disks.keys()],
        )
        many(
            "INSERT OR REPLACE INTO disk VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (here, *key, *disk)
                for key, disk in self.disks.items()
                if disks.get(key) != disk
            ],
        )


def _storable(count: int | None) -> int | None:
    """Return *count* if SQLite can hold it: an image's virtual size may be more than 8 EiB."""
    return None if count is None or count >= 2**63 else count
