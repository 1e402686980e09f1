"""mdadm.conf and zpool.cache, if they name disks by their bus; test_lvm.py has the same of LVM."""

from __future__ import annotations

import pytest

from reclaim.inside.boot import lvm
from reclaim.inside.boot.bootfile import BootFile
from reclaim.inside.boot.raid_lvm_zfs import places
from tests.support import Inside

PATH = "/etc/mdadm/mdadm.conf"
ARRAY = "ARRAY /dev/md/0 metadata=1.2 UUID=1:2:3:4\n"
DEFAULT = "DEVICE partitions containers"


def _places(text: str, path: str = PATH) -> list[BootFile]:
    return list(places(Inside(files={path: text}).facts()))


@pytest.mark.parametrize("path", [PATH, "/etc/mdadm.conf"])
def test_devices_by_name_become_all_partitions(path: str) -> None:
    text = f"# head\n{{}}\nHOMEHOST <system>\n{ARRAY}"
    line = "DEVICE /dev/vda1 /dev/sdb2 /dev/nvme0n1p1"
    [place] = _places(text.format(line), path)
    assert place == BootFile(
        path=path,
        names=(line,),
        devices=("/dev/vda1", "/dev/sdb2"),
        before=text.format(line),
        after=text.format(DEFAULT),
        rebuild=True,
    )


@pytest.mark.parametrize(
    "line",
    [
        "DEVICE /dev/vd*",
        "device /dev/sda",
        "DEVIC\t/dev/xvdb1",
        "DEVICE /dev/[sv]d[ab]1",
        "DEVICE /dev/disk/by-id/ata-x",
    ],
)
def test_a_line_and_a_pattern_of_devices(line: str) -> None:
    [place] = _places(f"{line}\n{ARRAY}")
    assert (place.names, place.after) == ((line,), f"{DEFAULT}\n{ARRAY}")


@pytest.mark.parametrize(
    "text",
    [
        f"DEVICE partitions\n{ARRAY}",
        f"DEVICE /dev/nvme0n1p1\n{ARRAY}",
        f"DEVICE /dev/disk/by-uuid/x\n{ARRAY}",
        f"#DEVICE /dev/vda1\n{ARRAY}",
        f"DEVICES /dev/vda1\n{ARRAY}",
        ARRAY,
        "",
    ],
)
def test_a_file_without_bus_names_is_no_place(text: str) -> None:
    assert _places(text) == []


def test_several_lines_are_all_replaced() -> None:
    [place] = _places(f"DEVICE /dev/vda1\nDEVICE /dev/vdb1\n{ARRAY}")
    assert place.names == ("DEVICE /dev/vda1", "DEVICE /dev/vdb1")
    assert place.devices == ("/dev/vda1", "/dev/vdb1")
    assert place.after == f"{DEFAULT}\n{DEFAULT}\n{ARRAY}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("DEVICE /dev/vda1\n", id="no-array"),
        pytest.param("DEVICE /dev/vda1\nARRAY /dev/md0 super-minor=0\n", id="an-array-without-uuid"),
        pytest.param(f"DEVICE /dev/vda1\n{ARRAY}ARRAY /dev/md1 name=x\n", id="one-without-uuid"),
        pytest.param(f"DEVICE /dev/vda1\n  /dev/vdb1\n{ARRAY}", id="over-lines"),
        pytest.param(f"DEVICE /dev/vda1\n{ARRAY}\tspares=1\n", id="an-array-over-lines"),
    ],
)
def test_what_mdadm_would_not_find_again_is_left_to_the_user(text: str) -> None:
    [place] = _places(text)
    assert (place.after, place.names) == (None, ("DEVICE /dev/vda1",))
    assert PATH in place.advice


@pytest.mark.parametrize("end", ["", " \n", "\t\n"])
def test_blank_lines_go_on_with_nothing(end: str) -> None:
    [place] = _places(f"DEVICE /dev/vda1\n{end}{ARRAY}")
    assert place.after is not None


def test_an_array_by_its_devices_is_left_to_the_user() -> None:
    array = "array /dev/md0 uuid=1:2:3:4 devices=/dev/vda1,/dev/vdb1\nARRAY /dev/md1 UUID=5 devices=/dev/nvme0n1\n"
    [place] = _places(array)
    assert (place.names, place.after) == (("devices=/dev/vda1,/dev/vdb1",), None)
    assert "UUID=" in place.advice
    by_hand, mended = _places(f"DEVICE /dev/vda1\n{array}")
    assert (by_hand.after, mended.after) == (None, f"{DEFAULT}\n{array}")


def test_a_pool_that_was_imported_by_bus_names_is_imported_anew() -> None:
    vdevs = "tank\t9G\n\tmirror-0\t9G\n\t/dev/vdb1\t9G\n\t/dev/vdc1\t9G\nrpool\t9G\n\t/dev/disk/by-partuuid/q\t9G\n"
    [place] = places(Inside(vdevs=vdevs).facts())
    assert place.names == ("/dev/vdb1", "/dev/vdc1")
    assert "tank" in place.path
    assert "zpool export tank, then zpool import -d /dev/disk/by-partuuid tank" in place.advice
    assert place.after is None


def test_what_lvm_s_files_name_is_told_with_them() -> None:
    inside = Inside(
        lvm='/etc/lvm/lvm.conf:\tfilter = [ "a|/dev/vda.*|", "r|.*|" ]\n', vdevs="tank\t9G\n\t/dev/vdb1\t9G\n"
    )
    facts = inside.facts()
    found = list(places(facts))
    assert found[:-1] == list(lvm.places(facts))
    assert "tank" in found[-1].path
