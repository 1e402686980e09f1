"""What the audit says of a disk, and the bytes that come back from it: a part of `make truth`, on one real guest."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import cells, stores, truth
from lab import guest as lab
from lab.cells import MIB, OLD_MIB, Cell
from lab.demo import ROOT, audit, record
from lab.guest import LabGuest
from lab.seen import LAYERS, Seen, disagreements
from lab.truth_page import CANARY_MIB
from reclaim.space.proof import SHARE

pytestmark = pytest.mark.guest

NAME = "reclaim-lab-test-truth"
PLAIN, DROPPED = Cell("unmap", "qcow2"), Cell("absent", "raw")
BACKED, SNAPSHOT = Cell("unmap", "backed"), Cell("unmap", "snapshot")
STORED = tuple(Cell("unmap", "raw", store) for store in ("xfs", "btrfs", "nocow", "tmpfs"))
CELLS = (PLAIN, DROPPED, BACKED, SNAPSHOT, *STORED)
#: processes that hold a deleted file, and what has a name that a canary or its folder has
LEFT = (
    "find /proc/[0-9]*/fd -lname '*reclaim-*(deleted)' 2>/dev/null; find / /truth/* -xdev -maxdepth 1 -name '.reclaim*'"
)


@pytest.fixture(scope="module")
def guest() -> Iterator[LabGuest]:
    machine = truth.machine_types()[0][-1]
    lab.destroy(NAME)
    with stores.mounted(NAME, [cell.store for cell in STORED]):
        yield cells.create(NAME, machine, "virtio-scsi", CELLS, recipe="article", root="virtio")
        lab.destroy(NAME)


@pytest.fixture(scope="module")
def seen(guest: LabGuest) -> dict[Cell, Seen]:
    found = truth.look(guest, truth.machine_types()[0][-1], "virtio-scsi", CELLS)
    return dict(zip(CELLS, found, strict=True))


def inside(guest: LabGuest, command: str) -> str:
    done = lab.run(guest, command)
    assert done.code == 0, done.err
    return done.out


def test_where_no_layer_is_red_the_bytes_come_back(seen: dict[Cell, Seen]) -> None:
    one = seen[PLAIN]
    assert not LAYERS & one.red["scsi"].keys()
    assert one.canary == CANARY_MIB * MIB
    assert one.returned >= SHARE * one.canary
    assert one.old >= SHARE * OLD_MIB * MIB
    assert one.layer == ""


def test_what_only_seems_to_be_trimmed_is_red_and_nothing_comes_back(seen: dict[Cell, Seen]) -> None:
    one = seen[DROPPED]
    assert one.disc_max > 0
    assert one.claimed >= OLD_MIB * MIB
    assert one.returned < MIB
    assert one.old < MIB
    assert "driver discard is absent" in one.red["scsi"]["disk-discard"]
    assert "without discard='unmap'" in one.layer


def test_an_old_image_over_a_backing_file_is_red_and_nothing_comes_back(seen: dict[Cell, Seen]) -> None:
    one = seen[BACKED]
    assert one.disc_max > 0
    assert one.claimed >= OLD_MIB * MIB
    assert one.returned < MIB
    assert one.old < MIB
    assert LAYERS & one.red["scsi"].keys() == {"image-format"}
    assert "qcow2 0.10 over the backing file" in one.layer


def test_a_snapshot_is_red_and_keeps_what_is_older(seen: dict[Cell, Seen]) -> None:
    one = seen[SNAPSHOT]
    assert one.returned >= SHARE * one.canary
    assert one.old < MIB
    assert LAYERS & one.red["scsi"].keys() == {"image-format"}
    assert "1 internal snapshot (before)" in one.red["scsi"]["image-format"]


@pytest.mark.parametrize("cell", STORED, ids=lambda cell: cell.store)
def test_the_bytes_come_back_to_another_filesystem(cell: Cell, seen: dict[Cell, Seen]) -> None:
    one = seen[cell]
    assert one.came_back
    # btrfs keeps an extent as long as a part of it is in use, and how large they are is chance
    assert ("btrfs frees an extent" in one.note) == (cell.store in ("btrfs", "nocow"))
    assert one.store_got_it or one.note
    assert not LAYERS & one.red["scsi"].keys()


def test_the_matrix_finds_no_disagreement(seen: dict[Cell, Seen]) -> None:
    assert disagreements(seen.values()) == []


def test_prove_names_dm_crypt_and_every_other_layer(guest: LabGuest, seen: dict[Cell, Seen], tmp_path: Path) -> None:
    """The disk from which all came back is encrypted, without allow_discards: nothing does any more."""
    crypt = 'aes-xts-plain64 $(printf "%064d" 0) 0 $disk 0'
    inside(
        guest,
        f"set -e; m=/truth/{PLAIN.label}; disk=$(findmnt -no SOURCE $m); umount $m; modprobe dm_crypt; "
        f'dmsetup create secret --uuid CRYPT-PLAIN-secret --table "0 $(blockdev --getsz $disk) crypt {crypt}"; '
        "udevadm settle; mkfs.ext4 -q -E nodiscard /dev/mapper/secret; mount /dev/mapper/secret $m",
    )
    row = proved(guest, tmp_path)
    assert row["verdict"] == "noncompliant"
    plain = next(part for part in row["reason"].split("; /") if PLAIN.label in part)
    assert "0 B came back" in plain
    assert "dm-crypt: /dev/mapper/secret passes no discards on (see disc-max)" in plain
    assert "without discard='unmap'" in row["reason"]
    assert "qcow2 0.10 over the backing file" in row["reason"]
    assert f"/truth/{SNAPSHOT.label}" not in row["reason"]
    assert inside(guest, LEFT) == ""


def proved(guest: LabGuest, folder: Path) -> dict[str, Any]:
    done = audit(guest.name, folder, "--prove", "--inventory", inventory(folder, 8))
    assert "Traceback" not in done.stdout + done.stderr
    (row,) = [row for row in record(folder)["results"] if row["requirement"] == "reclaim-proof"]
    return dict(row)


def inventory(folder: Path, mebibytes: int) -> str:
    path = folder / "inventory.toml"
    path.write_text(f"[policy]\ncanary_mib = {mebibytes}\n", encoding="utf-8")
    return str(path)


def test_an_interrupted_proof_leaves_nothing_in_the_guest(guest: LabGuest, tmp_path: Path) -> None:
    """Ctrl-C while the canary is written."""
    assert inside(guest, LEFT) == ""
    command = [sys.executable, "-m", "pytest", "checks/", "--guests", guest.name, "--reports", str(tmp_path)]
    command += ["-k", "reclaim_proof", "--prove", "--inventory", inventory(tmp_path, 256)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 120
        while not inside(guest, LEFT):
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert inside(guest, LEFT) == ""
