"""Judging a guest takes time in proportion to what it says, whatever shape that has: one guest costs its own rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.errors import NotApplicable, NotAssessable, Pending, ProbeError, Withheld
from reclaim.base.verdict import Verdict
from reclaim.changes import kinds
from reclaim.engine.engine import judge, subjects
from reclaim.handles import health
from reclaim.handles.guest import Guest
from reclaim.inside.disk_layout import areas
from reclaim.inside.filesystems import filesystems, need
from reclaim.inventory import Inventory
from reclaim.requirement import catalogue
from reclaim.space import measured, proof
from reclaim.space.backlog import weighed
from reclaim.storage.allocation_map import HostMap
from tests.support import Inside, block, disk_xml, inhabited, letters, mounted, part, scsi_xml

#: bytes of a section at full size: below what reclaim reads of one
_FULL = 230_000
#: full size against a tenth of it: ten times as much, and as much again for what grows a little faster (sorting)
_MOST = 15
#: CPU seconds that a run may differ from another for no reason of its own
_NOISE = 0.4

_REFUSED = (Withheld, Pending, NotAssessable, NotApplicable, ProbeError)


def _many(size: int, line: Callable[[int], str]) -> str:
    """Lines, each with a number of its own, up to *size* bytes."""
    found, left = [], size
    for number in range(size):
        text = line(number)
        left -= len(text.encode()) + 1
        if left < 0:
            break
        found.append(text)
    return "".join(f"{text}\n" for text in found)


def _devices(size: int, **more: Any) -> list[dict[str, Any]]:
    """Disks with as few words as lsblk could use, up to *size* bytes."""
    one = {"name": "v99999", "type": "disk", "size": 1, "disc-max": 1, "disc-gran": 1, **_numbered(more, 99999)}
    count = size // (len(json.dumps(one)) + 2)
    return [{**one, "name": f"v{number}", **_numbered(more, number)} for number in range(count)]


def _numbered(values: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        key.replace("_", "-"): value.format(number) if isinstance(value, str) else value
        for key, value in values.items()
    }


def _mounts(size: int, source: str = "/dev/v{}", target: str = "/m{}", fstype: str = "ext4") -> list[dict[str, Any]]:
    one = {"target": target.format(99999), "source": source.format(99999), "fstype": fstype, "options": "rw"}
    count = size // (len(json.dumps(one)) + 2)
    return [{**one, "target": target.format(k), "source": source.format(k)} for k in range(count)]


ROOT = [block("vda", part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"))]
MOUNTED = [mounted("/", "/dev/vda1", uuid="aaaa-1")]
FSTAB = "/etc/fstab"
GRUB = "/boot/grub/grub.cfg"
SHAPES: dict[str, Callable[[int], Inside]] = {}


def shape(make: Callable[[int], Inside]) -> Callable[[int], Inside]:
    SHAPES[make.__name__.strip("_").replace("_", "-")] = make
    return make


def _inside(files: dict[str, str] | None = None, **more: Any) -> Inside:
    """A guest with *files* beside its own."""
    one = Inside(**more)
    one.files.update(files or {})
    return one


@shape
def _fstab_by_mounts(size: int) -> Inside:
    lines = _many(size, lambda k: f"UUID=x{k} /m")
    return _inside({FSTAB: lines}, devices=[*ROOT, *_devices(size, fstype="ext4")], mounts=[*MOUNTED, *_mounts(size)])


@shape
def _fstab_by_mounts_of_one_place(size: int) -> Inside:
    lines = _many(size, lambda _: "UUID=x /m ext4 ro")
    mounts = [*MOUNTED, *_mounts(size, target="/m")]
    return _inside({FSTAB: lines}, devices=[*ROOT, *_devices(size, fstype="ext4")], mounts=mounts)


@shape
def _fstab_by_devices(size: int) -> Inside:
    lines = _many(size, lambda k: f"/dev/vd{letters(k)} /m{k} ext4")
    devices = _devices(size, path="/dev/x{}", uuid="u{}")
    for number, one in enumerate(devices):
        one["name"] = f"vd{letters(number)}"
    return _inside({FSTAB: lines}, devices=[*ROOT, *devices])


@shape
def _fstab_by_clones(size: int) -> Inside:
    lines = _many(size, lambda _: "UUID=same /m")
    return _inside({FSTAB: lines}, devices=[*ROOT, *_devices(size, uuid="same", fstype="ext4")])


@shape
def _swaps_by_clones(size: int) -> Inside:
    lines = _many(size, lambda _: "UUID=same none swap sw")
    swaps = tuple(_many(size, lambda k: f"/dev/v{k} partition 1 0 -2").splitlines())
    return _inside({FSTAB: lines}, devices=[*ROOT, *_devices(size, uuid="same", fstype="swap")], swaps=swaps)


@shape
def _options_of_one_line(size: int) -> Inside:
    names = _many(size, lambda k: f"device=/dev/vd{letters(k)}").replace("\n", ",")
    devices = _devices(size, path="/dev/x{}", uuid="u{}", partuuid="p{}")
    for number, one in enumerate(devices):
        one["name"] = f"vd{letters(number)}"
    return _inside({FSTAB: f"UUID=x /m btrfs {names}\n"}, devices=[*ROOT, *devices])


@shape
def _blanks_of_one_line(size: int) -> Inside:
    return _inside({FSTAB: f"UUID=x{' ' * (size // 2)}/m{' ' * (size // 3)}ext4\n"})


@shape
def _btrfs_by_members(size: int) -> Inside:
    devices = _devices(size, fstype="btrfs", uuid="b")
    mounts = [*MOUNTED, *_mounts(size, fstype="btrfs")]
    lines = _many(size, lambda k: f"/dev/v{k} /m{k} btrfs device=/dev/v{k}")
    return _inside({FSTAB: lines}, devices=devices, mounts=mounts, btrfs=_many(size, lambda k: f"b\tw{k}"))


@shape
def _btrfs_by_uuid(size: int) -> Inside:
    devices = _devices(size, fstype="btrfs", uuid="b{}")
    return _inside(
        devices=devices, mounts=_mounts(size, fstype="btrfs"), btrfs=_many(size, lambda k: f"b{k}\tv{k % 50}")
    )


@shape
def _mounts_by_devices(size: int) -> Inside:
    return _inside(devices=_devices(size, fstype="ext4"), mounts=_mounts(size))


@shape
def _mounts_of_one_device(size: int) -> Inside:
    return _inside(devices=ROOT, mounts=_mounts(size, source="/dev/vda1[/{}]"))


@shape
def _debconf_by_devices(size: int) -> Inside:
    named = ", ".join(_many(size, lambda k: f"/dev/gone{k}").splitlines())
    debconf = f"Name: grub-pc/install_devices\nTemplate: x\nValue: {named}\n\n"
    return _inside(devices=[*ROOT, *_devices(size)], debconf=debconf)


@shape
def _crypttab_by_devices(size: int) -> Inside:
    lines = _many(size, lambda k: f"cr{k} /dev/vd{letters(k)} none luks")
    return _inside({"/etc/crypttab": lines}, devices=[*ROOT, *_devices(size, uuid="u{}", fstype="crypto_LUKS")])


@shape
def _crypts_by_crypttab(size: int) -> Inside:
    devices = [*ROOT]
    for number, one in enumerate(_devices(size // 2, fstype="crypto_LUKS")):
        crypt = {**one, "name": f"cr{number}", "type": "crypt", "disc-max": 0, "fstype": "ext4"}
        devices.append({**one, "children": [crypt]})
    lines = _many(size, lambda k: f"cr{k} UUID=u{k} none luks")
    return _inside({"/etc/crypttab": lines}, devices=devices, mounts=[*MOUNTED, *_mounts(size, source="/dev/cr{}")])


@shape
def _menu_by_devices(size: int) -> Inside:
    menu = _many(size, lambda k: f"\tlinux /vmlinuz root=/dev/vd{letters(k)} ro")
    devices = _devices(size, path="/dev/x{}", uuid="u{}")
    for number, one in enumerate(devices):
        one["name"] = f"vd{letters(number)}"
    return _inside({GRUB: menu}, devices=[*ROOT, *devices], command_line="root=/dev/vda1\n")


@shape
def _menu_by_command_line(size: int) -> Inside:
    menu = _many(size, lambda k: f"\tlinux /vmlinuz root=UUID=x{k} ro")
    line = _many(size, lambda k: f"root=/dev/vd{letters(k)}").replace("\n", " ")
    return _inside({GRUB: menu}, command_line=line + "\n")


@shape
def _command_line_of_clones(size: int) -> Inside:
    line = _many(size, lambda _: "root=UUID=same").replace("\n", " ")
    return _inside(devices=[*ROOT, *_devices(size, uuid="same", fstype="ext4")], command_line=line + "\n")


@shape
def _parameters_in_one_word(size: int) -> Inside:
    return _inside({GRUB: f"\tlinux /vmlinuz {'a=' * (size // 4)} {'a,' * (size // 4)}\n"})


@shape
def _menus(size: int) -> Inside:
    files = {
        f"/boot/efi/EFI/{number}/grub.cfg": f"linux /v root=/dev/vd{letters(number)}\n"
        for number in range(size * 950 // _FULL)
    }
    return _inside(files)


@shape
def _defaults_by_names(size: int) -> Inside:
    files = {
        f"/etc/default/grub.d/{number}.cfg": f"GRUB_CMDLINE_LINUX=root=/dev/vd{letters(number)}\n"
        for number in range(size * 900 // _FULL)
    }
    return _inside({**files, GRUB: _many(size // 3, lambda k: f"linux /v root=/dev/vd{letters(k)}")})


@shape
def _kernels_by_menu(size: int) -> Inside:
    kernels = "".join(f"kernel {k}\nstray vmlinuz-{k}\nbuiltin virtio_scsi\n" for k in range(size * 480 // _FULL))
    return _inside({GRUB: _many(size, lambda k: f"linux /vmlinuz-x{k}")}, kernels=kernels)


@shape
def _kernels_by_presets(size: int) -> Inside:
    kernels = "".join(f"kernel {k}\npath /boot/initramfs-{k}.img\n" for k in range(size * 480 // _FULL))
    text = _many(size, lambda k: f"p{k}_image=/boot/x{k}.img")
    tools = ("mkinitcpio", "findmnt")
    return _inside(
        {"/etc/mkinitcpio.d/linux.preset": text, "/etc/mkinitcpio.conf": "MODULES=()\n"}, kernels=kernels, tools=tools
    )


@shape
def _kernels_by_dracut(size: int) -> Inside:
    kernels = "".join(f"kernel {k}\npath /boot/initramfs-{k}.img\n" for k in range(size * 480 // _FULL))
    files = {f"/etc/dracut.conf.d/{k}.conf": "a=b\n" * 50 for k in range(size * 900 // _FULL)}
    return _inside(files, kernels=kernels, tools=("dracut", "findmnt"))


@shape
def _boot_entries(size: int) -> Inside:
    files = {
        f"/boot/loader/entries/{k}.conf": f"title x\noptions root=/dev/vd{letters(k)} ro\n"
        for k in range(size * 900 // _FULL)
    }
    return _inside(
        {**files, "/boot/extlinux/extlinux.conf": _many(size // 2, lambda k: f"label {k}\nappend root=/dev/vda1")}
    )


@shape
def _where_with_blanks(size: int) -> Inside:
    text = f"[Mount]\nWhat=/dev/vdb\nWhere=/a{' ' * (size // 2)}b{' ' * (size // 3)}\n"
    return _inside(units={"/etc/systemd/system/a.mount": text})


@shape
def _swap_units(size: int) -> Inside:
    units = {
        f"/etc/systemd/system/dev-vd{letters(k)}.swap": f"[Swap]\nWhat=/dev/vd{letters(k)}\n"
        for k in range(size * 950 // _FULL)
    }
    devices = _devices(size, path="/dev/x{}", uuid="u{}")
    for number, one in enumerate(devices):
        one["name"] = f"vd{letters(number)}"
    return _inside(units=units, devices=[*ROOT, *devices])


@shape
def _udev_rules(size: int) -> Inside:
    rule = f'/etc/udev/rules.d/1.rules:SYMLINK+="x" KERNEL=="{"vda " * (size // 8)}'
    return _inside(
        named=f"{rule}\n" + _many(size // 3, lambda k: f'/etc/udev/rules.d/2.rules:KERNEL=="vd{k}*", NAME="x"')
    )


@shape
def _multipath(size: int) -> Inside:
    return _inside(named=_many(size, lambda _: '/etc/multipath.conf:devnode "vd" devnode "x"'))


@shape
def _lvm_lines(size: int) -> Inside:
    lines = _many(
        size // 2, lambda k: f"/etc/lvm/devices/system.devices:IDTYPE=sys_serial IDNAME=QM{k} DEVNAME=/dev/v{k}"
    )
    return _inside(
        lvm=lines + f"/etc/lvm/lvm.conf: filter = [ {'a|/dev/vd|,' * (size // 30)} ]\n", devices=_devices(size)
    )


@shape
def _mdadm(size: int) -> Inside:
    text = _many(size // 2, lambda k: f"DEVICE /dev/vd{letters(k)}") + _many(
        size // 2, lambda k: f"ARRAY /dev/md{k} UUID=x"
    )
    return _inside({"/etc/mdadm/mdadm.conf": text}, devices=[*ROOT, *_devices(size)])


@shape
def _pools(size: int) -> Inside:
    return _inside(
        vdevs=_many(size, lambda k: f"tank{k}\t1\n\t/dev/vd{letters(k)}\t2"),
        zfs=_many(size, lambda k: f"tank{k}\toff"),
    )


@shape
def _links_by_devices(size: int) -> Inside:
    links = dict.fromkeys((f"/dev/disk/by-id/x{k}" for k in range(size // 40)), "../../vda")
    return _inside(devices=_devices(size, serial="s{}"), links=links)


@shape
def _calls_of_fstrim(size: int) -> Inside:
    cron = _many(size // 2, lambda k: f"/etc/cron.d/x\tfstrim --listed-in /etc/fstab {k}")
    words = f"/etc/cron.d/y\tfstrim -{'a' * (size // 4)}! \n/etc/cron.d/z\tfstrim -{'A' * (size // 4)}!\n"
    return _inside(
        {FSTAB: _many(size, lambda k: f"UUID=x{k} /m{k}")},
        cron=cron + words,
        mounts=_mounts(size),
        devices=_devices(size),
    )


@shape
def _service_of_fstrim(size: int) -> Inside:
    one = Inside(mounts=_mounts(size), devices=_devices(size, fstype="ext4"))
    one.service = {
        **one.service,
        "ExecStart": "{ path=/sbin/fstrim ; argv[]=/sbin/fstrim " + "/x " * (size // 4) + "; }",
    }
    return one


@shape
def _os_release(size: int) -> Inside:
    return _inside(os=f"ID={'a' * (size // 2)}\nPRETTY_NAME='{'b c' * (size // 9)}'\n")


@shape
def _units_of_systemd(size: int) -> Inside:
    return _inside(systemd="running\n" + _many(size, lambda k: f"u{k}.service loaded failed failed x"))


@shape
def _addresses(size: int) -> Inside:
    listed = [{"ifname": f"e{k}", "addr_info": [{"local": f"10.0.{k}", "scope": "global"}]} for k in range(size // 80)]
    return _inside(addresses=listed)


@shape
def _volumes_in_pieces(size: int) -> Inside:
    """A volume of many pieces, and many volumes on it."""
    names = [f"lv{k}" for k in range(size // 110)]
    children = [{**block(name, type="lvm", size=1 << 40), "path": f"/dev/{name}"} for name in names[:400]]
    pieces = _many(size // 2, lambda k: f"table pv: {k} 1 linear 8:0 {k * 2}")
    parts = _many(size // 3, lambda k: f"table lv{k % 400}: {k} 1 linear 9:0 0")
    pv = block("pv", *children, type="lvm", fstype="LVM2_member", size=1 << 40)
    layout = f"device 8:0 - vda\ndevice 9:0 - pv\n{pieces}{parts}"
    return _inside(devices=[block("vda", pv, size=1 << 41)], layout=layout, mounts=[mounted("/", "/dev/lv1")])


@shape
def _partitions_over_each_other(size: int) -> Inside:
    parts = [part(f"vda{k}", size=1 << 40) for k in range(size // 300)]
    layout = "device 8:0 - vda\n" + _many(size, lambda k: f"device 8:{k} 0 vda{k}")
    return _inside(devices=[block("vda", *parts, size=1 << 41)], layout=layout, mounts=[mounted("/", "/dev/vda1")])


@shape
def _deep_stacks(size: int) -> Inside:
    devices = []
    for number in range(size // 3000):
        one = block(f"top{number}", type="lvm", fstype="ext4")
        for depth in range(12):
            one = block(f"d{number}x{depth}", one, type="lvm")
        devices.append(block(f"vd{letters(number)}", one))
    return _inside(devices=devices, mounts=_mounts(size, source="/dev/top{}"))


@shape
def _small_files(size: int) -> Inside:
    return _inside(
        {f"/etc/grub.d/{k}": "" for k in range(size * 950 // _FULL)},
        units={f"/etc/systemd/system/{k}.mount": "" for k in range(size * 950 // _FULL)},
    )


# ----------------------------------------------------------------------------------------------


def _asked(guest: Guest) -> Iterator[str]:
    """Everything that is worked out from what a guest says: verdicts, changes, wellbeing, counts."""
    for one in catalogue().values():
        if one.stage == "backup" or one.option:
            continue
        for subject in subjects(one, guest):
            found = judge(one, subject)
            yield found.reason + found.evidence
            if found.verdict is Verdict.NONCOMPLIANT:
                try:
                    for proposed in one.fixer(*subject.arguments(one)):
                        yield proposed.diff
                        yield json.dumps(kinds.to_json(proposed))
                except _REFUSED as exc:
                    yield str(exc)
    seen = health.observe(guest)
    if seen is not None:
        gone = health.Wellbeing({})
        yield "".join(
            (*seen.missing(seen), *seen.missing(gone), *seen.remarks(gone), *gone.missing(seen), *seen.strays)
        )
    measured.measure(guest.hypervisor, [guest], {}, after=True)
    held = HostMap(tuple((start, start + 1) for start in range(0, 40_000, 2)), 0)
    for device in guest.facts.block_devices[:2]:
        yield weighed(1 << 30, areas(guest.facts, device), held).words
        yield str(need(guest.facts, device))
    for each in filesystems(guest.facts):
        yield each.mount.target + next(iter(proof._devices(guest.facts, each)))


def _seconds(folder: Path, inside: Inside) -> float:
    """CPU seconds for a guest with *inside*."""
    inventory = Inventory.model_validate({"policy": {"luks_discard": True}})
    folder.mkdir(exist_ok=True)
    guest = inhabited(folder, inside, disk_xml("vda"), scsi_xml(), inventory=inventory)
    begin = time.process_time()
    told = sum(map(len, _asked(guest)))
    taken = time.process_time() - begin
    assert told
    assert guest.has_facts
    return taken


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_ten_times_as_much_takes_ten_times_as_long(tmp_path: Path, name: str) -> None:
    tenth = min(_seconds(tmp_path, SHAPES[name](_FULL // 10)) for _ in range(2))
    full = _seconds(tmp_path, SHAPES[name](_FULL))
    if full > _MOST * tenth + _NOISE:  # once more: another process may have had the caches
        full = _seconds(tmp_path, SHAPES[name](_FULL))
    assert full <= _MOST * tenth + _NOISE
