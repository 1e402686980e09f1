"""The truth matrix's own rules: where what the audit says and what came back disagree."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lab import host, machines, mounts, paths, stores, truth, truth_page
from lab.cells import BUSES, CELLS, MIB, OLD_MIB, Cell, on_stores
from lab.error import LabError
from lab.seen import Seen, disagreements
from lab.truth_page import Plan, page_of
from reclaim.space.diagnosis import UNKNOWN

GREEN = Seen(
    machine="pc-i440fx-7.2",
    bus="virtio-scsi",
    discard="unmap",
    image="raw",
    disc_max=1024 * MIB,
    claimed=900 * MIB,
    old=OLD_MIB * MIB,
    canary=16 * MIB,
    returned=16 * MIB,
    layer="",
    problem="",
    red={"scsi": {}, "any-discarding": {}},
    accepted={"scsi": "compliant", "any-discarding": "compliant"},
)


GUEST = f"{paths.PREFIX}unit"


def red(*slugs: str) -> dict[str, dict[str, str]]:
    return {policy: dict.fromkeys(slugs, "why") for policy in GREEN.red}


def test_green_and_all_came_back() -> None:
    assert disagreements([GREEN]) == []


def test_red_although_all_came_back_is_no_disagreement() -> None:
    """A machine type may be too old for other reasons than this cell's."""
    assert disagreements([replace(GREEN, red=red("machine-type"))]) == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param(replace(GREEN, old=0), "green with bus 'scsi', and not all came back", id="old file"),
        pytest.param(
            replace(GREEN, returned=15 * MIB, layer="x"), "green with bus 'any-discarding'", id="95 % of the canary"
        ),
        pytest.param(
            replace(GREEN, returned=0, red=red("disk-discard")), "the proof names no layer", id="no layer by the proof"
        ),
        pytest.param(
            replace(GREEN, returned=0, layer=UNKNOWN, red=red("disk-discard")), "names no layer", id="unknown layer"
        ),
        pytest.param(
            replace(GREEN, returned=0, layer="x", red=red("disk-bus")),
            "the audit names no layer that keeps it",
            id="red for another reason",
        ),
        pytest.param(replace(GREEN, problem="inconclusive"), "nothing was proved: inconclusive", id="inconclusive"),
        pytest.param(
            replace(GREEN, bus="virtio", accepted={"scsi": "noncompliant", "any-discarding": "not-assessable"}),
            "bus 'any-discarding' says not-assessable",
            id="not accepted where it works",
        ),
        pytest.param(
            replace(GREEN, bus="virtio", returned=0, old=0, layer="x", red=red("disc-max")),
            "bus 'any-discarding' says compliant",
            id="accepted where it does not work",
        ),
    ],
)
def test_a_disagreement_is_told(seen: Seen, words: str) -> None:
    assert any(words in one for one in disagreements([seen]))


STORED = replace(GREEN, store="xfs", freed=OLD_MIB * MIB)
PLAN = Plan(
    machines=("pc-i440fx-4.0", "pc-i440fx-7.2"),
    gone={"pc-i440fx-1.6": "pc-i440fx-4.0"},
    buses=BUSES,
    stores=("xfs", "tmpfs"),
    missing={"NFS 4.2": "this kernel has none"},
)


def test_a_store_that_did_not_get_it_back_is_told() -> None:
    """`st_blocks` of the image fell, but something else holds the blocks."""
    assert disagreements([STORED, replace(STORED, freed=OLD_MIB * MIB * 7 // 8)]) == []
    assert disagreements([replace(STORED, freed=0, note="btrfs frees an extent only when …")]) == []
    (scsi, other) = disagreements([replace(STORED, freed=0)])
    assert scsi.startswith("pc-i440fx-7.2 virtio-scsi, discard unmap, raw on xfs: green with bus 'scsi', and its store")
    assert "'any-discarding'" in other


def test_virtio_is_judged_by_the_raw_image_on_the_same_store() -> None:
    here = replace(GREEN, bus="virtio")
    there = replace(STORED, bus="virtio", returned=0, layer="x", red=red("disk-discard"))
    assert any("raw on xfs: bus 'any-discarding' says" in one for one in disagreements([here, there]))


def test_the_page_has_every_cell_and_what_is_red() -> None:
    backed = replace(GREEN, image="backed", old=0, returned=0, layer="x", red=red("image-format"))
    text = page_of([GREEN, backed], PLAN, "the head\n", whole=False)
    assert text.startswith("the head\n")
    assert "This QEMU has no pc-i440fx-1.6 any more; pc-i440fx-4.0 is the next newer that boots." in text
    assert "Not every guest was run" in text
    assert "| pc-i440fx-4.0 | not run | not run | not run | not run |" in text
    assert "| pc-i440fx-7.2 | not run | 100 % | not run | not run |" in text
    assert "| virtio-scsi | unmap | raw | 1024 MiB | 900 MiB | 100 % | 100 % | **green** | compliant |" in text
    assert "| virtio-scsi | unmap | backed | 1024 MiB | 900 MiB | 0 % | 0 % | image-format | compliant |" in text


def test_the_page_has_the_stores_and_those_that_could_not_be_had() -> None:
    text = page_of([GREEN, replace(STORED, freed=0)], PLAN, "", whole=True)
    assert "Not every guest was run" not in text
    assert "NFS 4.2 could not be had: this kernel has none.\n" in text
    assert "| XFS | virtio-scsi | raw | 1024 MiB | 900 MiB | 100 % | 100 % | 0 % | **green** | compliant |" in text
    # a store has rows in its own table alone
    assert text.count("| 900 MiB |") == 2
    assert "| pc-i440fx-7.2 | not run | 100 % | not run | not run |" in text


def test_the_page_has_the_bus_nvme_if_libvirt_has_it() -> None:
    assert "This libvirt has no bus nvme" in page_of([GREEN], PLAN, "", whole=True)
    text = page_of([replace(GREEN, bus="nvme")], replace(PLAN, buses=(*BUSES, "nvme")), "", whole=True)
    assert "no bus nvme" not in text
    assert "| pc-i440fx-7.2 | not run | not run | not run | not run | 100 % |" in text
    assert "| nvme | unmap | raw |" in text


# The plan -------------------------------------------------------------------------------------


def test_the_guests_with_stores_come_first_and_each_has_a_key_and_a_name() -> None:
    every = truth.runs(PLAN)
    assert [run.key for run in every[:3]] == [
        "pc-i440fx-7.2 virtio-scsi stores",
        "pc-i440fx-7.2 virtio stores",
        "pc-i440fx-7.2 virtio",
    ]
    assert len({run.key for run in every}) == len({paths.checked(run.name) for run in every}) == 10
    assert every[0].cells == tuple(
        Cell("unmap", image, store) for store in ("xfs", "tmpfs") for image in ("qcow2", "snapshot", "raw")
    )
    assert every[2].cells == CELLS


def test_a_machine_without_stores_has_no_guests_with_them() -> None:
    assert len(truth.runs(replace(PLAN, stores=()))) == 8


@pytest.mark.parametrize("cell", [*CELLS, *on_stores(one.name for one in stores.KINDS)], ids=lambda cell: cell.label)
def test_a_label_fits_ext4(cell: Cell) -> None:
    assert len(cell.label) <= 16


@pytest.mark.parametrize(
    ("offered", "there", "gone"),
    [
        pytest.param(["1.6", "3.1", "4.0", "5.2", "7.2"], ["1.6", "3.1", "4.0", "7.2"], {}, id="all"),
        pytest.param(["2.7", "3.1", "4.0", "5.2", "10.0"], ["2.7", "4.0", "5.2", "10.0"], {"1.6": "2.7"}, id="newer"),
        pytest.param(
            ["6.0", "11.0"], ["6.0", "11.0"], {"1.6": "6.0", "4.0": "6.0", "5.2": "6.0"}, id="one-stands-for-three"
        ),
    ],
)
def test_the_machine_types_of_a_qemu(
    offered: list[str], there: list[str], gone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(version: str) -> str:
        return f"pc-i440fx-{version}"

    known = (*map(full, offered), "pc-q35-12.0")
    monkeypatch.setattr(machines, "offered", lambda: known)
    monkeypatch.setattr(machines, "_boots", lambda _name: True)
    assert truth.machine_types() == ([*map(full, there)], {full(old): full(new) for old, new in gone.items()})


def test_the_buses_for_disks_are_those_of_the_domain_capabilities() -> None:
    text = """\
<domainCapabilities><devices>
  <disk supported='yes'><enum name='diskDevice'><value>disk</value></enum>
    <enum name='bus'><value>virtio</value><value>nvme</value></enum></disk>
  <hostdev supported='yes'><enum name='bus'><value>pci</value></enum></hostdev>
</devices></domainCapabilities>"""
    assert truth.disk_buses(text) == ["virtio", "nvme"]


def test_a_guest_that_fails_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = truth.runs(PLAN)[:3]

    def observe(_name: str, machine: str, bus: str, cells: tuple[Cell, ...]) -> list[Seen]:
        if (bus, cells) == (second.bus, second.cells):
            raise LabError("it went off")
        return [replace(GREEN, machine=machine, bus=bus)]

    kept: dict[str, list[Seen]] = {}
    monkeypatch.setattr(truth, "observe", observe)
    failed = truth._observed([first, second, third], 2, lambda run, seen: kept.update({run.key: seen}))
    assert failed == [f"{second.key}: it went off"]
    assert {key: [one.bus for one in seen] for key, seen in kept.items()} == {
        first.key: ["virtio-scsi"],
        third.key: ["virtio"],
    }


def test_each_guest_that_is_done_is_kept_and_is_on_the_page_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def page(seen: list[Seen], _plan: Plan, *, whole: bool, by: str, data: str) -> str:
        return f"{len(seen)} {whole} {by} {data}"

    monkeypatch.setattr(truth_page, "page", page)
    progress = tmp_path / "truth.json"
    every = truth.runs(PLAN)[:2]
    # a guest of another QEMU may be kept too
    matrix = truth.Matrix(PLAN, every, {"pc-i440fx-1.0 virtio": []}, progress, "make it")
    for number, run in enumerate(every, start=1):
        matrix.keep(run, [GREEN])
        assert f"{run.key} is done, {number} of 2 guests" in capsys.readouterr().out
        whole = number == len(every)
        page_so_far = tmp_path / "truth-so-far.md"
        assert page_so_far.read_text(encoding="utf-8") == f"{number} {whole} make it truth-so-far.json"
        assert len(json.loads(page_so_far.with_suffix(".json").read_text(encoding="utf-8"))) == number
    assert [*truth._read(progress)] == ["pc-i440fx-1.0 virtio", *(run.key for run in every)]
    assert matrix.seen() == [GREEN, GREEN]
    assert matrix.seen(every[0].key) == [GREEN]


@pytest.mark.parametrize(("options", "made"), [((), 1), (("--resume",), 0)], ids=["again", "resumed"])
def test_a_try_of_one_guest_keeps_the_others(
    options: tuple[str, ...], made: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = truth.runs(PLAN)[:2]
    progress, page = tmp_path / "truth.json", tmp_path / "page.md"
    truth._write(progress, {run.key: [asdict(GREEN)] for run in (first, second)})
    observed: list[str] = []

    def observe(name: str, _machine: str, _bus: str, _cells: tuple[Cell, ...]) -> list[Seen]:
        observed.append(name)
        return [replace(GREEN, day="again")]

    monkeypatch.setattr(truth, "observe", observe)
    monkeypatch.setattr(truth, "plan", lambda: PLAN)
    monkeypatch.setattr(host, "missing", list)
    monkeypatch.setattr(host, "ensure_libvirt", contextlib.ExitStack)
    monkeypatch.setattr(truth_page, "page", lambda *_, **__: "")
    monkeypatch.setattr(
        "sys.argv", ["truth", "--only", second.key, "--progress", str(progress), "--write", str(page), *options]
    )
    assert truth.main() == 0
    assert observed == [second.name] * made
    kept = truth._read(progress)
    assert [rows[0]["day"] for rows in kept.values()] == ["", "again" if made else ""]
    assert not page.exists()


def test_the_data_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have neither stores nor days."""
    row = {name: value for name, value in asdict(GREEN).items() if name not in ("store", "freed", "day", "note")}
    progress = tmp_path / "truth.json"
    assert truth._read(progress) == {}
    truth._write(progress, {"pc-i440fx-7.2 virtio-scsi": [row]})
    (found,) = truth._read(progress)["pc-i440fx-7.2 virtio-scsi"]
    assert Seen(**found) == GREEN


# The stores -----------------------------------------------------------------------------------


def test_the_choice_is_all_that_can_be_had() -> None:
    everything = tuple(one.name for one in stores.KINDS)
    assert stores.choice({"NFS 4.2": "no"}) == everything
    assert stores.choice({"XFS": "no mkfs.xfs", "tmpfs": "no"}) == tuple(
        name for name in everything if name not in ("xfs", "tmpfs")
    )


@pytest.mark.parametrize(
    ("filesystems", "lacking", "reason"),
    [
        pytest.param("nodev\ttmpfs\n\text4\n", [], "no nfsd in /proc/filesystems", id="no-server"),
        pytest.param("nodev\tnfsd\n", ["exportfs"], "not installed: exportfs", id="no-tools"),
        pytest.param("nodev\tnfsd\n", [], "no cells for it", id="there"),
    ],
)
def test_why_there_is_no_nfs(filesystems: str, lacking: list[str], reason: str) -> None:
    assert reason in stores.why_no_nfs(filesystems, lacking)


@pytest.mark.parametrize(
    ("status", "targets", "reason"),
    [
        pytest.param(1, "", "no device mapper", id="no-mapper"),
        pytest.param(0, "striped          v1.6.0\nlinear           v1.4.0\n", "no thin-pool", id="no-target"),
        pytest.param(0, "thin-pool        v1.23.0\nthin             v1.23.0\n", "no cells for it", id="there"),
    ],
)
def test_why_there_is_no_thin_pool(status: int, targets: str, reason: str) -> None:
    assert reason in stores.why_no_thin(status, targets)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root")


@pytest.mark.slow
@needs_root
def test_stores_are_mounted_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLAIM_LAB", str(tmp_path / "lab"))
    names = [one.name for one in stores.KINDS if not one.make or shutil.which(one.make[0])]
    with stores.mounted(GUEST, names):
        points = mounts.below(tmp_path)
        assert sorted(points) == sorted(str(stores.folder(GUEST, name)) for name in names)
        for name in names:
            path = stores.folder(GUEST, name) / "file"
            before = stores.free(path.parent)
            path.write_bytes(os.urandom(4 * MIB))
            assert stores.held(path) == pytest.approx(4 * MIB, rel=0.1)
            assert before - stores.free(path.parent) == pytest.approx(4 * MIB, rel=0.1)
    assert mounts.below(tmp_path) == []
    assert not (tmp_path / "lab/stores").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mkfs.xfs"), reason="not root, or no xfsprogs")
def test_blocks_that_xfs_sets_aside_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLAIM_LAB", str(tmp_path / "lab"))
    with stores.mounted(GUEST, ["xfs"]):
        path = stores.folder(GUEST, "xfs") / "grows"
        with path.open("wb", buffering=0) as handle:
            for _ in range(64):
                handle.write(os.urandom(MIB // 4))
            assert path.stat().st_blocks * 512 > 17 * MIB
            assert stores.held(path) == pytest.approx(16 * MIB, rel=0.01)


@needs_root
def test_what_a_killed_run_left_is_unmounted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECLAIM_LAB", str(tmp_path / "lab"))
    left = contextlib.ExitStack()
    left.enter_context(stores.mounted(GUEST, ["tmpfs"]))
    (stores.folder(GUEST, "tmpfs") / "left").touch()
    left.pop_all()  # forgotten, as by a process that is gone
    with stores.mounted(GUEST, ["tmpfs"]):
        assert [*stores.folder(GUEST, "tmpfs").iterdir()] == []
        assert len(mounts.below(tmp_path)) == 1
        stores.remove_all()
        assert mounts.below(tmp_path) == []


@needs_root
def test_a_store_that_cannot_be_made_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLAIM_LAB", str(tmp_path / "lab"))
    kinds = stores.Kind("xfs", "XFS", ("false",)), stores.Kind("tmpfs", "tmpfs", (), "size=1m,no-such-option")
    monkeypatch.setattr(stores, "KINDS", kinds)
    missing = stores.not_to_be_had()
    assert missing["XFS"].startswith("false failed")
    assert "mount" in missing["tmpfs"]
    assert stores.choice(missing) == ()
    assert mounts.below(tmp_path) == []
