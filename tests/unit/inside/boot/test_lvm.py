"""LVM's filters and its devices file: what is read from lvm.conf, and what becomes of a physical volume."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reclaim.base.verdict import Verdict
from reclaim.inside.boot import lvmconf
from reclaim.inside.boot.lvmconf import NotUnderstoodError
from reclaim.inside.boot.lvmfilter import Filter, Some
from tests.support import Inside, block, engine, inhabited, mounted, part, requirement, subject, verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# lvm.conf(5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            'devices {\n filter = [ "a|x|", "r|.*|" ]\n}\n', {"devices/filter": ["a|x|", "r|.*|"]}, id="usual"
        ),
        pytest.param('devices/filter="r|.*|"', {"devices/filter": ["r|.*|"]}, id="path-and-one-string"),
        pytest.param('devices{filter=["a|x|" "r|y|",]}', {"devices/filter": ["a|x|", "r|y|"]}, id="without-commas"),
        pytest.param(
            'devices {\n filter = [ "a|x|", # "a|y|"\n # "a|z|",\n\n  \'r#.*#\' ]\n}',
            {"devices/filter": ["a|x|", "r#.*#"]},
            id="over-lines-with-comments",
        ),
        pytest.param(r'a = [ "q\"\\d\." ' r"'\"\d' ]", {"a": [r'q"\d\.', r"\"\d"]}, id="escapes"),
        pytest.param("devices { a = 1 a = 2 }", {"devices/a": ["2"]}, id="the-last-counts"),
        pytest.param("a{b{c=-5 d=[]}e=1.5}", {"a/b/c": ["-5"], "a/b/d": [], "a/e": ["1.5"]}, id="sections-in-sections"),
        pytest.param("devices { filter = a|x| }", {"devices/filter": ["a|x|"]}, id="a-bare-string"),
        pytest.param("", {}, id="empty"),
        pytest.param("# filter = 1", {}, id="comment"),
        pytest.param('devices { filter = [ "a|x|" }', None, id="an-array-that-does-not-end"),
        pytest.param('devices { filter = "a|x }', None, id="a-string-that-does-not-end"),
        pytest.param("devices { filter = 1", None, id="a-section-that-does-not-end"),
        pytest.param("filter\n", None, id="no-value"),
        pytest.param("}", None, id="an-end-too-many"),
        pytest.param("a{" * 1000, None, id="deep"),
        pytest.param('"' * 99_999, None, id="quotes"),
        pytest.param("[" * 99_999, None, id="brackets"),
    ],
)
def test_lvm_conf_is_taken_apart_as_lvm2_does(text: str, found: dict[str, list[str]] | None) -> None:
    if found is None:
        with pytest.raises(NotUnderstoodError):
            lvmconf.settings(text)
    else:
        assert lvmconf.settings(text) == found


# Filters

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


# A physical volume

VOLUME = block("vg-root", type="lvm", path="/dev/mapper/vg-root", fstype="ext4", uuid="aaaa-1")
LINKS = {
    "/dev/disk/by-id/virtio-os-part3": "../../vda3",
    "/dev/disk/by-id/lvm-pv-uuid-tIrNvp": "../../vda3",
    "/dev/disk/by-partuuid/p-3": "../../vda3",
    "/dev/disk/by-path/pci-0000:00:05.0-part3": "../../vda3",
}


def _guest(lvm: str, *more: dict[str, object], **inside: object) -> Inside:
    disk = block(
        "vda", part("vda1", uuid="b-1", fstype="ext4"), part("vda3", VOLUME, fstype="LVM2_member"), serial="os"
    )
    return Inside(
        lvm=lvm,
        devices=[disk, *more],
        mounts=[mounted("/", "/dev/mapper/vg-root", uuid="aaaa-1")],
        **{"links": LINKS, **inside},  # type: ignore[arg-type]
    )


def _conf(*lines: str, path: str = "/etc/lvm/lvm.conf") -> str:
    return "".join(f"{path}:{line}\n" for line in lines)


ENTRY = "/etc/lvm/devices/system.devices:IDTYPE={} IDNAME={} DEVNAME={} PVID=tIrNvpmALxLpJFjL PART=3\n"
KEPT = 'filter = [ "a|vda|", "r|.*|" ]'


@pytest.mark.parametrize(
    ("lvm", "finding"),
    [
        pytest.param(_conf(KEPT), "/dev/vda3: filter takes it now, and may not take it as /dev/sd*3", id="by-its-bus"),
        pytest.param(
            _conf("devices {", "filter = [", '"a|^/dev/vda3$|",', '"r|.*|" ]', "}"),
            "filter takes it now",
            id="over-lines",
        ),
        pytest.param(
            _conf('devices/global_filter = "r|/dev/sd|"'),
            "/dev/vda3: global_filter takes it now",
            id="global-filter-of-scsi",
        ),
        pytest.param(
            _conf('filter=["a|sda|","r|.*|"]'),
            "/dev/vda3: it is in use, and filter accepts none of its known names",
            id="odd",
        ),
        pytest.param(
            _conf('filter=["a|/dev/[sv]da|","r|.*|"]'), "/dev/vda3: filter takes it now", id="which-letter-is-not-known"
        ),
        pytest.param(_conf('filter=["a|by-path/.*05.0|","r|.*|"]'), "/dev/vda3: filter takes it now", id="by-path"),
        pytest.param(_conf('filter=["a|virtio-os|","r|.*|"]'), "/dev/vda3: filter takes it now", id="by-id"),
        pytest.param(
            _conf('filter=["a|vda|","r|scsi|"]'), "/dev/vda3: filter takes it now", id="rejects-a-link-that-comes"
        ),
        pytest.param(_conf('filter=["a|*vda*|"]'), "filter is not understood", id="no-expression"),
        pytest.param(
            _conf("devices {", "filter=["), "/etc/lvm/lvm.conf: not understood: an array does not end", id="torn"
        ),
        pytest.param(
            _conf('filter="a|.*|"') + _conf(KEPT, path="/etc/lvm/lvmlocal.conf"),
            "lvmlocal.conf: /dev/vda3",
            id="lvmlocal.conf",
        ),
        pytest.param(
            "".join(_conf('filter="a|.*|"', path=f"/etc/lvm/lvm_{tag}.conf") for tag in range(11)),
            "/etc/lvm: there are more filters than reclaim evaluates",
            id="many-tags",
        ),
        pytest.param(_conf(KEPT, path="/etc/lvm/lvm_db.conf"), "/etc/lvm/lvm_db.conf: /dev/vda3", id="of-a-tag"),
        pytest.param(
            _conf('filter="r|^/dev/disk/by-path/.*scsi|"', 'scan=["/dev/disk/by-path"]'),
            "filter takes it now",
            id="scan",
        ),
        pytest.param(
            _conf(KEPT) + ENTRY.format("sys_serial", "os", "/dev/vda3"),
            "filter takes it now",
            id="devices-file-by-default",
        ),
        pytest.param(
            ENTRY.format("devname", "/dev/vda3", "/dev/vda3"), "/dev/vda3 known by devname", id="devname-with-serial"
        ),
        pytest.param(
            _conf("use_devicesfile = 1", 'devicesfile = "own.devices"')
            + ENTRY.format("devname", "/dev/vda3", "/dev/vda3").replace("system.", "own."),
            "/etc/lvm/devices/own.devices: /dev/vda3 known by devname",
            id="another-devices-file",
        ),
    ],
)
def test_a_physical_volume_that_lvm_would_lose_is_named_and_nothing_is_changed(
    tmp_path: Path, lvm: str, finding: str
) -> None:
    inside = _guest(lvm)
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    found, _, withheld = result.reason.partition("; withheld: ")
    assert finding in found
    assert withheld
    assert (inside.files, inside.ran) == (before, [])
    inside.lvm = _conf('filter = [ "a|^/dev/disk/by-id/lvm-pv-uuid-tIrNvp$|", "r|.*|" ]')  # as the advice says
    guest.forget()
    assert verdict_of(guest, "boot-names") is Verdict.COMPLIANT


HIDDEN = block("vdb", fstype="LVM2_member")


@pytest.mark.parametrize(
    ("lvm", "devices"),
    [
        pytest.param("", [], id="nothing-set"),
        pytest.param(_conf('filter=["a|.*|"]'), [], id="all"),
        pytest.param(_conf('filter=["a|/dev/[sv]d|","r|.*|"]'), [], id="both"),
        pytest.param(_conf('filter=["r|^/dev/drbd|","a|.*|"]'), [], id="others"),
        pytest.param(_conf('filter=["r|loop|","r|nbd|","r/cdrom/"]'), [], id="others-without-a-slash"),
        pytest.param(_conf('filter=["a|by-partuuid/p-3$|","r|.*|"]'), [], id="by-partuuid"),
        pytest.param(_conf('filter=["a|/dev/.d.3$|","r|.*|"]'), [], id="the-number-alone"),
        pytest.param(_conf(KEPT) + _conf('filter="a|.*|"', path="/etc/lvm/lvmlocal.conf"), [], id="overridden"),
        pytest.param(_conf('filter="a|vda|"', 'filter="a|.*|"'), [], id="set-again"),
        pytest.param(_conf('devices { preferred_names=["^/dev/vda"] }'), [], id="preferred-names"),
        pytest.param(_conf('#filter=["a|vda|","r|.*|"]'), [], id="comment"),
        pytest.param(
            _conf(KEPT, "use_devicesfile = 1") + ENTRY.format("sys_serial", "os", "/dev/vda3"), [], id="devices-file"
        ),
        pytest.param(
            _conf(KEPT, "# use_devicesfile = 1") + ENTRY.format("sys_serial", "os", "/dev/vda3"),
            [],
            id="used-by-default",
        ),
        pytest.param(
            _conf("# use_devicesfile = 0") + ENTRY.format("sys_serial", "QM00001", "/dev/vda3"),
            [],
            id="not-used-by-default",
        ),
        pytest.param(
            _conf('search_for_devnames = "all"') + ENTRY.format("devname", "/dev/vda3", "/dev/vda3"),
            [],
            id="found-by-pvid",
        ),
        pytest.param(_conf('filter=["a|vda|","r|.*|"]'), [block("md0", VOLUME, fstype="LVM2_member")], id="on-md"),
    ],
)
def test_a_physical_volume_that_lvm_keeps_is_no_reason(
    tmp_path: Path, lvm: str, devices: list[dict[str, object]]
) -> None:
    inside = _guest(lvm)
    inside.devices = devices or inside.devices
    assert verdict_of(inhabited(tmp_path, inside), "boot-names") is Verdict.COMPLIANT


def test_a_disk_that_a_filter_hides_stays_hidden(tmp_path: Path) -> None:
    """The volumes of a nested guest, say: LVM is not to touch them, and would by another name."""
    hides = _conf('filter=["r|^/dev/vdb|"]')
    guest = inhabited(tmp_path, _guest(hides, HIDDEN, links={}))
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert "/dev/vdb: filter hides it now, and may not hide it as /dev/sd*" in result.reason
    both = _conf('filter=["a|^/dev/.d.3|","r|^/dev/[sv]d|"]')
    assert verdict_of(inhabited(tmp_path, _guest(both, HIDDEN, links={})), "boot-names") is Verdict.COMPLIANT
