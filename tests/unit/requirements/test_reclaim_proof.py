"""reclaim-proof: the check and its fixer, on images of qemu-img's own; qemu-io does what the guest's canary does."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from reclaim.base.errors import ProbeError
from reclaim.base.verdict import Verdict
from reclaim.inventory import GuestNotes, Inventory, Policy
from reclaim.space import counting, proof
from reclaim.space.canary import NotPlanted, Trimmed
from reclaim.space.counting import Store
from reclaim.space.proof import prove
from tests.support import Inside, block, disk_xml, drive, engine, inhabited, mounted, part, requirement, subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reclaim.base.verdict import Result
    from tests.support import InhabitedGuest

MIB = 1024**2
GIB = 1024**3
DEAF = 0
pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img (Debian and Ubuntu: qemu-utils)")


@dataclass
class World:
    """What the guest does: where its canary lands, what discards do, what else it writes."""

    images: list[Path]
    #: qemu-io's cache of discards: what `discard=` is in the running QEMU
    discard: str = "unmap"
    kind: str = "qcow2"
    free: int = 4 * GIB
    claims: int | None = None
    status: int = 0
    words: str = ""
    #: bytes that block statistics count after each look, one after another; the last one stays
    written: list[int] = field(default_factory=lambda: [0])
    #: how many canaries come back in the end, where a busy guest hides it first
    hidden: int = 0
    refuses: str = ""
    #: raised instead of deleting
    breaks: BaseException | None = None
    planted: list[int] = field(default_factory=list)
    swept: int = 0

    def io(self, *commands: str) -> None:
        for image in self.images:
            given = [part for command in commands for part in ("-c", command)]
            subprocess.run(
                ["qemu-io", "-d", self.discard, "-f", self.kind, *given, str(image)], check=True, capture_output=True
            )


class Planted:
    """Stands for the script in the guest: the same steps, straight on the image."""

    world: ClassVar[World]

    def __init__(self, _shell: object, guest: str, mount: str) -> None:
        self.size = 0

    def prepare(self) -> tuple[Trimmed, int]:
        return self._trimmed(), self.world.free

    def plant(self, mebibytes: int) -> None:
        if self.world.refuses:
            raise NotPlanted(self.world.refuses)
        self.size = mebibytes
        self.world.planted.append(mebibytes)
        self.world.io(f"write -P 7 64M {mebibytes}M")

    def dig(self) -> Trimmed:
        if self.world.breaks:
            raise self.world.breaks
        if not self.world.hidden:
            self.world.io(f"discard 64M {self.size}M")
        self.world.hidden = max(0, self.world.hidden - 1)
        return self._trimmed()

    def sweep(self) -> None:
        self.world.swept += 1

    def _trimmed(self) -> Trimmed:
        claims = self.size * MIB if self.world.claims is None else self.world.claims
        return Trimmed(self.world.status, self.world.words or f"/: x ({claims} bytes) trimmed")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(counting, "_PATIENCE", 0.0)
    monkeypatch.setattr(counting, "PAUSE", 0.0)
    yield
    if hasattr(Planted, "world"):
        del Planted.world


def image(path: Path, *options: str, kind: str = "qcow2", size: str = "1G") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), size], check=True)
    return path


def world(monkeypatch: pytest.MonkeyPatch, *images: Path, **more: Any) -> World:
    made = World(list(images), **more)
    Planted.world = made
    monkeypatch.setattr(proof, "Canary", Planted)
    looks = itertools.chain(made.written, itertools.repeat(made.written[-1]))
    monkeypatch.setattr(counting, "written", lambda _stores: next(looks))
    return made


def guest_on(
    folder: Path,
    path: Path,
    inside: Inside | None = None,
    driver: str = "discard='unmap'",
    bus: str = "virtio",
    **more: Any,
) -> InhabitedGuest:
    more.setdefault("inventory", Inventory(policy=Policy(canary_mib=16)))
    target, inner = ("sda", drive(0)) if bus == "scsi" else ("vda", "")
    disk = disk_xml(target, bus, str(path), driver=driver, inner=inner)
    return inhabited(folder, inside or Inside(), disk, **more)


def judged(guest: InhabitedGuest, folder: Path, mode: Any = "audit") -> Result:
    return engine(guest.hypervisor, folder, mode).run(requirement("reclaim-proof"), subject(guest))


# What comes back ------------------------------------------------------------------------------


def test_what_comes_back_is_counted_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path)
    guest = guest_on(tmp_path, path)
    result = judged(guest, tmp_path)
    assert result.verdict is Verdict.COMPLIANT
    assert result.evidence == "/ (vda): of 16.0 MiB written, 16.0 MiB came back (100 %)"
    assert (made.planted, made.swept) == ([16], 1)
    (one,) = prove(guest)
    assert one.arrived >= 16 * MIB
    assert made.planted == [16]  # kept: nothing was changed since
    guest.forget()
    prove(guest)
    assert made.planted == [16, 16]


def test_bytes_that_only_seem_to_come_back_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fstrim claims what it likes."""
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, discard="ignore", claims=3 * GIB)
    guest = guest_on(tmp_path, path, driver="")
    result = judged(guest, tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason == (
        "/ (vda): of 16.0 MiB written, 0 B came back (0 %); fstrim reports a trim of 3.0 GiB: "
        "the definition of vda is without discard='unmap' (discard absent): QEMU drops them (see disk-discard)"
    )


def test_nothing_mends_a_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, discard="ignore")
    guest = guest_on(tmp_path, path, driver="")
    result = judged(guest, tmp_path, "fix")
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "withheld: depends on disk-discard (noncompliant: driver discard is absent" in result.reason
    forced = engine(guest.hypervisor, tmp_path, force=True).run(requirement("reclaim-proof"), subject(guest))
    assert "withheld: fix the layer that is named" in forced.reason
    assert len(made.planted) == 1


def test_a_canary_in_clusters_that_the_image_has_already_still_has_to_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path)
    made.io("write -P 3 64M 16M")  # what the first trim did not free: the canary adds nothing
    (one,) = prove(guest_on(tmp_path, path))
    assert one.arrived < MIB
    assert one.holds
    assert "though the host had only" in one.told


# Which layer keeps them -----------------------------------------------------------------------


def _inside(disc_max: int = GIB, *, layer: str = "part", layer_max: int | None = None) -> Inside:
    top = part("dm-0" if layer != "part" else "vda1", fstype="ext4", type=layer)
    top["disc-max"] = disc_max if layer_max is None else layer_max
    devices = [block("vda", top if layer == "part" else part("vda1", top, disc_max=disc_max), disc_max=disc_max)]
    return Inside(devices=devices, mounts=[mounted("/", f"/dev/{top['name']}")])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inside", "machine", "named"),
    [
        pytest.param(
            _inside(DEAF), "pc-q35-3.1", "virtio-blk on pc-q35-3.1 offers no discard before machine type 4.0", id="old"
        ),
        pytest.param(_inside(DEAF), "pc-q35-7.2", "the guest's virtio-blk driver takes no discards", id="driver"),
        pytest.param(_inside(layer="crypt", layer_max=DEAF), "pc-q35-7.2", "dm-crypt: /dev/dm-0 passes", id="luks"),
        pytest.param(_inside(layer="raid5", layer_max=DEAF), "pc-q35-7.2", "/dev/dm-0 (raid5) takes no", id="raid"),
    ],
)
def test_a_deaf_layer_of_the_guest_is_named_before_the_host_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Inside, machine: str, named: str
) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, discard="ignore", status=1, words="fstrim: /: the discard operation is not supported")
    (one,) = prove(guest_on(tmp_path, path, inside, driver="", machine=machine))
    assert named in one.layer
    assert "(see disc-max); fstrim says: fstrim: /: the discard operation is not supported" in one.layer


def test_fstrim_s_own_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, discard="ignore", status=127, words="sh: fstrim: not found")
    (one,) = prove(guest_on(tmp_path, path))
    assert one.layer == "fstrim failed with status 127: sh: fstrim: not found"


def test_a_filesystem_that_takes_it_for_trimmed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, discard="ignore", claims=0)
    (one,) = prove(guest_on(tmp_path, path))
    assert "the filesystem remembers earlier trims: fstrim passed on 0 B only; mount it again" in one.layer


def test_a_running_qemu_on_older_settings_is_told_from_a_definition_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, discard="ignore")
    guest = guest_on(tmp_path, path, driver="")
    # the test driver has one XML for both: what runs stays as it was read, and the definition is another
    live = guest.live
    assert live is not None
    guest.hypervisor.connection.defineXML(live.xml.replace("type='qcow2'", "type='qcow2' discard='unmap'"))
    guest.__dict__["live"] = live
    guest.__dict__.pop("persistent", None)
    assert guest.persistent.disks[0].driver.get("discard") == "unmap"
    (one,) = prove(guest)
    assert one.layer == "the running QEMU has vda on older settings, with discard absent (see live-definition)"


def test_an_old_image_over_a_backing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = image(tmp_path / "base.qcow2")
    path = image(tmp_path / "disk.qcow2", "-o", "compat=0.10", "-b", str(base), "-F", "qcow2")
    world(monkeypatch, path)
    (one,) = prove(guest_on(tmp_path, path))
    assert one.returned < MIB
    assert "qcow2 0.10 over the backing file" in one.layer
    assert one.layer.endswith("(see image-format)")


def test_what_an_internal_snapshot_keeps_is_told_although_the_canary_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path / "disk.qcow2")
    subprocess.run(["qemu-img", "snapshot", "-c", "monday", str(path)], check=True)
    world(monkeypatch, path)
    (one,) = prove(guest_on(tmp_path, path))
    assert one.holds
    assert "1 internal snapshot (monday): a trim in the guest does not free" in one.told


@pytest.mark.slow
def test_pieces_that_are_smaller_than_a_cluster_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2", "-o", "cluster_size=2M")
    made = world(monkeypatch, path)

    def in_pieces(self: Planted) -> Trimmed:
        made.io(*(f"discard {64 + at}M 1M" for at in range(self.size)))
        return self._trimmed()

    monkeypatch.setattr(Planted, "dig", in_pieces)
    (one,) = prove(guest_on(tmp_path, path))
    assert made.planted == [128]  # 64 clusters
    assert one.layer == "granularity: vda frees 2.0 MiB as one, the guest discards from 4.0 KiB on"


def test_where_no_layer_explains_it_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, discard="ignore")
    (one,) = prove(guest_on(tmp_path, path))
    assert one.layer == "none of the known layers explains it"


# Noise ----------------------------------------------------------------------------------------


def test_a_guest_that_writes_meanwhile_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, hidden=1, written=[0, 20 * MIB])
    assert judged(guest_on(tmp_path, path), tmp_path).verdict is Verdict.COMPLIANT
    assert len(made.planted) == 2


def test_a_guest_that_always_writes_is_inconclusive_and_the_numbers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, discard="ignore", written=[at * 20 * MIB for at in range(9)])
    result = judged(guest_on(tmp_path, path), tmp_path)
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert "inconclusive: of 16.0 MiB written, at least 0 B came back" in result.reason
    assert "take up to 20.0 MiB" in result.reason
    assert len(made.planted) == 3


def test_little_noise_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, discard="ignore", written=[0, 3 * MIB])
    assert judged(guest_on(tmp_path, path), tmp_path).verdict is Verdict.NONCOMPLIANT
    assert len(made.planted) == 1


class Clock:
    """Time that passes by waiting only."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.slow
def test_a_filesystem_that_counts_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first trim freed must not be taken for the canary: ZFS counts it seconds later."""
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, discard="ignore")
    guest = guest_on(tmp_path, path)
    clock = Clock()
    monkeypatch.setattr(counting, "time", clock)
    monkeypatch.setattr(counting, "PAUSE", 0.2)
    real = Store.allocated
    monkeypatch.setattr(Store, "allocated", lambda self: real(self) + (100 * MIB if clock.now < 7 else 0))
    monkeypatch.setattr(Store, "lag", 12.0)
    (one,) = prove(guest)
    assert made.planted == [16]
    assert (one.returned, one.holds) == (0, False)
    assert one.arrived >= 16 * MIB


# What cannot be told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "more", "words"),
    [
        pytest.param(Inside(), {"free": 30 * MIB}, "30.0 MiB are free: a tenth of that is too small", id="full"),
        pytest.param(
            Inside(mounts=[mounted("/", "/dev/vda1", options="ro")]), {}, "it is mounted read-only", id="read-only"
        ),
        pytest.param(Inside(mounts=[mounted("/", "/dev/vda1", "minix")]), {}, "minix is nothing that", id="minix"),
        pytest.param(
            Inside(), {"refuses": "dd: No space left on device"}, "no canary could be kept in it: dd: No", id="no room"
        ),
    ],
)
def test_what_cannot_be_proved_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Inside, more: dict[str, Any], words: str
) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, **more)
    result = judged(guest_on(tmp_path, path, inside), tmp_path)
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert words in result.reason


def test_less_is_written_where_less_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, free=89 * MIB)
    prove(guest_on(tmp_path, path))
    assert made.planted == [8]


def test_a_disk_that_is_thick_on_purpose_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path)
    inventory = Inventory(guest={"one": GuestNotes(thick=True)})
    result = judged(guest_on(tmp_path, path, inventory=inventory), tmp_path)
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert "vda: thick on purpose (inventory)" in result.reason
    assert made.planted == []


def test_nothing_on_a_disk_is_nothing_to_prove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path)
    inside = Inside(mounts=[mounted("/", "tank/root", "zfs")])
    assert judged(guest_on(tmp_path, path, inside), tmp_path).verdict is Verdict.NOT_APPLICABLE


def test_one_that_cannot_be_told_does_not_hide_one_that_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    world(monkeypatch, path, discard="ignore")
    devices = [block("vda", part("vda1", fstype="ext4"), part("vda2", fstype="ext4"))]
    inside = Inside(devices=devices, mounts=[mounted("/", "/dev/vda1"), mounted("/ro", "/dev/vda2", options="ro")])
    result = judged(guest_on(tmp_path, path, inside), tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "/ro" not in result.reason


def test_an_agent_that_dies_is_an_error_and_what_is_left_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, breaks=ProbeError("one: the guest agent does not answer"))
    guest = guest_on(tmp_path, path)
    result = judged(guest, tmp_path)
    assert result.verdict is Verdict.ERROR
    assert result.reason == "could not look: one: the guest agent does not answer"
    assert made.swept == 1
    assert not guest.learned


def test_an_interrupted_proof_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path / "disk.qcow2")
    made = world(monkeypatch, path, breaks=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        judged(guest_on(tmp_path, path), tmp_path)
    assert made.swept == 1


# Several disks --------------------------------------------------------------------------------


def _two(
    folder: Path, mounts: list[dict[str, Any]], devices: list[dict[str, Any]]
) -> tuple[InhabitedGuest, list[Path]]:
    paths = [image(folder / f"{name}.qcow2") for name in "ab"]
    disks = [
        disk_xml(
            f"sd{name}", "scsi", str(path), driver="discard='unmap'", inner=f"<serial>{name}</serial>{drive(unit)}"
        )
        for unit, (name, path) in enumerate(zip("ab", paths, strict=True))
    ]
    inventory = Inventory(policy=Policy(canary_mib=16))
    return inhabited(folder, Inside(devices=devices, mounts=mounts), *disks, inventory=inventory), paths


@pytest.mark.slow
def test_a_mirror_has_to_give_both_halves_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = [part("md0", type="raid1", fstype="ext4")]
    devices = [block(f"sd{name}", *half, serial=name) for name in "ab"]
    guest, paths = _two(tmp_path, [mounted("/", "/dev/md0")], devices)
    made = world(monkeypatch, *paths)
    (one,) = prove(guest)
    assert one.disks == ("sda", "sdb")
    assert one.canary >= 32 * MIB
    assert one.holds
    guest.forget()

    def half_only(self: Planted) -> Trimmed:
        made.images = paths[:1]
        made.io(f"discard 64M {self.size}M")
        return self._trimmed()

    monkeypatch.setattr(Planted, "dig", half_only)
    (one,) = prove(guest)
    assert not one.holds
    assert 15 * MIB < one.returned < 18 * MIB


def test_a_btrfs_on_two_disks_counts_on_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [block(f"sd{name}", serial=name, fstype="btrfs", uuid="b-1") for name in "ab"]
    guest, paths = _two(tmp_path, [mounted("/", "/dev/sda", "btrfs", uuid="b-1")], devices)
    world(monkeypatch, paths[1])  # where this canary happens to land
    (one,) = prove(guest)
    assert one.disks == ("sda", "sdb")
    assert one.holds
