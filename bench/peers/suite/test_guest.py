"""A plain testinfra suite that asserts an audit's requirements of one guest, as testinfra's own documentation has them.

It stands beside reclaim in `python -m bench audit`, and is run with `--hosts ssh://…`. The guest is one that nobody has
mended, so a test asks that the guest answered, not that the answer is good: all of them pass.
"""

from __future__ import annotations

import json

from testinfra.host import Host

_COLUMNS = "NAME,KNAME,TYPE,FSTYPE,UUID,LABEL,PARTUUID,PARTLABEL,SIZE,RO,SERIAL,DISC-MAX,DISC-GRAN,PKNAME,PATH"
_DRIVERS = "virtio_scsi|sd_mod|virtio_pci|virtio_blk"


def test_system(host: Host) -> None:
    assert host.file("/etc/os-release").contains("Debian")
    assert host.check_output("uname -sr").startswith("Linux")
    assert "root=" in host.file("/proc/cmdline").content_string


def test_fstab(host: Host) -> None:
    assert "/dev/vda1" in host.file("/etc/fstab").content_string
    assert host.file("/proc/swaps").content_string.startswith("Filename")


def test_boot_loader(host: Host) -> None:
    assert "GRUB_" in host.file("/etc/default/grub").content_string
    assert "linux" in host.file("/boot/grub/grub.cfg").content_string
    assert (
        host.run(
            "grep -A9 -E %s /var/cache/debconf/config.dat",
            "Name: grub-(pc|efi)/install_devices",
        ).rc
        <= 1
    )


def test_initramfs_settings(host: Host) -> None:
    for name in ("modules", "initramfs.conf", "update-initramfs.conf"):
        assert host.file(f"/etc/initramfs-tools/{name}").exists


def test_names_in_files(host: Host) -> None:
    assert "/etc/fstab" in host.check_output(
        "grep -rlsE %s /etc", "/dev/([vsh]d[a-z]|disk/by-(path|id))"
    )
    kept_out = "^[[:space:]]*(blacklist|install)[[:space:]]"
    assert host.run("grep -rlsE %s /etc/modprobe.d /lib/modprobe.d", kept_out).rc <= 2
    assert (
        host.run("grep -rhsE %s /etc/udev/rules.d", "devnode|wwid|/dev/[vsh]d").rc <= 2
    )


def test_initramfs_has_the_driver(host: Host) -> None:
    for path in host.check_output("ls /boot/initrd.img-*").split():
        assert "virtio_scsi" in host.check_output("lsinitramfs %s", path)
    assert (
        host.run(
            f"grep -hE '{_DRIVERS}' /lib/modules/*/modules.builtin /lib/modules/*/modules.dep"
        ).rc
        == 0
    )


def test_devices_take_discards(host: Host) -> None:
    assert json.loads(host.check_output(f"lsblk --json --bytes --output {_COLUMNS}"))[
        "blockdevices"
    ]
    assert host.run("grep -H . /sys/class/block/*/dev /sys/class/block/*/start").stdout
    assert host.check_output("readlink -f /sys/block/*/device")
    assert host.check_output("find /dev -type l -printf %s", "%p %l\\n")


def test_mounts(host: Host) -> None:
    assert host.mount_point("/").exists
    columns = "TARGET,SOURCE,FSTYPE,OPTIONS,UUID,FSROOT,SIZE,USED"
    assert json.loads(
        host.check_output(f"findmnt --json --bytes --list --output {columns}")
    )["filesystems"]
    assert host.check_output("df -Pk /boot")


def test_timer(host: Host) -> None:
    timer = host.service("fstrim.timer")
    assert timer.exists
    assert timer.is_enabled in (True, False)
    assert timer.is_running in (True, False)
    assert "LoadState=loaded" in host.check_output(
        "systemctl show fstrim.timer fstrim.service"
    )
    assert host.run(
        "systemctl list-units --plain --no-legend --no-pager --state=active,failed"
    ).stdout
    assert host.run("systemctl is-system-running").stdout


def test_cron(host: Host) -> None:
    folders = "/etc/crontab /etc/cron.d /etc/cron.daily /etc/cron.weekly /etc/cron.monthly /etc/cron.hourly"
    assert host.run(f"grep -lsrE 'fstrim|zpool +trim' {folders}").rc <= 2


def test_address(host: Host) -> None:
    assert json.loads(host.check_output("ip -j address"))
