"""Facts: what a guest says is parsed strictly, and whatever it says, the answer is facts or a ProbeError."""

from __future__ import annotations

import json
import random
from functools import cached_property
from typing import Any

import pytest
from testinfra.backend.base import CommandResult

from reclaim.base.errors import ProbeError, TimedOut
from reclaim.inside import facts
from reclaim.inside.facts import Facts, read
from tests.support import MARK, Inside, block, mounted, part, printed, section

PROPERTIES = tuple(
    name for name, value in vars(Facts).items() if isinstance(value, cached_property | property) and name != "sections"
)


def _facts(**sections: bytes) -> Facts:
    """A whole guest's facts, with some sections replaced."""
    return read(printed({**Inside().sections(), **sections}), "one")


def _lsblk(**values: Any) -> Facts:
    return _facts(lsblk=section(json.dumps({"blockdevices": [{**block("vda"), **values}]})))


def _everything(facts: Facts) -> int:
    """Ask for all there is; a ProbeError is an answer. Returns how many there were."""
    refused = 0
    for name in PROPERTIES:
        try:
            value = getattr(facts, name)
        except ProbeError:
            refused += 1
            continue
        assert repr(value) is not None
    try:
        for device in facts.block_devices:
            facts.stack(device)
            facts.device(device.path)
    except ProbeError:
        return refused
    return refused


def test_a_whole_guest_is_read() -> None:
    facts = _facts()
    assert facts.os_name == "Debian GNU/Linux 12 (bookworm)"
    assert facts.fstab == "UUID=aaaa-1 / ext4 errors=remount-ro 0 1\n"
    assert [device.path for device in facts.block_devices[0].walk()] == ["/dev/vda", "/dev/vda1"]
    assert [mount.target for mount in facts.mounts] == ["/"]
    assert facts.kernels[0].has("virtio_scsi")
    assert facts.fstrim_timer["UnitFileState"] == "enabled"
    assert facts.failed_units == frozenset()


# The frame


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(printed(Inside().sections())[:-4], id="no-end"),
        pytest.param(printed(Inside().sections()) + b"more\n", id="after-the-end"),
        pytest.param(MARK + b" os\nx000\n" + MARK + b" os\nx000\n" + MARK + b" end\n", id="a-section-twice"),
        pytest.param(MARK + b" end\n" + printed({}), id="ended-twice"),
        pytest.param(b"end\n", id="no-mark"),
        pytest.param(b"x end\n", id="a-mark-that-any-text-has"),
        pytest.param(b"\xff\xfe\n", id="bytes"),
        pytest.param(b"Welcome!\n" + printed(Inside().sections()), id="a-greeting-before-it"),
    ],
)
def test_output_that_is_not_whole_is_refused(output: bytes) -> None:
    with pytest.raises(ProbeError):
        read(output, "one")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "no exit status", id="empty"),
        pytest.param(b"text", "no exit status", id="no-status"),
        pytest.param(b"\xff\xc3\xa9", "no exit status", id="bytes"),
        pytest.param(section("x", 1), "ended with status 1", id="failed"),
        pytest.param(section(b"x" * 262_144), "longer than reclaim reads", id="longer-than-the-cap"),
        pytest.param(b"1" * 262_144, "longer than reclaim reads", id="cut-at-the-cap"),
    ],
)
def test_a_broken_section_costs_itself_alone(data: bytes, words: str) -> None:
    facts = Facts("one", {**Inside().sections(), "fstab": data})
    with pytest.raises(ProbeError, match=words):
        _ = facts.fstab
    assert facts.os_name == "Debian GNU/Linux 12 (bookworm)"
    assert facts.mounts


def test_a_section_that_is_missing_is_told() -> None:
    with pytest.raises(ProbeError, match="one: the guest did not give lsblk"):
        _ = Facts("one", {}).block_devices


# The values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({"size": None}, "no number", id="no-size"),
        pytest.param({"size": 1.5}, "no number", id="fraction"),
        pytest.param({"size": "1e9"}, "no number", id="text"),
        pytest.param({"size": True}, "no number", id="bool"),
        pytest.param({"size": []}, "no number", id="list"),
        pytest.param({"size": -1}, "no number", id="negative"),
        pytest.param({"size": 2**64}, "no number", id="beyond-any-disk"),
        pytest.param({"size": 10**400}, "no number", id="beyond-a-float"),
        pytest.param({"size": "9" * 20}, "no number", id="beyond-any-disk-quoted"),
        pytest.param({"disc-max": "-1"}, "no number", id="negative-quoted"),
        pytest.param({"name": None}, "without a name", id="no-name"),
        pytest.param({"name": ["vda"]}, "without a name", id="name-of-another-type"),
        pytest.param({"children": "x"}, "cannot be parsed", id="children-of-another-type"),
        pytest.param({"children": [1]}, "cannot be parsed", id="child-of-another-type"),
        pytest.param({"children": [{}] * 5001}, "cannot be parsed", id="too-many-children"),
    ],
)
def test_a_block_device_of_another_shape_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        _ = _lsblk(**values).block_devices


@pytest.mark.parametrize("size", [10, "10"], ids=["number", "quoted-before-util-linux-2.33"])
def test_sizes_are_numbers_whatever_lsblk_is_of_age(size: Any) -> None:
    assert _lsblk(size=size).block_devices[0].size == 10


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param('NAME="a" KNAME="a" PKNAME="b"\n', id="a-parent-that-is-not-there"),
        pytest.param('NAME="a" KNAME="a" PKNAME="a"\n', id="its-own-parent"),
        pytest.param('NAME="a" KNAME="" PKNAME=""\n', id="no-name"),
        pytest.param("NAME=a KNAME=a\n", id="no-quotes"),
        pytest.param(
            'NAME="a" KNAME="a" PKNAME=""\nNAME="b" KNAME="b" PKNAME="a"\nNAME="a" KNAME="a" PKNAME="b"\n', id="a-ring"
        ),
        pytest.param(
            'NAME="0" KNAME="0" PKNAME=""\n'
            + "".join(f'NAME="{n}" KNAME="{n}" PKNAME="{p}"\n' for n in range(1, 30) for p in range(n)),
            id="more-ways-than-anybody-walks",
        ),
    ],
)
def test_pairs_of_another_shape_are_refused(lines: str) -> None:
    with pytest.raises(ProbeError, match="block devices"):
        _ = _facts(lsblk=section(lines)).block_devices


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        pytest.param("lsblk", 'NAME="' + r"\x41" * 60_000, id="escapes-without-end"),
        pytest.param("lsblk", 'NAME="a" ' + "K" * 250_000, id="a-key-without-end"),
        pytest.param("findmnt", 'TARGET="' + r"\x41" * 60_000, id="a-mount-without-end"),
        pytest.param("thin", "a: 0 1 " + "thin-pool " * 26_000, id="a-pool-without-end"),
        pytest.param("service", "ExecStart={ " + "argv[]=" * 37_000, id="a-command-without-end"),
    ],
)
def test_what_is_made_to_be_slow_is_parsed_at_once(name: str, lines: str) -> None:
    """A pattern that goes back in it again and again would take minutes, or for ever."""
    _everything(_facts(**{name: section(lines)}))


@pytest.mark.parametrize(("ro", "readonly"), [(True, True), ("1", True), (1, True), (False, False), ("0", False)])
def test_readonly(ro: Any, *, readonly: bool) -> None:
    assert _lsblk(ro=ro).block_devices[0].readonly is readonly


def test_more_kernels_than_anybody_has_are_refused() -> None:
    # each is looked for in every boot file
    one = Inside(kernels="kernel a\nstray a\n" * 14_000, files={"/etc/fstab": "", "/etc/default/grub": "b" * 250_000})
    with pytest.raises(ProbeError, match="kernels cannot be parsed"):
        _ = one.facts().kernels


def test_block_devices_nested_too_deep_are_refused() -> None:
    deep = block("d")
    for _ in range(30):
        deep = block("d", deep)
    with pytest.raises(ProbeError):
        _ = _facts(lsblk=section(json.dumps({"blockdevices": [deep]}))).block_devices


@pytest.mark.parametrize("name", ["lsblk", "findmnt", "addresses"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000, id="deep-list"),
        pytest.param('{"a":' * 40_000, id="deep-object"),
        pytest.param("[" * 100_000 + "]" * 100_000, id="deep-and-closed"),
        pytest.param("9" * 5_000, id="a-number-too-long-to-convert"),
        pytest.param("NaN", id="nan"),
        pytest.param('"x"', id="text"),
        pytest.param("{", id="cut"),
        pytest.param("[null]", id="list-of-null"),
        pytest.param('{"blockdevices": {}, "filesystems": {}}', id="objects-for-lists"),
        pytest.param('{"blockdevices": [[]], "filesystems": [[]]}', id="lists-for-objects"),
    ],
)
def test_json_of_another_shape_is_a_probe_error(name: str, text: str) -> None:
    attribute = {"lsblk": "block_devices", "findmnt": "mounts", "addresses": "addresses"}[name]
    with pytest.raises(ProbeError):
        getattr(_facts(**{name: section(text)}), attribute)


@pytest.mark.parametrize(
    "data",
    [
        *(b"x", b"-1\n", b"1", b"99999\n", b"1001\n", b"2\n/a\n1\n", b"1\n/etc/x\nten\n"),
        *(b"1\n/etc/x\n99999999999999999999999", b"\n\n\n", b"1\n/a\n1\n", b"1\n/a\n1\nxy", b"0\nx", b"1\n/a\n9\nxy"),
    ],
)
def test_boot_files_of_another_shape_are_refused(data: bytes) -> None:
    with pytest.raises(ProbeError):
        _ = _facts(boot_files=section(data)).boot_files


def test_boot_files_are_told_apart_by_their_length() -> None:
    lie = "/etc/fake\n3\nabc\n"
    inside = Inside(files={"/etc/default/grub": lie, "/etc/crypttab": "\udcff\n", "/etc/fstab": ""})
    assert inside.facts().boot_files == {"/etc/default/grub": lie, "/etc/crypttab": "\udcff\n"}


def test_undecodable_bytes_of_fstab_can_be_written_back() -> None:
    raw = b"# \xe4\xff\n/dev/vda1 / ext4\n"
    assert _facts(fstab=section(raw)).fstab.encode("utf-8", errors="surrogateescape") == raw


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param('NAME="Debian GNU/Linux"\n', "Debian GNU/Linux", id="double"),
        pytest.param("NAME='a b'\n", "a b", id="single"),
        pytest.param('NAME="a \\"b\\""\n', 'a "b"', id="escaped"),
        pytest.param("# NAME=x\nNAME=y\n", "y", id="comment"),
        pytest.param('BAD="open\nNAME=z\n', "z", id="a-broken-line-is-passed-over"),
    ],
)
def test_os_release_is_read_as_a_shell_would(text: str, value: str) -> None:
    assert _facts(os=section(text)).os["NAME"] == value


def test_links_lead_to_devices() -> None:
    facts = Inside(links={"/dev/mapper/vg-root": "../dm-0", "/dev/disk/by-uuid/a": "../../vda1"}).facts()
    assert facts.resolve("/dev/mapper/vg-root") == "/dev/dm-0"
    device = facts.device("/dev/disk/by-uuid/a")
    assert device
    assert device.path == "/dev/vda1"
    assert facts.device("/dev/nothing") is None


def test_every_way_from_the_disks_to_a_mirror() -> None:
    raid = part("md0", type="raid1")
    facts = Inside(devices=[block("vda", part("vda1", raid)), block("vdb", raid)]).facts()
    device = facts.device("/dev/md0")
    assert device
    assert [[one.name for one in way] for way in facts.stack(device)] == [["vda", "vda1", "md0"], ["vdb", "md0"]]


@pytest.mark.parametrize(
    "text",
    ["initramfs x\n", "kernel 6.1\nwhat\n", "kernel 6.1\nsame\n", "x\nkernel 6.1\n", "kernel 6.1\nkernel\n"],
)
def test_kernels_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(ProbeError):
        _ = _facts(kernels=section(text)).kernels


def test_an_initramfs_that_is_as_it_was_keeps_what_was_read() -> None:
    first = _facts(kernels=section("kernel 6.1\nstamp 1:2:3:4\ninitramfs sd_mod\n"))
    assert [kernel.stamp for kernel in first.read_kernels] == ["1:2:3:4"]
    output = printed({**Inside().sections(), "kernels": section("kernel 6.1\nstamp 1:2:3:4\nsame\n")})
    [kernel] = read(output, "one", first.read_kernels).kernels
    assert kernel.initramfs == {"sd_mod"}


# Whatever it says


def _mutated(chance: random.Random, sections: dict[str, bytes]) -> bytes:
    """A guest's output with something wrong in it."""
    name = chance.choice(list(sections))
    raw = bytearray(sections[name])
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(6):
            case 0:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del raw[at : at + chance.randint(1, 40)]
            case 2:
                raw[at:at] = chance.choice([b'"', b"{", b"}", b"[", b"]", b",", b"null", b"\n", b"\t", b"\xff"])
            case 3:
                raw[at:at] = raw[: chance.randint(0, 60)]
            case 4:
                raw[at : at + 3] = chance.choice([b"-1", b"1e9", b"true", b"{}", b"[]", b'"x"', b"9" * 30])
            case 5:
                raw = raw[:at]
    if chance.random() < 0.8:
        raw[-3:] = b"000"
    found = {**sections, name: bytes(raw)}
    output = printed(found)
    if chance.random() < 0.1:
        at = chance.choice([0, output.index(b"\n"), len(output) - 3])
        output = output[:at] + bytes([chance.randrange(256)]) + output[at + chance.randint(0, 9) :]
    return output


@pytest.mark.slow
def test_no_mutation_of_a_guests_answer_is_anything_but_facts_or_a_probe_error() -> None:
    chance = random.Random(20260101)
    inside = Inside(
        devices=[block("vda", part("vda1", uuid="a", fstype="ext4"), serial="s"), block("sr0", type="rom")],
        mounts=[mounted("/", "/dev/vda1"), mounted("/proc", "proc", "proc")],
        links={"/dev/disk/by-id/x": "../../vda"},
        sysfs={"vda": "/sys/devices/pci0000:00/0000:00:04.0/virtio1"},
        debconf="Name: grub-pc/install_devices\nValue: /dev/vda\n",
    )
    sections = {**inside.sections(), "addresses": section('[{"addr_info": [{"local": "::1", "scope": "global"}]}]')}
    unread = refused = 0
    for _ in range(3000):
        try:
            refused += _everything(read(_mutated(chance, sections), "one"))
        except ProbeError:
            unread += 1
    assert unread > 50
    assert refused > 1000


class _Slow:
    """A shell whose command does not end in time."""

    def __init__(self, rc: int | None) -> None:
        self.rc = rc

    def run(self, _command: str, *, seconds: int) -> CommandResult:
        if self.rc is None:
            raise TimedOut(f"one: a command in the guest did not end within {seconds} s")
        return CommandResult(None, self.rc, "", b"system TGludXg=\n", b"")


@pytest.mark.parametrize("rc", [None, 124])
def test_a_look_that_takes_too_long_names_the_limit_and_the_setting(rc: int | None) -> None:
    with pytest.raises(ProbeError, match=r"one: looking inside did not end within 7 s; .*look_seconds"):
        facts.gather(_Slow(rc), "one", seconds=7)


def test_a_script_that_ends_by_itself_is_not_called_too_slow() -> None:
    with pytest.raises(ProbeError, match="did not finish"):
        facts.gather(_Slow(1), "one", seconds=7)
