"""A guest whose inside has something of everything, for parsers that need the rest of the facts beside their text."""

from __future__ import annotations

from functools import cache

from reclaim.inside.facts import Facts, read
from tests.support import MARK, Inside, block, mounted, part, printed, section

FILES = {
    "/etc/fstab": (
        "UUID=aaaa-1 / ext4 errors=remount-ro 0 1\n/dev/vda2 none swap sw 0 0\n"
        "/dev/vdb\\040x /srv btrfs device=/dev/vdb,subvol=@ 0 0\nLABEL=x /a xfs logdev=/dev/vdc1,noauto 0 0\n"
        "# /dev/vda1 /old ext4\n/dev/vdb /b btrfs nofail\n"
    ),
    "/etc/default/grub": (
        'GRUB_CMDLINE_LINUX="root=/dev/vda1 resume=/dev/vda2 rootflags=device=/dev/vdb"\n'
        "GRUB_DISABLE_LINUX_UUID=true\nGRUB_DEVICE=/dev/vda\n"
    ),
    "/boot/grub/grub.cfg": (
        "### BEGIN /etc/grub.d/10_linux ###\nmenuentry 'x' {\n\tlinux /vmlinuz root=/dev/vda1 ro quiet\n"
        "\tinitrd /initrd\n}\n### END /etc/grub.d/10_linux ###\n"
    ),
    "/boot/grub2/grubenv": "# GRUB Environment Block\nkernelopts=root=/dev/vda1 ro\n" + "#" * 960,
    "/boot/loader/entries/a.conf": "title x\nlinux /vmlinuz\ninitrd /initrd\noptions root=/dev/vda1 ro\n",
    "/etc/crypttab": "cr /dev/vda3 none luks,discard\ncr2 /dev/vda4 /key:/dev/vdb1 luks\nsw /dev/vda2 /dev/urandom swap\n",
    "/etc/mdadm/mdadm.conf": "DEVICE /dev/vd*\nARRAY /dev/md0 UUID=1:2:3:4\n",
    "/etc/initramfs-tools/conf.d/resume": "RESUME=/dev/vda2\n",
    "/etc/initramfs-tools/modules": "virtio_blk\n",
    "/boot/extlinux/extlinux.conf": "label l\n append root=/dev/vda1\n",
    "/etc/kernel/cmdline": "root=/dev/vda1\n",
}
UNITS = {
    "/etc/systemd/system/srv.mount": "[Mount]\nWhat=/dev/vdb\nWhere=/srv\nOptions=device=/dev/vdb,x\n",
    "/etc/systemd/system/dev-vda2.swap": "[Swap]\nWhat=/dev/vda2\n",
}
LVM = (
    '/etc/lvm/lvm.conf: filter = [ "a|/dev/vd*|" ]\n'
    "/etc/lvm/devices/system.devices:IDTYPE=devname IDNAME=/dev/vdb DEVNAME=/dev/vdb PVID=x\n"
)


def rich() -> Inside:
    """It names devices by their bus wherever that can be done."""
    root = block("vg-root", type="lvm", fstype="ext4", uuid="l-1")
    crypt = block("cr", root, type="crypt", fstype="LVM2_member")
    devices = [
        block(
            "vda",
            part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"),
            part("vda2", fstype="swap", uuid="s-1", partuuid="p-2"),
            part("vda3", crypt, fstype="crypto_LUKS", uuid="c-1"),
            serial="ABC",
        ),
        block("vdb", fstype="btrfs", uuid="b-1", label="x y"),
    ]
    mounts = [
        mounted("/", "/dev/vda1", uuid="aaaa-1"),
        mounted("/srv", "/dev/vdb[/@]", fstype="btrfs", uuid="b-1"),
        mounted("/x", "/dev/mapper/vg-root", uuid="l-1"),
    ]
    return Inside(
        files=dict(FILES),
        units=dict(UNITS),
        devices=devices,
        mounts=mounts,
        links={"/dev/disk/by-uuid/aaaa-1": "../../vda1", "/dev/mapper/cr": "../dm-0"},
        sysfs={"vda": "/sys/devices/pci0000:00/0000:00:05.0/virtio2"},
        debconf="Name: grub-pc/install_devices\nTemplate: x\nValue: /dev/vdz, /dev/disk/by-id/virtio-q\n\n",
        unified={"/boot/EFI/Linux/a.efi": "root=/dev/vda1"},
        lvm=LVM,
        btrfs="b-1\tvdb\n",
        command_line="root=/dev/vda1 ro resume=LABEL=x",
        thin="vg-pool-tpool: 0 204800 thin-pool 1 2/3 4/5 - rw no_discard_passdown\n",
        named="/etc/smartd.conf:/dev/vda -a\n",
        cron="/etc/cron.weekly/fstrim\tfstrim -a\n",
        layout="device 254:0 - vda\ndevice 254:1 2048 vda1\ntable cr: 0 1000 crypt aes x 0 254:3 4096 1 allow_discards\n",
        zfs="tank\toff\n",
        vdevs="tank\t1\n\t/dev/vdb1\t2\n",
        swaps=("/dev/vda2 partition 1 0 -2", "/swapfile file 1 0 -3"),
        systemd="running\nssh.service loaded active running SSH\nx.mount loaded failed failed y\n",
        kernels=(
            "kernel 6.1.0-13-amd64\npath /boot/initrd.img\nstamp 1:2:3:1\ninitramfs sd_mod\nlacking virtio_scsi\n"
            "kernel 5.0\nunified /boot/EFI/Linux/a.efi\nunreadable x\nkernel z\nstray vmlinuz-z\n"
        ),
        addresses=[
            {
                "ifname": "eth0",
                "addr_info": [
                    {"family": "inet", "local": "10.0.0.2", "prefixlen": 24, "scope": "global", "dynamic": True}
                ],
            }
        ],
    )


@cache
def _sections() -> dict[str, bytes]:
    return rich().sections()


def facts(**sections: str) -> Facts:
    """Its facts, with the raw text of these *sections* in place of its own."""
    given = {name: section(text) for name, text in sections.items()}
    return read(printed({**_sections(), **given}), "one")


def with_file(path: str, text: str) -> Facts:
    """Its facts, with *text* in one of its files."""
    inside = rich()
    inside.files[path] = text
    return read(printed(inside.sections()), "one")


def seeds_of_answers() -> list[bytes]:
    """Two whole answers of the facts script, each section as one line of text: name, space, content in hex."""
    return [spread(one.sections()) for one in (Inside(), rich())]


def spread(sections: dict[str, bytes]) -> bytes:
    """An answer with its sections readable, so that what they hold can be changed."""
    return b"".join(b"\x01%s\x02%s" % (name.encode(), data) for name, data in sections.items())


def gathered(data: bytes) -> bytes:
    """The answer that `spread` gave, after it was changed, as the script prints it."""
    parts = []
    for one in data.split(b"\x01")[1:]:
        name, _, content = one.partition(b"\x02")
        parts.append(b"%s %s\n%s\n" % (MARK, name, content))
    return b"".join(parts) + MARK + b" end\n"
