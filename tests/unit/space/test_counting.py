"""The bytes that the host holds, counted until they are steady."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.handles.guest import Disk
from reclaim.space import counting
from reclaim.space.counting import Store
from reclaim.storage import host_image, shrinkable
from reclaim.storage.host_image import HostImage
from reclaim.storage.qcow2 import Qcow2
from reclaim.storage.shrinkable import Inspected
from tests.support import Inside, disk_xml, inhabited

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024**2
FILE = HostImage("/srv/a.img", False, "fd:1", 64 * MIB, 8 * MIB, "ext2/ext3")
DEVICE = HostImage("/dev/vg/lv", True, "fd:5", 64 * MIB, 8 * MIB, mapper="LVM", targets=("thin",))
HEAD = Qcow2(3, 64 * MIB, 2 * MIB, 0, 0, None, False, False)
NO_DISK = cast("Disk", None)


def inspected(image: HostImage = FILE, head: Qcow2 | None = None, **more: Any) -> Inspected:
    return replace(Inspected("qcow2" if head else "raw", False, image, head), **more)


def store(image: HostImage = FILE, head: Qcow2 | None = None, disk: Disk = NO_DISK) -> Store:
    return Store(disk, "vda", inspected(image, head))


@pytest.mark.parametrize(
    ("filesystem", "seconds"),
    [
        ("ext2/ext3", 0.2),
        ("xfs", 0.2),
        ("btrfs", 0.2),
        ("tmpfs", 0.2),
        ("zfs", 12),
        ("nfs", 65),
        ("fuse", 65),
        ("", 65),
    ],
)
def test_how_long_a_count_may_lag(filesystem: str, seconds: float) -> None:
    assert store(replace(FILE, filesystem=filesystem)).lag == seconds


def test_the_count_of_a_device_does_not_lag() -> None:
    assert store(DEVICE).lag == 0.2


@pytest.mark.parametrize(
    ("cluster", "granularity", "grain"),
    [(None, None, 4096), (None, 512, 4096), (None, 65_536, 65_536), (2 * MIB, None, 2 * MIB), (65_536, MIB, MIB)],
)
def test_what_the_host_frees_as_one(cluster: int | None, granularity: int | None, grain: int) -> None:
    head = replace(HEAD, cluster=cluster) if cluster else None
    assert store(replace(DEVICE, discard_granularity=granularity), head).grain == grain


# Counting -------------------------------------------------------------------------------------


def _disk(folder: Path, device: str | None = None, **more: Any) -> Disk:
    return Disk(inhabited(folder, Inside(), device or disk_xml(), **more), "vda")


def test_a_file_is_counted_by_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(b"x" * 8192)
    one = store(replace(FILE, path=str(path)), disk=_disk(tmp_path))
    assert one.allocated() == path.stat().st_blocks * 512
    path.unlink()
    with pytest.raises(ProbeError, match=str(path)):
        one.allocated()


@pytest.mark.parametrize("held", [5 * MIB, 0, None])
def test_a_thin_volume_is_counted_by_its_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int | None
) -> None:
    monkeypatch.setattr(host_image, "look", lambda _hypervisor, path: replace(DEVICE, path=path, allocated=held))
    one = store(DEVICE, disk=_disk(tmp_path))
    if held is None:
        with pytest.raises(ProbeError, match="/dev/vg/lv"):
            one.allocated()
    else:
        assert one.allocated() == held


class Statistics:
    """A domain whose disks have been written to."""

    def __init__(self, **written: tuple[int, int]) -> None:
        self.of = written

    def blockStats(self, target: str) -> tuple[int, ...]:  # noqa: N802
        requests, count = self.of[target]
        return 11, 22, requests, count, -1


def test_a_request_may_touch_a_grain_at_either_end(tmp_path: Path) -> None:
    disk = _disk(tmp_path)
    disk.guest.domain = Statistics(vda=(3, 1000), vdb=(2, 500))
    one, other = store(disk=disk), replace(store(head=HEAD, disk=disk), target="vdb")
    assert one.written() == (3, 1000)
    assert counting.written([one]) == 1000 + 2 * 3 * 4096
    assert counting.written([one, other]) == 1000 + 6 * 4096 + 500 + 4 * 2 * MIB
    assert counting.written([]) == 0


# Which disks can be counted -------------------------------------------------------------------


def _inspect(monkeypatch: pytest.MonkeyPatch, answer: Inspected) -> None:
    monkeypatch.setattr(shrinkable, "inspect", lambda _disk: answer)


def test_the_store_of_a_disk_has_its_running_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _inspect(monkeypatch, inspected())
    disk = _disk(tmp_path)
    assert counting.store(disk) == Store(disk, "vda", inspected())


def test_a_disk_that_does_not_run_has_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _inspect(monkeypatch, inspected())
    with pytest.raises(NotAssessable, match="running guest"):
        counting.store(_disk(tmp_path, running=False))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(inspected(replace(DEVICE, targets=("linear",))), "thick", id="thick"),
        pytest.param(inspected(replace(DEVICE, mapper="", targets=(), allocated=None)), "/dev/vg/lv", id="device"),
        pytest.param(inspected(head=replace(HEAD, external_data=True)), "/srv/a.img: its data", id="data-elsewhere"),
    ],
)
def test_what_cannot_be_counted_has_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Inspected, words: str
) -> None:
    _inspect(monkeypatch, answer)
    with pytest.raises(NotAssessable, match=words):
        counting.store(_disk(tmp_path))


def test_a_thin_volume_and_a_plain_qcow2_have_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (inspected(DEVICE), inspected(head=HEAD), inspected(replace(FILE, allocated=0))):
        _inspect(monkeypatch, answer)
        assert counting.store(_disk(tmp_path)).found == answer


# Waiting --------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Time that passes by waiting only."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert len(self.slept) < 1000
        self.now += seconds
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(counting, "time", made)
    return made


@dataclass(frozen=True)
class Scripted(Store):
    """A store whose counts are given, one after another; the last one stays."""

    counts: list[int] = field(default_factory=list)

    def allocated(self) -> int:
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]


def scripted(*counts: int, filesystem: str = "xfs") -> Scripted:
    return Scripted(NO_DISK, "vda", inspected(replace(FILE, filesystem=filesystem)), [*counts])


def test_all_stores_are_counted_together() -> None:
    assert counting.allocated([scripted(3), scripted(4)]) == 7
    assert counting.allocated([]) == 0


def test_enough_is_not_waited_for(clock: Clock) -> None:
    assert counting.settled([scripted(10)], lambda count: count >= 10) == 10
    assert clock.slept == []


def test_it_is_looked_again_until_it_is_enough(clock: Clock) -> None:
    assert counting.settled([scripted(1, 2, 3, 4)], lambda count: count >= 3) == 3
    assert clock.slept == [0.2, 0.2]


@pytest.mark.parametrize(("filesystem", "seconds"), [("xfs", 2.0), ("zfs", 12.0), ("nfs", 65.0)])
def test_the_longest_lag_is_waited_for_and_then_no_longer(clock: Clock, filesystem: str, seconds: float) -> None:
    stores = [scripted(5), scripted(1, filesystem=filesystem)]
    assert counting.settled(stores, lambda _count: False) == 6
    assert seconds < clock.now <= seconds + 2 * counting.PAUSE


def test_a_count_is_steady_once_two_agree_a_lag_apart(clock: Clock) -> None:
    assert counting.steady([scripted(1, 2, 3, 3, 9), scripted(0, filesystem="zfs")]) == 3
    assert clock.slept == [12.0] * 3


def test_a_count_that_is_never_steady_is_taken_as_it_is(clock: Clock) -> None:
    assert counting.steady([scripted(*range(100))]) == 5
    assert clock.slept == [0.2] * 5
