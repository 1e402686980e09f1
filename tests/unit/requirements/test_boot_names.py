"""boot-names: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes.command import CommandChange
from reclaim.changes.file_change import FileChange
from tests.support import (
    FILES,
    Inside,
    block,
    engine,
    inhabited,
    mounted,
    part,
    requirement,
    subject,
    verdict_of,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = "/etc/default/grub"
GRUB_CFG = "/boot/grub/grub.cfg"
RESUME = "/etc/initramfs-tools/conf.d/resume"
DEVICES = [
    block(
        "vda",
        part("vda1", uuid="aaaa-1", fstype="ext4", partuuid="p-1"),
        part("vda5", uuid="aaaa-5", fstype="swap", partuuid="p-5"),
    )
]


def _update_grub(inside: Inside) -> int:
    """As update-grub does: the command line of the defaults, and root by UUID unless that is disabled."""
    text = inside.files[DEFAULTS]
    root = "/dev/vda1" if "\nGRUB_DISABLE_LINUX_UUID=true" in f"\n{text}" else "UUID=aaaa-1"
    extra = text.partition('GRUB_CMDLINE_LINUX="')[2].partition('"')[0]
    inside.files[GRUB_CFG] = f"\tlinux /vmlinuz root={root} ro {extra}\n"
    return 0


def _inside(**files: str) -> Inside:
    names = {"defaults": DEFAULTS, "menu": GRUB_CFG, "resume": RESUME, "other": "/etc/default/grub.d/50-x.cfg"}
    return Inside(
        files={**FILES, **{names[name]: text for name, text in files.items()}},
        devices=DEVICES,
        commands={"update-grub": _update_grub, "update-initramfs -u -k all": lambda _: 0},
    )


def test_an_entry_stays_right_if_kernel_install_makes_it_anew(tmp_path: Path) -> None:
    """Each new initramfs has it made from /proc/cmdline, which has the old names until the guest starts again."""
    entry, following = "/boot/efi/loader/entries/0123-6.1.0-13-amd64.conf", "/etc/kernel/cmdline"
    text = "linux /l\ninitrd /i\noptions {}\n"
    given = "root=/dev/vda1 ro systemd.machine_id=0123"

    def kernel_install(inside: Inside) -> int:
        inside.files[entry] = text.format(inside.files.get(following, given).strip())
        return 0

    inside = Inside(
        files={
            "/etc/fstab": "UUID=aaaa-1 / ext4 defaults 0 1\n",
            entry: text.format(given),
            RESUME: "RESUME=/dev/vda5\n",
        },
        devices=DEVICES,
        command_line=f"initrd=\\i {given}\n",
        commands={"update-initramfs -u -k all": kernel_install},
        tools=("kernel-install", "update-initramfs", "mkinitramfs"),
    )
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files == {
        **before,
        entry: before[entry].replace("/dev/vda1", "UUID=aaaa-1"),
        following: "root=UUID=aaaa-1 ro systemd.machine_id=0123\n",
        RESUME: "RESUME=UUID=aaaa-5\n",
    }
    again = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_a_mend_of_a_part_names_the_steps_for_the_rest(tmp_path: Path) -> None:
    """A unified image has its command line built in; reclaim names the next one's devices, and builds none."""
    image, following = "/boot/efi/EFI/Linux/0123-6.1.0-13-amd64.efi", "/etc/kernel/cmdline"
    inside = Inside(
        files={"/etc/fstab": "UUID=aaaa-1 / ext4 defaults 0 1\n", following: "root=/dev/vda1 ro\n"},
        devices=DEVICES,
        unified={image: "root=/dev/vda1 ro"},
        tools=("kernel-install",),
    )
    guest = inhabited(tmp_path, inside)
    steps = "; withheld: " + f"{image} has its command line built in: once root=UUID=… is in {following}, "
    for _ in range(2):
        result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
        assert result.verdict is Verdict.NONCOMPLIANT
        assert result.reason.startswith(f"{image}: root=/dev/vda1{steps}kernel-install add 6.1.0-13-amd64 ")
    assert inside.files[following] == "root=UUID=aaaa-1 ro\n"


HAND = "menuentry 'x' {\n\tsearch --set=root aaaa\n\tlinux\t/vmlinuz root=/dev/vda1 ro quiet\n\tinitrd /i\n}\n"
MENU = f"### BEGIN /etc/grub.d/10_linux ###\n{HAND}### END /etc/grub.d/10_linux ###\n"


@pytest.mark.parametrize(
    ("files", "changes"),
    [
        pytest.param({"menu": MENU}, [CommandChange("one", "update-grub")], id="stale-menu"),
        pytest.param(
            {"menu": MENU.replace("\tlinux", "\tlinux16")}, [CommandChange("one", "update-grub")], id="linux16"
        ),
        pytest.param(
            {"menu": MENU.replace("\tlinux", "\tlinuxefi")}, [CommandChange("one", "update-grub")], id="linuxefi"
        ),
        pytest.param(
            {"menu": HAND},
            [FileChange("one", GRUB_CFG, HAND, HAND.replace("/dev/vda1", "UUID=aaaa-1"), devices=["/dev/vda1"])],
            id="a-menu-written-by-hand",
        ),
        pytest.param(
            {"menu": MENU, "defaults": 'GRUB_CMDLINE_LINUX=""\nGRUB_DISABLE_LINUX_UUID=true\n'},
            [
                FileChange(
                    "one",
                    DEFAULTS,
                    'GRUB_CMDLINE_LINUX=""\nGRUB_DISABLE_LINUX_UUID=true\n',
                    'GRUB_CMDLINE_LINUX=""\n#GRUB_DISABLE_LINUX_UUID=true\n',
                    then="update-grub",
                    devices=["/dev/vda1"],
                )
            ],
            id="uuids-disabled",
        ),
        pytest.param(
            {"defaults": '# root=/dev/vda1\nGRUB_CMDLINE_LINUX="quiet resume=/dev/vda5 x=1"\n'},
            [
                FileChange(
                    "one",
                    DEFAULTS,
                    '# root=/dev/vda1\nGRUB_CMDLINE_LINUX="quiet resume=/dev/vda5 x=1"\n',
                    '# root=/dev/vda1\nGRUB_CMDLINE_LINUX="quiet resume=UUID=aaaa-5 x=1"\n',
                    then="update-grub",
                    devices=["/dev/vda5"],
                )
            ],
            id="resume-in-the-defaults",
        ),
        pytest.param(
            {"other": "GRUB_CMDLINE_LINUX_DEFAULT='root=/dev/vda1'\n"},
            [
                FileChange(
                    "one",
                    "/etc/default/grub.d/50-x.cfg",
                    "GRUB_CMDLINE_LINUX_DEFAULT='root=/dev/vda1'\n",
                    "GRUB_CMDLINE_LINUX_DEFAULT='root=UUID=aaaa-1'\n",
                    then="update-grub",
                    devices=["/dev/vda1"],
                )
            ],
            id="root-in-a-drop-in",
        ),
        pytest.param(
            {"resume": "# swap\nRESUME=/dev/vda5\n"},
            [
                FileChange(
                    "one",
                    RESUME,
                    "# swap\nRESUME=/dev/vda5\n",
                    "# swap\nRESUME=UUID=aaaa-5\n",
                    then="update-initramfs -u -k all",
                    devices=["/dev/vda5"],
                )
            ],
            id="initramfs-resume",
        ),
    ],
)
def test_a_bus_name_is_replaced_and_what_is_made_of_it_is_made_again(
    tmp_path: Path, files: dict[str, str], changes: list[FileChange | CommandChange]
) -> None:
    inside = _inside(**files)
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    assert verdict_of(guest, "boot-names") is Verdict.NONCOMPLIANT
    assert requirement("boot-names").fixer(guest) == changes
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    touched = {change.path for change in changes if isinstance(change, FileChange)}
    assert {path for path in before if before[path] != inside.files[path]} <= {*touched, GRUB_CFG}
    again = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def _debconf(devices: str) -> str:
    return f"Name: grub-pc/install_devices\nTemplate: grub-pc/install_devices\nValue: {devices}\nOwners: grub-pc\n"


@pytest.mark.parametrize(
    ("links", "disk"),
    [
        pytest.param({}, "/dev/vda", id="without-a-link"),
        pytest.param({"/dev/disk/by-id/virtio-s1": "../../vda"}, "/dev/disk/by-id/virtio-s1", id="by-id"),
    ],
)
def test_grub_pc_installs_to_the_disk_that_is_there(tmp_path: Path, links: dict[str, str], disk: str) -> None:
    inside = _inside()
    inside.debconf, inside.links = _debconf("/dev/sda, /dev/vda"), links
    command = f"printf 'grub-pc grub-pc/install_devices multiselect %s\\n' '{disk}' | debconf-set-selections"
    back = "printf 'grub-pc grub-pc/install_devices multiselect %s\\n' '/dev/sda, /dev/vda' | debconf-set-selections"

    def answer(inside: Inside) -> int:
        inside.debconf = _debconf(disk)
        return 0

    inside.commands[command] = answer
    guest = inhabited(tmp_path, inside)
    assert requirement("boot-names").fixer(guest) == [CommandChange("one", command, back, ["/dev/sda", "/dev/vda"])]
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert "grub-pc/install_devices: /dev/sda is not there" in result.reason
    again = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.parametrize(
    ("devices", "links"),
    [
        pytest.param("/dev/sd'a; reboot", {}, id="in-debconf"),
        pytest.param("/dev/sda", {"/dev/disk/by-id/x'$(reboot)": "../../vda"}, id="in-a-link"),
    ],
)
def test_a_device_name_never_reaches_a_shell_with_characters_of_the_shell(
    tmp_path: Path, devices: str, links: dict[str, str]
) -> None:
    inside = _inside()
    inside.debconf, inside.links = _debconf(devices), links
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "characters of the shell" in result.reason
    assert inside.ran == []


def test_where_boot_is_not_on_one_disk_the_user_decides(tmp_path: Path) -> None:
    inside = _inside()
    raid = part("md0", type="raid1", uuid="m", fstype="ext4")
    inside.devices = [block("vda", part("vda1", raid)), block("vdb", part("vdb1", raid))]
    inside.mounts = [mounted("/", "/dev/md0")]
    inside.debconf = _debconf("/dev/sda")
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.changes == []
    assert "/boot is not on one disk" in result.reason


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("cryptkey=/dev/vda1:ext4:/key", "reclaim does not understand this parameter"),
        ("crypt_root=/dev/vda1", "reclaim does not understand this parameter"),
        ("real_resume=/dev/vda5", "reclaim does not understand this parameter"),
        ("rootflags=device=/dev/vda1", "reclaim does not understand this parameter"),
        ("root=254:1", "reclaim does not understand this parameter"),
        ("root=/dev/vdz1", "it is not there"),
        ("cryptdevice=/dev/vdz1:root", "it is not there"),
        ("resume=/dev/vdn1", "it has no UUID of its own"),
    ],
)
def test_why_a_parameter_stays_is_told(tmp_path: Path, line: str, why: str) -> None:
    inside = Inside(command_line=f"{line}\n")
    inside.devices.append(block("vdn", part("vdn1")))
    inside.files["/boot/grub/grub.cfg"] = f"\tlinux /vmlinuz {line}\n"
    inside.files["/etc/default/grub"] = f'GRUB_CMDLINE_LINUX="{line}"\n'
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    withheld = result.reason.partition("; withheld: ")[2]
    assert withheld.startswith(f"/etc/default/grub: {line}: {why}; name them by hand")


def test_what_a_configuration_boots_is_named_in_the_configuration(tmp_path: Path) -> None:
    inside = Inside(os="ID=nixos\n", command_line="root=/dev/vda1\n")
    inside.files = {"/boot/loader/entries/nixos.conf": "options root=/dev/vda1\n", "/etc/fstab": ""}
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "/boot/loader/entries/nixos.conf: root=/dev/vda1; withheld: NixOS makes these files" in result.reason


def test_a_boot_file_that_another_program_writes_again_is_left_to_it(tmp_path: Path) -> None:
    inside = Inside(commands={"update-grub": lambda _: 0})
    inside.files["/etc/default/grub"] = '# Ansible managed\nGRUB_CMDLINE_LINUX="resume=/dev/vda1"\n'
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    for mode in ("plan", "fix"):
        [row] = walk(engine(guest.hypervisor, tmp_path, mode), guest, "boot-names")
        assert (row.verdict, row.changes) == (Verdict.NONCOMPLIANT, [])
        assert row.reason == (
            '/etc/default/grub: resume=/dev/vda1; /etc/default/grub is marked "Ansible managed"; withheld: '
            "/etc/default/grub would be written again with the old names: name the devices by UUID= in the source "
            "that it is made from"
        )
    assert (inside.files, inside.ran) == (before, [])


def test_plan_and_fix_agree_on_what_is_mended_in_part(tmp_path: Path) -> None:
    """The file of initramfs-tools can be edited, and that of GRUB is another program's."""
    inside = Inside(commands={"update-initramfs -u -k all": lambda _: 0})
    inside.files["/etc/default/grub"] = '# Ansible managed\nGRUB_CMDLINE_LINUX="resume=/dev/vda1"\n'
    inside.files["/etc/initramfs-tools/conf.d/resume"] = "RESUME=/dev/vda1\n"
    guest = inhabited(tmp_path, inside)
    left = "withheld: /etc/default/grub would be written again with the old names"
    for mode in ("plan", "fix"):
        [row] = walk(engine(guest.hypervisor, tmp_path, mode), guest, "boot-names")
        assert row.verdict is Verdict.NONCOMPLIANT
        assert len(row.changes) == 1
        assert left in row.reason, mode
        assert "did not help" not in row.reason


def test_who_may_write_a_part_of_a_boot_file_again_is_told(tmp_path: Path) -> None:
    inside = Inside(commands={"update-grub": lambda _: 0})
    mark = "BEGIN ANSIBLE MANAGED BLOCK"
    inside.files["/etc/default/grub"] = f'# {mark}\nGRUB_CMDLINE_LINUX="resume=/dev/vda1"\n'
    guest = inhabited(tmp_path, inside)
    [plan] = walk(engine(guest.hypervisor, tmp_path, "plan"), guest, "boot-names")
    assert plan.reason == (
        f'/etc/default/grub: resume=/dev/vda1; /etc/default/grub is marked "{mark}": change it there too'
    )
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason


@pytest.mark.parametrize(
    ("files", "tools", "reason"),
    [
        pytest.param(
            {"menu": MENU}, ("systemctl",), "none of update-grub, grub2-mkconfig, grub-mkconfig is", id="no-tool"
        ),
        pytest.param(
            {"resume": "RESUME=/dev/vdz\n"}, ("update-grub",), "RESUME=/dev/vdz: it is not there", id="not-there"
        ),
    ],
)
def test_what_cannot_be_mended_is_withheld(
    tmp_path: Path, files: dict[str, str], tools: tuple[str, ...], reason: str
) -> None:
    inside = _inside(**files)
    inside.tools = tools
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert reason in result.reason
    assert inside.files == before


def test_a_failed_update_grub_puts_the_defaults_back(tmp_path: Path) -> None:
    inside = _inside(defaults='GRUB_CMDLINE_LINUX="root=/dev/vda1"\n')
    inside.commands["update-grub"] = lambda _: 1
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "update-grub ended with status 1: it failed; /etc/default/grub is as it was" in result.reason
    assert inside.files == before


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="uuids"),
        pytest.param({"menu": "\tlinux /vmlinuz root=/dev/mapper/vg-root\n"}, id="lvm"),
        pytest.param(
            {"menu": "menuentry x {\n# linux root=/dev/vda1\n\tsearch root=/dev/vda1\n}\n"}, id="no-kernel-line"
        ),
        pytest.param(
            {"menu": "\tlinux /v console=/dev/ttyS0 my-root=/dev/mapper/vda1 root=UUID=x\n"}, id="other-devices"
        ),
        pytest.param({"resume": "RESUME=none\n"}, id="resume-none"),
        pytest.param({"resume": "#RESUME=/dev/vda5\n"}, id="resume-comment"),
    ],
)
def test_stable_names_are_left(tmp_path: Path, files: dict[str, str]) -> None:
    assert verdict_of(inhabited(tmp_path, _inside(**files)), "boot-names") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        pytest.param("root=/dev/vda1 ro", Verdict.COMPLIANT, id="mended-since-it-booted"),
        pytest.param("root=/dev/vda5 ro", Verdict.NOT_ASSESSABLE, id="booted-by-something-else"),
        pytest.param("root=/dev/vdz1 ro", Verdict.NOT_ASSESSABLE, id="booted-from-what-is-gone"),
        pytest.param("initrd=\\i.img root=PARTUUID=x ro", Verdict.COMPLIANT, id="by-what-stays"),
    ],
)
def test_what_was_booted_has_to_be_in_what_was_read(tmp_path: Path, line: str, verdict: Verdict) -> None:
    """The firmware can start a kernel itself (EFI stub), and a menu lie about that nobody uses."""
    inside = _inside()
    inside.command_line = f"{line}\n"
    assert verdict_of(inhabited(tmp_path, inside), "boot-names") is verdict


def test_without_a_grub_menu_it_is_not_assessed(tmp_path: Path) -> None:
    inside = _inside()
    del inside.files[GRUB_CFG]
    assert verdict_of(inhabited(tmp_path, inside), "boot-names") is Verdict.NOT_ASSESSABLE


@pytest.mark.parametrize("mount", ["/boot/efi", "/efi"])
def test_grub_efi_installs_to_the_partition_that_is_there(tmp_path: Path, mount: str) -> None:
    """Ubuntu's grub-efi asks for EFI system partitions."""
    inside = _inside()
    inside.mounts.append(mounted(mount, "/dev/vda5", "vfat"))
    inside.links = {"/dev/disk/by-id/scsi-0QEMU_x-part5": "../../vda5"}
    inside.debconf = _debconf("/dev/disk/by-id/virtio-x-part5").replace("grub-pc", "grub-efi")
    new, old = "/dev/disk/by-id/scsi-0QEMU_x-part5", "/dev/disk/by-id/virtio-x-part5"
    command = "printf 'grub-efi grub-efi/install_devices multiselect %s\\n' '{}' | debconf-set-selections"

    def answer(inside: Inside) -> int:
        inside.debconf = ""
        return 0

    inside.commands[command.format(new)] = answer
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    if mount == "/efi":
        assert "dpkg-reconfigure grub-efi in the guest: nothing is mounted on /boot/efi" in result.reason
        return
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.ran == [command.format(new)]
    assert "grub-efi/install_devices: /dev/disk/by-id/virtio-x-part5 is not there" in result.reason
    assert old in result.reason


@pytest.mark.parametrize("slug", ["boot-names", "initramfs-driver"])
@pytest.mark.parametrize("target", ["/boot", "/boot/"])
def test_what_boots_must_be_mounted_to_be_judged(tmp_path: Path, slug: str, target: str) -> None:
    """`noauto` on /boot, as Gentoo's handbook has it: what lies below the mount point may be old."""
    inside = _inside()
    inside.files["/etc/fstab"] += f"UUID=aaaa-9 {target} ext2 noauto 1 2\n"
    guest = inhabited(tmp_path, inside)
    assert verdict_of(guest, slug) is Verdict.NOT_ASSESSABLE
    inside.mounts.append(mounted(target.rstrip("/"), "/dev/vda5"))
    guest.forget()
    assert verdict_of(guest, slug) is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("command_line", "found"),
    [
        pytest.param("root=UUID=cccc ro", "root=UUID=cccc is that of /dev/vda1 and /dev/vdb1", id="root"),
        pytest.param("root=LABEL=x ro", "root=LABEL=x is that of /dev/vda1 and /dev/vdb1", id="label"),
        pytest.param("root=/dev/disk/by-uuid/cccc", "root=/dev/disk/by-uuid/cccc is that of", id="link"),
        pytest.param("cryptdevice=UUID=cccc:r root=/dev/mapper/r", "cryptdevice=UUID=cccc is that of", id="luks"),
        pytest.param("root=PARTUUID=p-1 ro", "", id="told-apart"),
        pytest.param("root=UUID=bbbb ro", "", id="btrfs-of-two-disks"),
    ],
)
def test_a_root_that_two_disks_have_is_named_and_left_to_the_user(
    tmp_path: Path, command_line: str, found: str
) -> None:
    devices = [
        block("vda", part("vda1", uuid="cccc", fstype="ext4", partuuid="p-1", label="x")),
        block("vdb", part("vdb1", uuid="cccc", fstype="ext4", partuuid="p-2", label="x")),
        block("vdc", uuid="bbbb", fstype="btrfs"),
        block("vdd", uuid="bbbb", fstype="btrfs"),
    ]
    inside = Inside(devices=devices, btrfs="bbbb\tvdc\nbbbb\tvdd\n", command_line=f"BOOT_IMAGE=/v {command_line}\n")
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("boot-names"), subject(guest))
    assert (result.verdict is Verdict.NONCOMPLIANT, result.changes) == (bool(found), [])
    assert found in result.reason
    assert ("tune2fs -U random" in result.reason) is bool(found)
