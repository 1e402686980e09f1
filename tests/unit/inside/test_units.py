"""Mount and swap units that the administrator wrote."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from reclaim.inside import units
from reclaim.inside.units import Swap, escaped
from tests.support import Inside, block, part


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/dev/vda5", "dev-vda5"),
        ("/dev/disk/by-uuid/aaaa-5", "dev-disk-by\\x2duuid-aaaa\\x2d5"),
        ("/dev/disk/by-label/a+b", "dev-disk-by\\x2dlabel-a\\x2bb"),
        ("/.x", "\\x2ex"),
    ],
)
def test_units_are_called_as_systemd_escape_has_it(path: str, name: str) -> None:
    assert escaped(path) == name
    if tool := shutil.which("systemd-escape"):
        done = subprocess.run([tool, "--path", path], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == name


DEVICES = [
    block(
        "vda",
        part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"),
        part("vda5", uuid="aaaa-5", fstype="swap", partuuid="p-5"),
    ),
    block("vdb", part("vdb1", fstype="ext4"), part("vdb2", uuid="bbbb", fstype="btrfs")),
]
FOLDER = "/etc/systemd/system"
ROOT, SWAP = "/dev/disk/by-uuid/aaaa-1", "/dev/disk/by-uuid/aaaa-5"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[Mount]\nWhat=/dev/vda1\nWhere=/srv\n", ["/dev/vda1"]),
        (" What = /dev/sdb2 \n", ["/dev/sdb2"]),
        ("What=/dev/disk/by-uuid/x\nWhat=UUID=x\n#What=/dev/vda1\n;What=/dev/vda1\n", []),
        ("What=/dev/mapper/vg-srv\n", []),
        ("What=/dev/disk/by-path/pci-1\n", ["/dev/disk/by-path/pci-1"]),
        ("Options=rw,device=/dev/vdb2,device=/dev/vdb3\n", ["/dev/vdb2", "/dev/vdb3"]),
        ("Options = logdev=/dev/vdb1 \n", ["/dev/vdb1"]),
        ("Options=x-note=/dev/vdb1,/dev/vdb2,name=vdb3\n", ["/dev/vdb1"]),
        ("What=/dev/vda1\nOptions=device=/dev/vdb2\n", ["/dev/vda1", "/dev/vdb2"]),
        ("Where=/dev/vda1\nWhatever=/dev/vda1\n", []),
    ],
)
def test_the_bus_names_in_a_unit(text: str, names: list[str]) -> None:
    assert units.names(text) == names


def test_a_unit_is_rewritten_and_not_a_byte_else() -> None:
    text = "[Mount]\n# /dev/vda1\n What = /dev/vda1 \nWhere=/srv\nOptions=ro,device=/dev/vdb2,/dev/vda5,x=vda5\n"
    rewritten = units.named_stably(Inside(devices=DEVICES).facts(), text)
    by_uuid = "/dev/disk/by-uuid/bbbb"
    after = text.replace("= /dev/vda1 ", f"= {ROOT} ").replace("device=/dev/vdb2", f"device={by_uuid}")
    assert rewritten.text == after
    assert rewritten.replaced == ["/dev/vda1", "/dev/vdb2"]
    assert rewritten.left == []


def test_why_a_name_stays_is_told() -> None:
    text = "What=/dev/vdz1\nOptions=device=/dev/vdb1,device=/dev/vdb2\n"
    rewritten = units.named_stably(Inside(devices=DEVICES).facts(), text)
    assert [reason.split()[0] for reason in rewritten.left] == ["/dev/vdz1", "/dev/vdb1"]
    assert "is not there" in rewritten.left[0]
    assert "UUID" in rewritten.left[1]
    assert rewritten.replaced == ["/dev/vdb2"]
    assert rewritten.text.startswith("What=/dev/vdz1\nOptions=device=/dev/vdb1,device=/dev/disk/")


def _swap(text: str = "[Swap]\nWhat=/dev/vda5\n", path: str = f"{FOLDER}/dev-vda5.swap", **others: str) -> Swap | str:
    facts = Inside(devices=DEVICES, units={path: text, **{f"{FOLDER}/{name}": text for name, text in others.items()}})
    return units.swap_named_stably(facts.facts(), path, text)


NEW = f"{FOLDER}/dev-disk-by\\x2duuid-aaaa\\x2d5.swap"


def test_a_swap_unit_is_called_after_its_new_device() -> None:
    assert _swap() == Swap(path=NEW, text=f"[Swap]\nWhat={SWAP}\n", devices=["/dev/vda5"])


def test_a_swap_unit_that_was_made_already_is_the_same() -> None:
    there = {NEW.rpartition("/")[2]: f"[Swap]\nWhat={SWAP}\n"}
    assert isinstance(_swap(**there), Swap)
    other = {NEW.rpartition("/")[2]: f"[Swap]\nWhat={SWAP}\nPriority=5\n"}
    reason = _swap(**other)
    assert isinstance(reason, str)
    assert "dev-vda5.swap" in reason
    assert NEW in reason


def test_a_swap_whose_device_has_no_name_stays() -> None:
    reason = _swap("[Swap]\nWhat=/dev/vdb1\n")
    assert isinstance(reason, str)
    assert reason.startswith("/dev/vdb1 ")


@pytest.mark.parametrize(
    ("path", "text", "others"),
    [
        pytest.param(
            f"{FOLDER}/dev-vda5.swap",
            "[Swap]\nWhat=/dev/vda5\n",
            {"dev-vda5.swap.d/10.conf": "[Swap]\n"},
            id="with-drop-ins",
        ),
        pytest.param(f"{FOLDER}/dev-vda5.swap.d/10.conf", "[Swap]\nWhat=/dev/vda5\n", {}, id="a-drop-in"),
        pytest.param(f"{FOLDER}/dev-vda5.swap", "[Swap]\nOptions=device=/dev/vdb2\n", {}, id="without-a-device"),
    ],
)
def test_a_swap_unit_with_drop_ins_is_left_to_the_user(path: str, text: str, others: dict[str, str]) -> None:
    reason = _swap(text, path, **others)
    assert isinstance(reason, str)
    assert "drop-ins" in reason


def test_devices_of_units_are_named_with_the_unit() -> None:
    mount, swap = f"{FOLDER}/data.mount", f"{FOLDER}/x.swap"
    texts = {
        mount: "[Mount]\nWhat=/dev/vda1\nOptions=rw,logdev=/dev/vda5\n",
        swap: f"[Swap]\nWhat={SWAP}\n",
    }
    assert units.named_by_bus(Inside(units=texts, devices=DEVICES).facts()) == [
        f"{mount}: /dev/vda1",
        f"{mount}: /dev/vda5",
    ]
