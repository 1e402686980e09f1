"""bench/topics/definitions.py: the peers read the facts that are judged, and cost a guest is without the start."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from bench.definitions import SAMPLES, node
from bench.fleet import typical
from bench.rounds import Race
from bench.topics import definitions
from tests.unit.bench.test_rounds import sample


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    path = tmp_path / "fleet.xml"
    path.write_bytes(node(8))
    return f"test://{path}"


def lines(*command: str | Path) -> dict[str, list[str]]:
    """Return what a peer prints for each guest."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    parts = [line.partition("\t") for line in done.stdout.splitlines()]
    return {name.rpartition("-")[0]: values.split() for name, _, values in parts}


def test_the_script_of_lxml_reads_the_facts_of_every_guest(fleet: str) -> None:
    read = lines(sys.executable, "-I", definitions.PEERS / "definitions_lxml.py", fleet)
    assert len(read) == len(etree.parse(SAMPLES).findall("domain")) == 8
    assert "vda.discard=ignore" in read["wiki"]
    assert "vda.bus=virtio" in read["wiki"]
    assert "machine=hvm:pc-i440fx-2.10" in read["wiki"]


@pytest.mark.slow
def test_the_library_of_virt_xml_reads_the_same(fleet: str) -> None:
    if reason := definitions._why_no_virtinst():
        pytest.skip(reason)
    own = lines(sys.executable, "-I", definitions.PEERS / "definitions_lxml.py", fleet)
    assert lines("/usr/bin/python3", definitions.PEERS / "definitions_virtinst.py", fleet) == own


@pytest.mark.slow
def test_the_loop_counts_the_disks_that_others_name(fleet: str) -> None:
    if shutil.which("virsh") is None or shutil.which("xmllint") is None:
        pytest.skip("no virsh, or no xmllint")
    read = lines("sh", definitions.PEERS / "definitions.sh", fleet)
    assert read["wiki"] == ["machine=pc-i440fx-2.10", "not-scsi=1", "no-unmap=1", "not-virtio-scsi=0"]
    assert len(read) == 8


def test_typical_guests_have_addresses_of_their_own() -> None:
    (definition,) = typical(1, "qemu")
    ports = etree.fromstring(definition).findall("devices/controller[@model='pcie-root-port']/address")
    places = [(port.get("slot"), port.get("function")) for port in ports]
    assert len(set(places)) == len(places) == 14


def race_of(cpu: float) -> Race:
    return Race("some", definitions.RAW, (sample(definitions.OURS, cpu, cpu=cpu), sample(definitions.PYTEST, 2, cpu=2)))


def test_targets_are_of_cpu_a_guest() -> None:
    """1 s of start, and 10 ms a guest that become 20 with many."""
    start, few, some, many = (race_of(1 + cpu) for cpu in (0.01, 1.0, 10.0, 200.0))
    aims = definitions._aims(start, [few, some, many], (100, 1000, 10_000))
    ratios = [aim.measured for aim in aims]
    assert ratios == pytest.approx([0.0201 / 0.02, 2.0, 5.5], rel=0.01)
    assert [aim.state for aim in aims] == ["met", "missed", "missed"]
