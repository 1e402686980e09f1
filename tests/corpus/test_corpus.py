"""Every domain that libvirt can hold: judged without an error, mended or left with a reason, and nothing else touched.

The domains are libvirt's own test data where a copy of them is at hand (RECLAIM_CORPUS, else beside the
checkout), and in any case the variants beside this file. All are defined on a real libvirt.
"""

from __future__ import annotations

import os
import re
import shlex
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from reclaim.definition.domain import parse_xml
from reclaim.requirement import catalogue
from tests.command import ROOT, audit
from tests.corpus import private
from tests.corpus.canonical import Fixed, boot_disk, unnamed_changes
from tests.corpus.variants import BOUND, EMULATOR, FREE, OLDEST, QEMU, VARIANTS

pytestmark = pytest.mark.guest

CORPUS = Path(os.environ.get("RECLAIM_CORPUS", ROOT.parent / "shared/corpus/domains"))
DEFINITION = [slug for slug, one in catalogue().items() if one.reads_definitions_only]
FLAGS = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE

#: what newer QEMUs have no more, in libvirt's words: such a definition cannot be had here
DROPPED = (
    "does not support machine type",
    "doesn't support SCSI emulation with 'virtio-blk'",
    "is not supported with this QEMU",
    "not supported by this QEMU",
    "not supported with this QEMU",
    "does not support spice",
    "does not support video model",
    "video type",
    "sheepdog",
)

Row = dict[str, Any]


@dataclass
class Walk:
    """What every domain was, what each run said of it, and what it was afterwards."""

    uri: str
    connection: libvirt.virConnect
    folder: Path
    #: the oldest machine type of i440fx that this QEMU has
    oldest: str
    names: list[str] = field(default_factory=list)
    #: the definitions that this libvirt does not take, and its words
    refused: dict[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    rows: dict[str, list[Row]] = field(default_factory=dict)
    xml: dict[str, dict[str, str]] = field(default_factory=dict)

    def look(self, step: str) -> None:
        self.xml[step] = {name: self.connection.lookupByName(name).XMLDesc(FLAGS) for name in self.names}

    def run(self, step: str, *flags: str) -> None:
        """Run reclaim over the domains as its users do, and look at the definitions then."""
        outcome = audit(self.folder / step, "-q", *self.flags, *flags, uri=self.uri)
        assert outcome.status in (0, 1, 6), outcome.said[-4000:]
        self.rows[step] = outcome.document["results"]
        self.look(step)

    def of(self, step: str, name: str) -> list[Row]:
        return [row for row in self.rows[step] if row["guest"] == name]

    def fixed(self, step: str, name: str) -> Fixed:
        return Fixed.of(row for row in self.of(step, name) if row["verdict"] == "fixed")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a libvirtd of our own: nobody else's guests are near, and nobody waits for our lock."""
    with ExitStack() as stack:
        try:
            uri = stack.enter_context(private.libvirtd(tmp_path_factory.mktemp("libvirtd")))
        except (OSError, RuntimeError) as exc:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no libvirtd of our own here: {exc}")
        yield uri


def _named(xml: str, name: str, path: str = EMULATOR) -> str:
    """*xml* under another name and UUID, with an emulator that is here (at *path*)."""
    root = parse_xml(xml, name)
    identity = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    root.find("name").text = name  # type: ignore[union-attr]
    for old in root.iterfind("uuid"):
        root.remove(old)
    etree.SubElement(root, "uuid").text = identity
    for entry in root.iterfind("sysinfo/system/entry[@name='uuid']"):
        entry.text = identity
    if root.get("type") == "kvm":
        root.set("type", "qemu")
    for emulator in root.iterfind("devices/emulator"):
        emulator.text = path
    return etree.tostring(root, encoding="unicode")


def _oldest(connection: libvirt.virConnect) -> str:
    """The oldest machine type of i440fx that this QEMU has."""
    found = {
        one.text or ""
        for one in parse_xml(connection.getCapabilities(), "capabilities").iterfind(
            "guest/arch[@name='x86_64']/machine"
        )
    }
    versions = [re.fullmatch(r"pc-i440fx-(\d+)\.(\d+)", name) for name in found]
    return min((match for match in versions if match), key=lambda match: (int(match[1]), int(match[2])))[0]


def _is_old(machine: str) -> bool:
    """Whether the type of i440fx is older than 2.1."""
    major, minor = machine.removeprefix("pc-i440fx-").split(".")
    return (int(major), int(minor)) < (2, 1)


def _define(walk: Walk, name: str, xml: str) -> None:
    """A definition that libvirt does not take costs its own test, and is nothing to the others."""
    try:
        domain = walk.connection.defineXML(_named(xml.replace(OLDEST, walk.oldest), name))
        # libvirt sorts controllers only when it reads a definition that has all of them
        walk.connection.defineXML(domain.XMLDesc(FLAGS))
        walk.names.append(name)
    except libvirt.libvirtError as error:
        walk.refused[name] = str(error)


def _walk(uri: str, folder: Path, sources: dict[str, str], *flags: str) -> Walk:
    connection = libvirt.open(uri)
    try:
        walk = Walk(uri, connection, folder, _oldest(connection), flags=flags)
        for name, xml in sources.items():
            _define(walk, name, xml)
        walk.look("before")
        walk.run("audit")
        walk.run("fix", "--fix")
        walk.run("forced", "--fix", "--force")
        walk.run("after")
        walk.run("again", "--fix", "--force")
        for name in walk.names:
            # accepted, with the schema too: raises where it is not
            connection.defineXMLFlags(walk.xml["forced"][name], libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        return walk
    finally:
        for domain in connection.listAllDomains():
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        connection.close()


@pytest.fixture(scope="module")
def variants(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    return _walk(daemon, tmp_path_factory.mktemp("variants"), {name: one.xml for name, one in VARIANTS.items()})


@pytest.fixture(scope="module")
def corpus(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    files = sorted(CORPUS.glob("*.xml"))
    if not files:
        pytest.skip(f"no corpus of libvirt's domains at {CORPUS} (RECLAIM_CORPUS)")
    sources = {path.stem: path.read_text(encoding="utf-8") for path in files}
    return _walk(daemon, tmp_path_factory.mktemp("corpus"), sources)


#: variants for which the other answers of the policy matter
KEPT = ("names-taken", "boots-from-virtio-beside-scsi", "boots-from-the-second-name", "ten-on-i440fx", "machine-oldest")


@pytest.fixture(scope="module")
def kept(daemon: str, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder = tmp_path_factory.mktemp("kept")
    inventory = folder / "inventory.toml"
    inventory.write_text('[policy]\ntarget = "keep"\nmachine = "minimum"\n', encoding="ascii")
    sources = {name: VARIANTS[name].xml for name in KEPT}
    return _walk(daemon, folder, sources, "--inventory", str(inventory))


@pytest.fixture(params=["variants", "kept", "corpus"])
def walk(request: pytest.FixtureRequest) -> Walk:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Walk)
    return found


def _each(walk: Walk, problems: Callable[[str], list[str]]) -> None:
    """No domain of *walk* may have one of *problems*; all that have are named."""
    found = {name: told for name in walk.names if (told := problems(name))}
    assert not found, "\n".join(f"{name}: {one}" for name, told in found.items() for one in told)


def _expect_defined(walk: Walk, name: str) -> None:
    """Skip if this libvirt refuses what newer QEMUs have dropped; any other refusal is a failure where CI is set."""
    words = walk.refused.get(name)
    if words is None:
        return
    reason = f"this libvirt refuses the definition: {words}"
    if os.environ.get("CI") and not any(one in words for one in DROPPED):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _expect_old(walk: Walk) -> None:
    if not _is_old(walk.oldest):
        pytest.skip(f"this QEMU has no machine type older than 2.1: its oldest is {walk.oldest}")


@pytest.mark.parametrize("name", VARIANTS)
def test_libvirt_takes_the_variant(variants: Walk, name: str) -> None:
    _expect_defined(variants, name)
    assert variants.of("audit", name)


@pytest.mark.parametrize("name", [path.stem for path in sorted(CORPUS.glob("*.xml"))])
def test_libvirt_takes_the_domain_of_its_own_tests(corpus: Walk, name: str) -> None:
    _expect_defined(corpus, name)
    assert corpus.of("audit", name)


STEPS = ["audit", "fix", "forced", "after", "again"]


@pytest.mark.parametrize("step", STEPS)
def test_every_disk_gets_a_verdict_and_none_is_an_error(walk: Walk, step: str) -> None:
    earlier = ["before", "audit", "fix", "forced", "after"][STEPS.index(step)]

    def problems(name: str) -> list[str]:
        root = parse_xml(walk.xml[earlier][name], name)
        disks = [
            one.find("target").get("dev")  # type: ignore[union-attr]
            for one in root.iterfind("devices/disk")
            if one.get("device", "disk") in ("disk", "lun")
        ]
        rows = walk.of(step, name)
        judged = {(row["requirement"], row["disk"]) for row in rows}
        wanted = {(slug, disk) for slug in ("disk-discard", "disk-bus") for disk in disks}
        wanted |= {(slug, None) for slug in ("machine-type", "scsi-controller")}
        return [f"no verdict for {one}" for one in wanted - judged] + [
            f"{row['requirement']} {row['disk']}: {row['reason']}" for row in rows if row["verdict"] == "error"
        ]

    _each(walk, problems)


@pytest.mark.parametrize("step", ["fix", "forced", "again"])
def test_what_is_not_mended_says_why(walk: Walk, step: str) -> None:
    def problems(name: str) -> list[str]:
        return [
            f"{row['requirement']} {row['disk']}: {row['reason']}"
            for row in walk.of(step, name)
            if row["requirement"] in DEFINITION
            and row["verdict"] == "noncompliant"
            and not row["reason"].partition("; withheld: ")[2]
        ]

    _each(walk, problems)


def test_without_force_nobody_moves_a_guest_that_nobody_looked_into(walk: Walk) -> None:
    def problems(name: str) -> list[str]:
        fixed = {row["requirement"] for row in walk.of("fix", name) if row["verdict"] == "fixed"} - {"disk-discard"}
        waiting = [row for row in walk.of("fix", name) if row["requirement"] in DEFINITION]
        return [f"{slug} was fixed" for slug in fixed] + [
            f"{row['requirement']}: {row['reason']}"
            for row in waiting
            if row["verdict"] == "noncompliant" and "withheld: depends on " not in row["reason"]
        ]

    _each(walk, problems)


def test_what_is_fixed_is_accepted_and_passes(walk: Walk) -> None:
    def problems(name: str) -> list[str]:
        left = {row["requirement"] for row in walk.of("again", name) if "; withheld: " in (row["reason"] or "")}
        return [
            f"{row['requirement']} {row['disk']}: {row['reason']}"
            for row in walk.of("after", name)
            if row["requirement"] in DEFINITION and row["verdict"] == "noncompliant" and row["requirement"] not in left
        ]

    _each(walk, problems)


@pytest.mark.parametrize(("step", "earlier"), [("fix", "before"), ("forced", "fix")])
def test_nothing_changes_that_no_fixed_requirement_names(walk: Walk, step: str, earlier: str) -> None:
    def problems(name: str) -> list[str]:
        return unnamed_changes(walk.xml[earlier][name], walk.xml[step][name], walk.fixed(step, name))

    _each(walk, problems)


def test_the_guest_boots_from_the_same_disk(walk: Walk) -> None:
    def problems(name: str) -> list[str]:
        before, after = (boot_disk(walk.xml[step][name]) for step in ("before", "forced"))
        return [] if before == after else [f"{before} became {after}"]

    _each(walk, problems)


def test_a_second_fix_changes_nothing(walk: Walk) -> None:
    assert walk.xml["again"] == walk.xml["after"] == walk.xml["forced"]
    assert not [row for row in walk.rows["again"] if row["changes"] or row["verdict"] == "fixed"]


def test_every_scsi_disk_has_an_address_of_its_own_on_a_controller_that_is_there(walk: Walk) -> None:
    def problems(name: str) -> list[str]:
        root = parse_xml(walk.xml["forced"][name], name)
        there = {one.get("index") for one in root.iterfind("devices/controller[@type='scsi']")}
        places = [
            tuple(disk.find("address").get(part) for part in ("controller", "bus", "target", "unit"))  # type: ignore[union-attr]
            for disk in root.iterfind("devices/disk")
            if disk.find("target").get("bus") == "scsi"  # type: ignore[union-attr]
        ]
        lost = [f"{place} is on no controller" for place in places if place[0] not in there]
        return lost + ([] if len(set(places)) == len(places) else [f"an address twice: {places}"])

    _each(walk, problems)


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.says])
def test_the_report_says_what_was_special(variants: Walk, name: str) -> None:
    _expect_defined(variants, name)
    if any(OLDEST in words for words in VARIANTS[name].says):
        _expect_old(variants)
    rows = variants.of("forced", name) + variants.of("audit", name)
    said = [text for row in rows for text in (row["evidence"], row["reason"]) if text]
    for words in (one.replace(OLDEST, variants.oldest) for one in VARIANTS[name].says):
        assert any(words in text for text in said), f"{words!r} is in none of {said}"


def _devices(uri: str, xml: str) -> list[str]:
    """The frontends with which QEMU would be started, and what else stands beside them that is no backend."""
    connection = libvirt.open(uri)
    try:
        words = shlex.split(connection.domainXMLToNative("qemu-argv", xml, 0))
    finally:
        connection.close()
    wanted = ("-device", "-set", "-global", "-nic", "-netdev", "-fw_cfg", "-smbios", "-machine")
    return [value for option, value in pairwise(words) if option in wanted]


@pytest.mark.parametrize("name", BOUND)
def test_what_the_arguments_bind_stays_as_qemu_has_it(variants: Walk, name: str) -> None:
    """Not one device of QEMU's is another, whatever --force says."""
    before, after = (_devices(variants.uri, variants.xml[step][f"bound-{name}"]) for step in ("before", "forced"))
    assert any("virtio-blk" in one or "ide-hd" in one for one in before)
    assert after == before


@pytest.mark.parametrize("name", FREE)
def test_arguments_that_bind_nothing_keep_no_disk(variants: Walk, name: str) -> None:
    rows = variants.of("forced", f"free-{name}")
    assert {row["requirement"] for row in rows if row["verdict"] == "fixed"} >= {"scsi-controller", "disk-bus"}
    devices = _devices(variants.uri, variants.xml["forced"][f"free-{name}"])
    root = parse_xml(variants.xml["before"][f"free-{name}"], name)
    given = [str(one.get("value")) for one in root.iter(f"{{{QEMU}}}arg")]
    assert {one for one in given if not one.startswith("-")} <= set(devices)
    after = " ".join(devices)
    assert '"driver":"scsi-hd"' in after
    if name == "another-slot":
        assert '"driver":"virtio-scsi-pci","id":"scsi0","bus":"pci.0","addr":"0x5"' not in after
    if name == "user-alias-that-stays":
        assert '"logical_block_size":4096' in after


def test_policy_keeps_names_and_takes_the_oldest_type_that_will_do(kept: Walk) -> None:
    for name in kept.names:
        before, after = (parse_xml(kept.xml[step][name], name) for step in ("before", "forced"))
        targets = [
            sorted(str(one.get("dev")) for one in root.iterfind("devices/disk/target")) for root in (before, after)
        ]
        assert targets[0] == targets[1]
    machine = parse_xml(kept.xml["forced"]["machine-oldest"], "x").find("os/type")
    assert machine is not None
    assert machine.get("machine") == ("pc-i440fx-2.1" if _is_old(kept.oldest) else kept.oldest)
    rows = {(row["requirement"], row["disk"]): row for row in kept.of("forced", "boots-from-the-second-name")}
    assert rows["disk-bus", "vdb"]["verdict"] == "fixed"
    said = rows["disk-bus", "hda"]["reason"]
    assert "withheld: as hda on the scsi bus another disk would be the first one" in said, "hda sorts before vdb"


def test_an_emulator_that_libvirt_does_not_list_gets_no_guessed_type(daemon: str, tmp_path: Path) -> None:
    own = Path(daemon.partition("socket=")[2]).parents[1] / "qemu-of-mine"
    own.symlink_to(EMULATOR)
    connection = libvirt.open(daemon)
    try:
        oldest = _oldest(connection)
        if not _is_old(oldest):
            pytest.skip(f"this QEMU has no machine type older than 2.1: its oldest is {oldest}")
        xml = VARIANTS["machine-oldest"].xml.replace(OLDEST, oldest)
        domain = connection.defineXML(_named(xml, "mine", str(own)))
        rows = audit(tmp_path / "reports", "--fix", "--force", "--guests", "mine", uri=daemon).document["results"]
        machine = parse_xml(domain.XMLDesc(FLAGS), "mine").find("os/type")
        assert machine is not None
        assert machine.get("machine") == oldest
        domain.undefine()
    finally:
        connection.close()
    (row,) = (row for row in rows if row["requirement"] == "machine-type")
    assert row["verdict"] == "noncompliant"
    assert row["reason"].endswith(f"withheld: libvirt lists no machine types for the emulator {own}")
    assert {row["verdict"] for row in rows if row["requirement"] == "disk-bus"} == {"fixed"}
