"""The proof that freed space comes back, with a host and a canary whose every byte is scripted.

tests/unit/requirements/test_reclaim_proof.py has the same on real images, tests/guest in real guests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.inventory import GuestNotes, Inventory, Policy
from reclaim.space import counting, diagnosis, proof
from reclaim.space.canary import MIB, NotPlanted, Trimmed
from reclaim.space.counting import Store
from reclaim.space.proof import Proof, prove
from reclaim.storage.host_image import HostImage
from reclaim.storage.shrinkable import Inspected
from tests.support import Inside, block, disk_xml, inhabited, mounted, part

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Disk
    from tests.support import InhabitedGuest

GIB = 1024 * MIB


@dataclass
class World:
    """The bytes that the host holds, and the fate of each canary."""

    held: int = 100 * MIB
    #: the bytes that the host holds more for a canary, in hundredths of its length
    arrives: int = 100
    #: the bytes that come back in the end, in hundredths: for each canary, the last one for all further ones
    returns: list[int] = field(default_factory=lambda: [100])
    #: bytes that the guest writes beside each canary
    noise: list[int] = field(default_factory=lambda: [0])
    free: int = 4 * GIB
    grain: int = 4096
    refuses: str = ""
    breaks: BaseException | None = None
    sweeps: Exception | None = None
    planted: list[int] = field(default_factory=list)
    swept: int = 0
    written: int = 0


class Canary:
    """Stands for the script in the guest."""

    world: ClassVar[World]

    def __init__(self, _shell: object, _guest: str, _mount: str) -> None:
        self.size = 0

    def prepare(self) -> tuple[Trimmed, int]:
        return Trimmed(0, ""), self.world.free

    def plant(self, mebibytes: int) -> None:
        if self.world.refuses:
            raise NotPlanted(self.world.refuses)
        self.size = mebibytes * MIB
        self.world.planted.append(mebibytes)
        self.world.held += self.size * self.world.arrives // 100

    def dig(self) -> Trimmed:
        if self.world.breaks:
            raise self.world.breaks
        world = self.world
        returns = world.returns.pop(0) if len(world.returns) > 1 else world.returns[0]
        world.held -= self.size * returns // 100
        world.written += world.noise.pop(0) if len(world.noise) > 1 else world.noise[0]
        return Trimmed(0, f"/: x ({self.size} bytes) trimmed")

    def sweep(self) -> None:
        self.world.swept += 1
        if self.world.sweeps:
            raise self.world.sweeps


@dataclass(frozen=True)
class Counted(Store):
    """A store that counts what the world holds; of several the first has it all."""

    world: World = field(default_factory=World)

    @property
    def lag(self) -> float:
        return 0.0

    @property
    def grain(self) -> int:
        return self.world.grain

    def allocated(self) -> int:
        return self.world.held if self.target == "vda" else 0

    def written(self) -> tuple[int, int]:
        return 0, self.world.written if self.target == "vda" else 0


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    found = Inspected("raw", encrypted=False, image=HostImage("/srv/a", False, "fd:1", GIB, 0))
    monkeypatch.setattr(Canary, "world", made, raising=False)
    monkeypatch.setattr(proof, "Canary", Canary)
    monkeypatch.setattr(counting, "store", lambda disk: Counted(disk, disk.target, found, made))
    monkeypatch.setattr(counting, "_PATIENCE", 0.0)
    monkeypatch.setattr(counting, "PAUSE", 0.0)
    monkeypatch.setattr(diagnosis, "layer", lambda *_arguments: "the layer that keeps it")
    monkeypatch.setattr(diagnosis, "older", lambda _store: "")
    return made


def _guest(folder: Path, *devices: str, inside: Inside | None = None, **more: Any) -> InhabitedGuest:
    inventory = more.pop("inventory", Inventory(policy=Policy(canary_mib=16)))
    return inhabited(folder, inside or Inside(), *(devices or (disk_xml(),)), inventory=inventory, **more)


def _one(folder: Path, **more: Any) -> Proof:
    (found,) = prove(_guest(folder, **more))
    return found


# Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("returned", "holds"), [(100, True), (95, True), (94, False), (0, False)])
def test_most_of_it_has_to_come_back(returned: int, *, holds: bool) -> None:
    assert Proof("/", ("vda",), 100, 100, returned).holds is holds
    assert not Proof("/", ("vda",), 100, 100, returned, problem="no").holds


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(
            Proof("/", ("vda", "vdb"), 16 * MIB, 16 * MIB, 16 * MIB),
            "/ (vda, vdb): of 16.0 MiB written, 16.0 MiB came back (100 %)",
            id="holds",
        ),
        pytest.param(
            Proof("/", ("vda",), 100 * MIB, 10 * MIB, 99 * MIB, note="a snapshot"),
            "/ (vda): of 100.0 MiB written, 99.0 MiB came back (99 %), though the host had only 10.0 MiB more to hold; "
            "a snapshot",
            id="holds-with-remarks",
        ),
        pytest.param(
            Proof("/", ("vda",), 100 * MIB, 100 * MIB, 50 * MIB, 3 * GIB, layer="the layer", note="unsaid"),
            "/ (vda): of 100.0 MiB written, 50.0 MiB came back (50 %); fstrim reports a trim of 3.0 GiB: the layer",
            id="does-not",
        ),
        pytest.param(
            Proof("/", ("vda",), 100 * MIB, 100 * MIB, 0, layer="the layer"),
            "/ (vda): of 100.0 MiB written, 0 B came back (0 %): the layer",
            id="fstrim-said-nothing",
        ),
        pytest.param(Proof("/", (), problem="no"), "/: no", id="no-result"),
    ],
)
def test_a_proof_in_words(found: Proof, words: str) -> None:
    assert found.told == words


# A canary -------------------------------------------------------------------------------------


def test_a_canary_that_comes_back_is_the_proof(tmp_path: Path, world: World) -> None:
    found = _one(tmp_path)
    assert (found.mount, found.disks, found.problem, found.excluded) == ("/", ("vda",), "", False)
    assert (found.canary, found.arrived, found.returned, found.claimed) == (16 * MIB,) * 4
    assert found.holds
    assert (found.layer, found.note) == ("", "")
    assert (world.planted, world.swept) == ([16], 1)


def test_a_canary_that_stays_names_the_layer(tmp_path: Path, world: World) -> None:
    world.returns = [94]
    found = _one(tmp_path)
    assert found.returned == 16 * MIB * 94 // 100
    assert found.layer == "the layer that keeps it"
    assert world.planted == [16]


def test_a_remark_of_a_store_is_kept(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.grain
    monkeypatch.setattr(diagnosis, "older", lambda store: f"{store.target} has a snapshot")
    assert _one(tmp_path).note == "vda has a snapshot"


def test_no_more_comes_back_than_was_written(tmp_path: Path, world: World) -> None:
    world.returns = [300]
    assert _one(tmp_path).returned == 16 * MIB
    world.arrives, world.returns = 0, [-50]
    found = _one(tmp_path)
    assert (found.arrived, found.returned) == (0, 0)


def test_it_is_proved_once_until_something_changes_inside(tmp_path: Path, world: World) -> None:
    guest = _guest(tmp_path)
    said: list[str] = []
    guest.hypervisor.progress = said.append
    assert prove(guest) is prove(guest)
    assert world.planted == [16]
    assert said == ["one: a canary in /", ""]
    guest.forget()
    prove(guest)
    assert world.planted == [16, 16]


# Its length -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "grain", "mebibytes"),
    [
        pytest.param(4 * GIB, 4096, 16, id="policy"),
        pytest.param(159 * MIB, 4096, 15, id="a-tenth-of-what-is-free"),
        pytest.param(40 * MIB, 4096, 4, id="the-smallest"),
        pytest.param(4 * GIB, 2 * MIB, 128, id="64-grains"),
        pytest.param(339 * MIB, 2 * MIB, 32, id="whole-grains"),
    ],
)
def test_the_length_of_a_canary(tmp_path: Path, world: World, free: int, grain: int, mebibytes: int) -> None:
    world.free, world.grain = free, grain
    assert _one(tmp_path).holds
    assert world.planted == [mebibytes]


@pytest.mark.parametrize(("free", "grain"), [(40 * MIB - 1, 4096), (320 * MIB - 1, 2 * MIB), (0, 4096)])
def test_a_canary_that_drowns_in_noise_is_not_planted(tmp_path: Path, world: World, free: int, grain: int) -> None:
    world.free, world.grain = free, grain
    found = _one(tmp_path)
    assert "too small a canary" in found.problem
    assert not found.excluded
    assert world.planted == []


# Noise ----------------------------------------------------------------------------------------


def test_noise_that_may_hide_it_is_tried_again(tmp_path: Path, world: World) -> None:
    world.returns, world.noise = [0, 100], [16 * MIB, 0]
    assert _one(tmp_path).holds
    assert (world.planted, world.swept) == ([16, 16], 2)


def test_noise_that_cannot_hide_it_is_no_excuse(tmp_path: Path, world: World) -> None:
    world.returns, world.noise = [0], [15 * MIB]
    assert not _one(tmp_path).holds
    assert world.planted == [16]


def test_noise_of_earlier_writes_does_not_count(tmp_path: Path, world: World) -> None:
    world.written, world.returns = GIB, [0]
    assert not _one(tmp_path).holds
    assert world.planted == [16]


def test_noise_without_an_end_is_inconclusive(tmp_path: Path, world: World) -> None:
    world.returns, world.noise = [50], [20 * MIB]
    found = _one(tmp_path)
    assert "inconclusive: of 16.0 MiB written, at least 8.0 MiB came back" in found.problem
    assert "20.0 MiB" in found.problem
    assert world.planted == [16] * 3


# What cannot be proved ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fstype", "words"),
    [("ro", "ext4", "read-only"), ("rw", "minix", "minix"), ("ro,relatime", "minix", "read-only")],
)
def test_what_is_not_trimmed_is_not_proved(tmp_path: Path, world: World, options: str, fstype: str, words: str) -> None:
    found = _one(tmp_path, inside=Inside(mounts=[mounted("/", "/dev/vda1", fstype, options)]))
    assert words in found.problem
    assert (found.excluded, found.disks, world.planted) == (False, ("vda",), [])


def test_a_disk_that_is_not_judged_excludes_its_filesystem(tmp_path: Path, world: World) -> None:
    found = _one(tmp_path, inventory=Inventory(guest={"one": GuestNotes(thick=True)}))
    assert found.excluded
    assert found.problem.startswith("vda: ")
    assert world.planted == []


def test_a_store_that_cannot_be_counted_has_its_reason(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_disk: Disk) -> Store:
        raise NotAssessable("a device that nobody counts")

    monkeypatch.setattr(counting, "store", fail)
    found = _one(tmp_path)
    assert (found.problem, found.excluded, world.planted) == ("a device that nobody counts", False, [])


def test_a_canary_that_finds_no_room_is_told_and_swept(tmp_path: Path, world: World) -> None:
    world.refuses = "dd: No space left on device"
    found = _one(tmp_path)
    assert found.problem.endswith("dd: No space left on device")
    assert world.swept == 1


@pytest.mark.parametrize("sweeps", [None, ProbeError("gone"), NotPlanted("gone")])
def test_a_guest_that_dies_is_swept_and_nothing_is_kept(tmp_path: Path, world: World, sweeps: Exception | None) -> None:
    world.breaks, world.sweeps = ProbeError("one: does not answer"), sweeps
    guest = _guest(tmp_path)
    said: list[str] = []
    guest.hypervisor.progress = said.append
    with pytest.raises(ProbeError, match="one: does not answer"):
        prove(guest)
    assert (world.swept, guest.learned, said[-1]) == (1, {}, "")


def test_ctrl_c_sweeps_it(tmp_path: Path, world: World) -> None:
    world.breaks = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        prove(_guest(tmp_path))
    assert world.swept == 1


# Several disks --------------------------------------------------------------------------------


def _serials(*names: str) -> list[str]:
    return [disk_xml(name, inner=f"<serial>{name}</serial>") for name in names]


def test_a_mirror_has_to_give_back_what_it_took(tmp_path: Path, world: World) -> None:
    mirror = [part("md0", type="raid1", fstype="ext4")]
    inside = Inside(
        devices=[block(name, *mirror, serial=name) for name in ("vda", "vdb")], mounts=[mounted("/", "/dev/md0")]
    )
    world.arrives = world.returns[0] = 200
    (found,) = prove(_guest(tmp_path, *_serials("vda", "vdb"), inside=inside))
    assert (found.disks, found.canary, found.holds) == (("vda", "vdb"), 32 * MIB, True)
    world.returns = [100]
    (found,) = prove(_guest(tmp_path, *_serials("vda", "vdb"), inside=inside))
    assert (found.returned, found.holds) == (16 * MIB, False)
    # data in clusters that the images had already
    world.arrives, world.returns = 10, [100]
    (found,) = prove(_guest(tmp_path, *_serials("vda", "vdb"), inside=inside))
    assert (found.canary, found.holds) == (16 * MIB, True)


def _btrfs(*names: str, uuid: str | None = "b-1") -> Inside:
    devices = [block(name, serial=name, fstype="btrfs", uuid=uuid) for name in names]
    return Inside(devices=devices, mounts=[mounted("/", f"/dev/{names[0]}", "btrfs", uuid=uuid)])


def test_a_btrfs_counts_on_all_disks_of_its_uuid(tmp_path: Path, world: World) -> None:
    inside = _btrfs("vdb", "vda")
    inside.devices.append(block("vdc", serial="vdc", fstype="btrfs", uuid="other"))
    (found,) = prove(_guest(tmp_path, *_serials("vda", "vdb", "vdc"), inside=inside))
    assert found.disks == ("vda", "vdb")
    assert world.planted == [16]


def test_a_btrfs_without_a_uuid_counts_on_its_own_disk(tmp_path: Path, world: World) -> None:
    (found,) = prove(_guest(tmp_path, *_serials("vda", "vdb"), inside=_btrfs("vda", "vdb", uuid=None)))
    assert (found.disks, world.planted) == (("vda",), [16])


def test_disks_that_are_not_known_are_named_in_part(tmp_path: Path, world: World) -> None:
    names = [f"vd{letter}" for letter in "abcdefgh"]
    (found,) = prove(_guest(tmp_path, *_serials("vda", "vdz"), inside=_btrfs(*names)))
    assert "/dev/vdb, /dev/vdc, /dev/vdd, /dev/vde, /dev/vdf" in found.problem
    assert "/dev/vdg" not in found.problem
    assert (found.excluded, world.planted) == (False, [])


def test_each_filesystem_has_its_own_proof(tmp_path: Path, world: World) -> None:
    inside = Inside(
        devices=[block("vda", part("vda1", fstype="ext4"), part("vda2", fstype="ext4"))],
        mounts=[mounted("/", "/dev/vda1"), mounted("/srv", "/dev/vda2", options="ro"), mounted("/t", "tmpfs", "tmpfs")],
    )
    root, srv = prove(_guest(tmp_path, inside=inside))
    assert (root.mount, root.holds) == ("/", True)
    assert (srv.mount, bool(srv.problem)) == ("/srv", True)
    assert root.seconds >= 0
    assert world.planted == [16]
