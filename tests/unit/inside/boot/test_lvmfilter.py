"""LVM's filters: which devices they take, by lvm2's own rules."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reclaim.inside.boot import lvmconf
from reclaim.inside.boot.lvmconf import NotUnderstoodError
from reclaim.inside.boot.lvmfilter import Filter, Some

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "/dev"

NAMES = ("vda3", "disk/by-id/virtio-abc-part3", "disk/by-path/pci-0000:00:05.0-part3")

#: filters, and whether lvm2 2.03.16 takes a device with those names; None where it refuses the filter
FILTERS = {
    '["a/vda/", "r/.*/"]': True,
    '["a|/vda3$|", "r|.*|"]': True,
    '["a|^vda3|", "r|.*|"]': False,
    '["a!vda!", "r!.*!"]': True,
    '["a#vda3#", "r#.*#"]': True,
    '["a(vda)", "r(.*)"]': True,
    '["a{vda}", "r[.*]"]': True,
    '["axvdax", "rx.*x"]': True,
    '["a|sda|", "r|.*|"]': False,
    '["r|vda3|", "a|.*|"]': True,  # another name of it is taken
    '["r|vda3|", "r|by-|"]': False,
    '["r|vda3|"]': False,
    '["a|virtio-.*|", "r|.*|"]': True,
    '["r!/dev/loop!"]': True,
    '"r|.*|"': False,
    '["a|[v-]da|", "r|.*|"]': None,  # the bracket is the range's upper end
    '["a|[[:alpha:]]da|", "r|.*|"]': False,
    '["a|vda[^0-9]|", "r|.*|"]': False,
    '["a|vda3[^0-9]|", "r|.*|"]': True,  # the end is a character
    '["a|vd(a|b)+3|", "r|.*|"]': True,
    '["a|vda{1}3|", "r|.*|"]': False,
    '["a|vda|b|", "r|.*|"]': True,
    '["r|x*|"]': False,
    '["a|*vda*|", "r|.*|"]': None,
    '["a||", "r|.*|"]': None,
    '["a|(vda|", "r|.*|"]': None,
    '["a|sda", "r|.*|"]': None,
    '["x|sda|", "r|.*|"]': None,
    "[]": None,
}


def _takes(text: str, folder: str = FOLDER) -> bool | None:
    """Whether a device with those names is taken, by our reading."""
    try:
        lists = Filter(lvmconf.settings(f"filter = {text}")["filter"])
    except NotUnderstoodError:
        return None
    said = [lists.takes(f"{folder}/{name}") for name in NAMES]
    return True in said or False not in said


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_takes_what_lvm2_takes(text: str) -> None:
    assert _takes(text) is FILTERS[text]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A folder with a physical volume on a loop device under NAMES."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = "not root" if os.geteuid() else "" if shutil.which("pvcreate", path=path) else "no pvcreate: install lvm2"
    if missing and os.environ.get("CI"):
        pytest.fail(f"LVM's own filters must be tried where CI is set: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"no lvm2 here: {missing}")
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 32 * 1024 * 1024)
    loop = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=True).stdout.strip()
    try:
        folder = tmp_path / "dev"
        for name in NAMES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(folder / NAMES[0], 0o60600, Path(loop).stat().st_rdev)
        for name in NAMES[1:]:
            (folder / name).symlink_to(folder / NAMES[0])
        _lvm(folder, '"a|.*|"', "pvcreate", "-y", str(folder / NAMES[0]))
        yield folder
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def _lvm(folder: Path, text: str, *command: str) -> tuple[int, str]:
    """lvm2's exit status and answer, with a configuration of its own that looks at *folder* alone."""
    (folder.parent / "lvm.conf").write_text(
        f'devices {{ dir = "{folder}" scan = [ "{folder}" ] obtain_device_list_from_udev = 0 hints = "none"\n'
        f'filter = {text} }}\nglobal {{ locking_dir = "{folder.parent}/lock" }}\nactivation {{ udev_sync = 0 }}\n'
    )
    environment = {**os.environ, "LVM_SYSTEM_DIR": str(folder.parent), "LVM_SUPPRESS_FD_WARNINGS": "1"}
    environment["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout


def _expression(choose: random.Random, depth: int = 0) -> str:
    parts = [
        "v",
        "d",
        "a",
        "3",
        "vda",
        "sda",
        "/",
        "by-id",
        ".",
        "^",
        "$",
        "[v-x]",
        "[^a]",
        "virtio",
        "-",
        "part",
        "[a3]",
    ]
    found = ""
    for _ in range(choose.randint(1, 4)):
        one = choose.choice([*parts, "("] if depth < 2 else parts)
        if one == "(":
            other = f"|{_expression(choose, depth + 1)}" if choose.random() < 0.5 else ""
            one = f"({_expression(choose, depth + 1)}{other})"
        found += one + choose.choice(["", "", "", "*", "+", "?"])
    return found


@pytest.mark.slow
def test_lvm2_itself_takes_the_same(device: Path) -> None:
    choose = random.Random(7)
    made = (
        ", ".join(f'"{choose.choice("ar")}!{_expression(choose)}!"' for _ in range(choose.randint(1, 3)))
        for _ in range(100)
    )
    for text in (*FILTERS, *(f"[ {one} ]" for one in made)):
        status, answer = _lvm(device, text, "pvs", "--noheadings", "-o", "pv_name")
        assert _takes(text, str(device)) is (None if status else bool(answer.strip())), text


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("a|" + "(" * 2000 + ")" * 2000 + "|", id="deep"),
        pytest.param("a|" + "x" * 10_000 + "|", id="long"),
        pytest.param("a|\xe4|", id="not-ascii"),
    ],
)
def test_an_expression_that_is_meant_to_cost_time_is_given_up(pattern: str) -> None:
    with pytest.raises(NotUnderstoodError):
        Filter([pattern]).takes("/dev/" + "x" * 200)


@pytest.mark.parametrize(
    "pattern",
    [
        "a|(a*)*b|",
        "a|" + "(a+a+)+" * 100 + "z|",
        "a|((a+)+)+$|",
        "a|" + "(.*)*" * 200 + "z|",
        "a|" + ".?" * 1000 + "z|",
    ],
)
def test_an_expression_that_others_backtrack_over_is_evaluated(pattern: str) -> None:
    Filter([pattern]).takes("/dev/" + "a" * 200)


def test_of_a_name_that_is_known_in_part_what_it_might_be_is_told() -> None:
    name = ("/dev/disk/by-path/pci-", Some("0123456789abcdef:."), "-scsi-", Some("0123456789:"), "-part3")
    assert Filter(["a|.*|"]).might(name) == {True}
    assert Filter(["r|^/dev/loop|"]).might(name) == {None}
    assert Filter(["a|scsi|", "r|.*|"]).might(name) == {True, False}
    assert Filter(["a|pci-0000:00:05|", "r|/by-path/|"]).might(name) == {True, False}
    assert Filter(["r|part3$|"]).might(name) == {False, None}
    assert Filter(["r|virtio|"]).might(name) == {None}
