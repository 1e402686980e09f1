"""A plugin for runs in a process of their own: the guest `one` has an inside, and secrets wherever a guest can.

Each kind of secret has a marker, which stands nowhere else.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from reclaim.engine import run, undo
from reclaim.handles import hypervisor
from reclaim.handles.hypervisor import Hypervisor
from tests.support import FILES, InhabitedGuest, Inside, block, part


def marker(kind: str) -> str:
    """Nothing in it tells that it is a secret."""
    return "q" + hashlib.sha256(kind.encode()).hexdigest()[:14]


def filled(template: str, place: str) -> str:
    """*template* with a marker for each `<KIND>`; *place* comes before its name."""
    head, *rest = template.split("\x01")
    return head + "".join(marker(f"{place}-{name}") + text for name, _, text in (one.partition("\x02") for one in rest))


def kinds(template: str, place: str) -> list[str]:
    return [f"{place}-{one.partition(chr(2))[0]}" for one in template.split("\x01")[1:]]


FSTAB = """\
# root's password is \x01comment\x02
UUID=aaaa-1 / ext4 defaults 0 1
//srv/a /a cifs user=a,pass=\x01cifs-pass\x02,uid=0 0 0
//srv/b /b cifs username=a%\x01cifs-percent\x02 0 0
//srv/c /c cifs user=a,password=\x01cifs-password\x02 0 0
/dev/vda5 none swap sw,x-note=\x01on-the-line\x02 0 0
:/ /d ceph name=a,secret=\x01ceph\x02== 0 0
http://u:\x01davfs\x02@h/ /e davfs _netdev 0 0
u:\x01sshfs\x02@h:/ /f fuse.sshfs _netdev 0 0
https://h/x?token=\x01query\x02 /g x _netdev 0 0
"""
GRUB = """\
# \x01comment\x02
GRUB_PASSWORD="\x01variable\x02"
GRUB_CMDLINE_LINUX="netroot=iscsi:u:\x01netroot\x02@192.0.2.1::3260:1:iqn resume=/dev/vda5 rd.x=\x01parameter\x02"
GRUB_THEME=\x01below\x02
"""
GRUB_CFG = """\
set superusers=root
password root \x01password\x02
password_pbkdf2 root grub.pbkdf2.sha512.10000.\x01pbkdf2\x02
\tlinux /vmlinuz root=UUID=aaaa-1 ro token=\x01menu\x02
"""
SWAP_UNIT = """\
[Unit]
Description=\x01description\x02
[Swap]
# \x01comment\x02
What=/dev/vda5
Environment=WIFI_PSK=\x01environment\x02
"""
#: what a failed command prints: three lines are shown
ERRORS = """\
+ export PGPASSWORD=\x01pgpassword\x02 AWS_SECRET_ACCESS_KEY=\x01aws\x02; curl -u a:\x01curl\x02 https://u:\x01url\x02@h/
hook: Authorization: Bearer \x01bearer\x02
hook: sshpass -p \x01sshpass\x02 ssh h; luks: --passphrase \x01passphrase\x02
"""
DEVICES = [
    block(
        "vda",
        part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"),
        part("vda5", uuid="aaaa-5", fstype="swap", partuuid="p-5"),
    )
]
_SWAP = "/etc/systemd/system/dev-vda5.swap"
_MOVE = "if systemctl is-enabled --quiet {0}; then systemctl disable {0} && systemctl enable {1}; fi"


def inside() -> Inside:
    """Something to mend in fstab, boot loader, units and initramfs; the initramfs cannot be built."""
    new = "'dev-disk-by\\x2duuid-aaaa\\x2d5.swap'"
    return Inside(
        files={
            **FILES,
            "/etc/fstab": filled(FSTAB, "fstab"),
            "/etc/default/grub": filled(GRUB, "grub"),
            "/boot/grub/grub.cfg": filled(GRUB_CFG, "menu"),
        },
        units={_SWAP: filled(SWAP_UNIT, "unit")},
        devices=DEVICES,
        kernels="kernel 6.1.0-13-amd64\ninitramfs virtio_blk\n",
        commands={
            "update-grub": lambda _: 0,
            "systemctl daemon-reload": lambda _: 0,
            _MOVE.format("dev-vda5.swap", new): lambda _: 0,
            _MOVE.format(new, "dev-vda5.swap"): lambda _: 0,
            "update-initramfs -u -k all": lambda _: (1, b"", filled(ERRORS, "error").encode()),
            "test -b /dev/vda5": lambda _: 0,
        },
    )


def _inhabited(found: Hypervisor) -> Hypervisor:
    for number, guest in enumerate(found.guests):
        if guest.name == "one":
            found.is_test_driver = False
            found.guests[number] = InhabitedGuest(found, guest.domain, guest.name, guest.uuid, within=inside())
    return found


_connect = hypervisor.connect


def _connected(*arguments: Any, **options: Any) -> Hypervisor:
    return _inhabited(_connect(*arguments, **options))


def install() -> None:
    run.connect = _connected  # type: ignore[attr-defined]
    undo.connect = _connected  # type: ignore[attr-defined]


def fail(xml: str) -> None:
    """A fault with a secret in each frame: an argument, a variable, the words of the exception."""
    variable = marker("fault-variable")
    raise RuntimeError(f"password={marker('fault-words')} in {len(xml) + len(variable)} characters")


def pytest_cmdline_main() -> None:
    install()
    if os.environ.get("RECLAIM_TEST_FAULT"):
        from reclaim.requirement import catalogue  # noqa: PLC0415

        known = catalogue()["machine-type"]
        object.__setattr__(known, "check", lambda guest: fail(f"<x y='{marker('fault-argument')}'/>{guest.name}"))
