"""The memory, between runs, of the initramfs of each guest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.engine import remembered
from reclaim.engine.part import Options
from reclaim.engine.run import Run
from tests.support import GOOD, Inside, domain_xml, node, uuid_of

if TYPE_CHECKING:
    from reclaim.engine.part import Part

STAMP = "11:31457280:1700000000:1700000001"
READ = f"kernel 6.1\nstamp {STAMP}\ninitramfs virtio_scsi\nlacking virtio_blk\nwaits /dev/vda1\n"
ENTRY = {"stamp": STAMP, "release": "6.1", "initramfs": ["virtio_scsi"], "lacking": [], "waits": []}
SAME = f"kernel 6.1\nstamp {STAMP}\nsame\n"


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    return node(tmp_path, *(domain_xml(*GOOD, name=name) for name in ("db", "web")))


def _run(tmp_path: Path, uri: str, kernels: str = "", **more: Any) -> Part:
    """A whole run that looks into the guest web alone."""
    run = Run(Options(uri=uri, reports=tmp_path / "reports", **more))
    run.open()
    run.prepare()
    [part] = run.parts
    for guest in part.guests:
        guest.known_before = guest.known_kernels  # type: ignore[attr-defined]
        if guest.name == "web" and kernels:
            guest.known_kernels = Inside(kernels=kernels).facts(known=guest.known_kernels).read_kernels
    assert run.close() == []
    return part


def _known(part: Part) -> dict[str, tuple[Any, ...]]:
    return {guest.name: guest.known_before for guest in part.guests}  # type: ignore[attr-defined]


def _memory(part: Part) -> Path:
    return part.folder.parent / remembered.NAME


def test_an_initramfs_that_an_earlier_run_read_is_known(tmp_path: Path, fleet: str) -> None:
    first = _run(tmp_path, fleet, READ)
    assert _known(first) == {"db": (), "web": ()}
    second = _run(tmp_path, fleet, SAME)
    [kernel] = _known(second)["web"]
    assert (kernel.stamp, kernel.initramfs, kernel.lacking, kernel.waits) == (
        STAMP,
        {"virtio_scsi"},
        {"virtio_blk"},
        {"/dev/vda1"},
    )
    assert _known(second)["db"] == ()
    # what was the same is known to the next one too
    assert _known(_run(tmp_path, fleet))["web"] == _known(second)["web"]


def test_a_run_that_changes_something_looks_for_itself(tmp_path: Path, fleet: str) -> None:
    _run(tmp_path, fleet, READ)
    assert _known(_run(tmp_path, fleet, mode="plan"))["web"]
    assert _known(_run(tmp_path, fleet, mode="fix"))["web"] == ()


def test_a_guest_that_was_not_looked_into_keeps_what_is_known(tmp_path: Path, fleet: str) -> None:
    _run(tmp_path, fleet, READ)
    _run(tmp_path, fleet, guests=("db",))
    assert _known(_run(tmp_path, fleet))["web"]


def test_a_guest_that_is_gone_is_forgotten(tmp_path: Path, fleet: str) -> None:
    path = _memory(_run(tmp_path, fleet, READ))
    assert list(json.loads(path.read_text())["guests"]) == [uuid_of("web")]
    memory = json.loads(path.read_text())
    memory["guests"]["0f0f0f0f-0000-4000-8000-000000000001"] = []
    path.write_text(json.dumps(memory))
    _run(tmp_path, fleet)
    assert list(json.loads(path.read_text())["guests"]) == [uuid_of("web")]


def test_a_hypervisor_that_is_not_reached_keeps_what_is_known(tmp_path: Path, fleet: str) -> None:
    part = _run(tmp_path, fleet, READ)
    before = _memory(part).read_text()
    part.unreached, part.guests, part.hypervisor.guests = "it is down", [], []
    remembered.keep(part)
    assert _memory(part).read_text() == before


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"schema": 2, "guests": {}}', '{"schema": 1, "guests": {"UUID": [{}]}}'),
        '{"schema": 1, "guests": {"UUID": [ENTRY]}}'.replace("ENTRY", json.dumps({**ENTRY, "stamp": "1"})),
        '{"schema": 1, "guests": {"UUID": [ENTRY]}}'.replace("ENTRY", json.dumps({**ENTRY, "more": 1})),
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_memory_is_none(tmp_path: Path, fleet: str, text: str) -> None:
    path = _memory(_run(tmp_path, fleet, READ))
    path.write_text(text.replace("UUID", uuid_of("web")))
    assert _known(_run(tmp_path, fleet, READ))["web"] == ()
    assert _known(_run(tmp_path, fleet))["web"]


def test_a_file_that_others_could_have_written_is_none(tmp_path: Path, fleet: str) -> None:
    path = _memory(_run(tmp_path, fleet, READ))
    path.chmod(0o666)
    assert _known(_run(tmp_path, fleet))["web"] == ()


def test_a_link_is_not_written_through(tmp_path: Path, fleet: str) -> None:
    path = _memory(_run(tmp_path, fleet, READ))
    other = tmp_path / "other"
    other.write_text("mine")
    path.unlink()
    path.symlink_to(other)
    _run(tmp_path, fleet, READ)
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    "more", ["waits /dev/\udcff\n", f"waits /dev/{'x' * 400}\n", "".join(f"waits /dev/{n}\n" for n in range(200))]
)
def test_names_that_no_tool_gives_are_not_kept(tmp_path: Path, fleet: str, more: str) -> None:
    _run(tmp_path, fleet, READ + more)
    assert _known(_run(tmp_path, fleet))["web"] == ()


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path, fleet: str) -> None:
    path = _memory(_run(tmp_path, fleet))
    path.mkdir()
    assert _known(_run(tmp_path, fleet, READ))["web"] == ()
