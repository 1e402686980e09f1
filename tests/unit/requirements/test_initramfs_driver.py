"""initramfs-driver: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes.file_change import FileChange
from tests.support import (
    MODULES,
    Inside,
    block,
    disk_xml,
    domain_xml,
    engine,
    inhabited,
    mounted,
    requirement,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/etc/initramfs-tools/modules"
REBUILD = "update-initramfs -u -k all"
FULL = "".join(f"initramfs {module}\n" for module in MODULES)
ALL = "virtio_pci\nvirtio_scsi\nsd_mod\n"


def _rebuild(inside: Inside) -> int:
    """As update-initramfs does: what is listed is in every initramfs."""
    listed = "".join(f"initramfs {line}\n" for line in inside.files[PATH].splitlines() if line in MODULES)
    releases = [line for line in inside.kernels.splitlines() if line.startswith("kernel ")]
    inside.kernels = "".join(f"{line}\n{listed}" for line in releases)
    return 0


COPY = "/boot/efi/0123/6.1/initrd.img-6.1"
OLD_COPY = f"kernel 6.1\npath /boot/initrd.img-6.1\n{FULL}kernel 6.1\npath {COPY}\ninitramfs virtio_blk\n"


def test_the_copy_that_boots_is_judged_too(tmp_path: Path) -> None:
    """kernel-install(8) copied it, and the one in /boot was built again since."""
    guest = inhabited(tmp_path, Inside(kernels=OLD_COPY, commands={REBUILD: _rebuild}))
    result = engine(guest.hypervisor, tmp_path, "audit").run(requirement("initramfs-driver"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert result.reason == f"6.1 ({COPY}) has no virtio_pci, virtio_scsi, sd_mod"


@pytest.mark.parametrize("copied", [True, False])
def test_the_mend_counts_once_the_copy_has_it(tmp_path: Path, *, copied: bool) -> None:
    """A builder whose hooks do not call kernel-install leaves the copy as it is."""

    def rebuilt(inside: Inside) -> int:
        inside.kernels = OLD_COPY + FULL if copied else OLD_COPY
        return 0

    guest = inhabited(tmp_path, Inside(kernels=OLD_COPY, commands={REBUILD: rebuilt}))
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert result.verdict is (Verdict.FIXED if copied else Verdict.NONCOMPLIANT)


def test_dracut_builds_the_copy_too(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(kernels=OLD_COPY, tools=("dracut", "kernel-install")))
    (change,) = requirement("initramfs-driver").fixer(guest)
    assert isinstance(change, FileChange)
    assert change.then is not None
    for image in ("/boot/initrd.img-6.1", COPY):
        assert f"dracut --force {image}.reclaim 6.1 && mv -f {image}.reclaim {image}" in change.then


def test_a_unified_image_that_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    image = "/boot/efi/EFI/Linux/0123-6.1.efi"
    kernels = f"kernel 6.1\npath /boot/initrd.img-6.1\n{FULL}kernel 6.1\nunified {image}\nunreadable no objcopy\n"
    guest = inhabited(tmp_path, Inside(kernels=kernels))
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert result.reason == f"6.1 ({image}): no objcopy"


def test_virtio_of_s390x_needs_no_pci(tmp_path: Path) -> None:
    inside = Inside(kernels="kernel 6.1\ninitramfs sd_mod\nlacking virtio_pci\n", commands={REBUILD: _rebuild})
    guest = inhabited(tmp_path, inside, machine="s390-ccw-virtio-7.2", arch="s390x")
    assert verdict_of(guest, "initramfs-driver") is Verdict.NONCOMPLIANT
    (change,) = requirement("initramfs-driver").fixer(guest)
    assert isinstance(change, FileChange)
    assert change.after == "virtio_scsi\nsd_mod\n"
    engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert verdict_of(guest, "initramfs-driver") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    "kernels",
    [
        pytest.param("kernel 6.1\n", id="none"),
        pytest.param("kernel 6.1\nno-initramfs\n", id="no-initramfs"),
        pytest.param("kernel 6.1\ninitramfs virtio_scsi\ninitramfs virtio_pci\n", id="no-sd_mod"),
        pytest.param("kernel 6.1\nbuiltin sd_mod\nbuiltin virtio_pci\n", id="no-virtio_scsi"),
        pytest.param(f"kernel 6.1\n{FULL}kernel 5.10\ninitramfs sd_mod\n", id="an-older-kernel"),
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, ALL, id="no-file"),
        pytest.param("", ALL, id="empty"),
        pytest.param("# list\nsd_mod\n", "# list\nsd_mod\nvirtio_pci\nvirtio_scsi\n", id="one-listed"),
        pytest.param("# virtio_scsi", f"# virtio_scsi\n{ALL}", id="comment-without-newline"),
        pytest.param(ALL, ALL, id="listed-but-not-rebuilt"),
    ],
)
def test_the_modules_are_listed_and_every_initramfs_is_rebuilt(
    tmp_path: Path, kernels: str, before: str | None, after: str
) -> None:
    inside = Inside(kernels=kernels, commands={REBUILD: _rebuild})
    if before is not None:
        inside.files[PATH] = before
    others = {path: text for path, text in inside.files.items() if path != PATH}
    guest = inhabited(tmp_path, inside)
    assert verdict_of(guest, "initramfs-driver") is Verdict.NONCOMPLIANT
    assert requirement("initramfs-driver").fixer(guest) == [
        FileChange("one", PATH, before, after, then=REBUILD, devices=["/dev/vda"])
    ]
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files == {**others, PATH: after}
    again = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_the_finding_names_kernel_and_modules(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(kernels=f"kernel 6.1\n{FULL}kernel 5.10\ninitramfs virtio_scsi\n"))
    result = engine(guest.hypervisor, tmp_path, "audit").run(requirement("initramfs-driver"), subject(guest))
    assert result.reason == "5.10 has no virtio_pci, sd_mod"


@pytest.mark.parametrize("before", [None, "loop\n"], ids=["no-file", "a-file"])
def test_a_failed_rebuild_leaves_the_list_as_it_was(tmp_path: Path, before: str | None) -> None:
    inside = Inside(kernels="kernel 6.1\n", commands={REBUILD: lambda _: 1})
    if before is not None:
        inside.files[PATH] = before
    files = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"not fixed: one: {REBUILD} ended with status 1" in result.reason
    assert [change.applied for change in result.changes] == [False]
    assert inside.files == files


def test_without_a_builder_it_is_withheld(tmp_path: Path) -> None:
    inside = Inside(kernels="kernel 6.1\n", tools=("systemctl",))
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "none of update-initramfs, dracut, mkinitcpio, mkinitfs is installed" in result.reason


@pytest.mark.parametrize(
    ("kernels", "os", "verdict"),
    [
        pytest.param(f"kernel 6.1\n{FULL}", "ID=debian\n", Verdict.COMPLIANT, id="in-the-initramfs"),
        pytest.param(
            "kernel 6.1\n" + FULL.replace("initramfs", "builtin"), "ID=ubuntu\n", Verdict.COMPLIANT, id="built-in"
        ),
        pytest.param(
            "kernel 6.1\nbuiltin sd_mod\nbuiltin virtio_pci\ninitramfs virtio_scsi\n",
            "ID=mint\nID_LIKE='ubuntu debian'\n",
            Verdict.COMPLIANT,
            id="some-of-each",
        ),
        pytest.param("", "ID=debian\n", Verdict.NOT_ASSESSABLE, id="no-kernel"),
        pytest.param(
            "kernel 6.1\nunreadable lsinitramfs failed\n", "ID=debian\n", Verdict.NOT_ASSESSABLE, id="unreadable"
        ),
        pytest.param(f"kernel 6.1\n{FULL}", "ID=fedora\n", Verdict.COMPLIANT, id="another-distribution"),
        pytest.param(
            "kernel 6.1\nunreadable it may be inside /efi/EFI/Linux/x.efi\n",
            "ID=arch\n",
            Verdict.NOT_ASSESSABLE,
            id="unified",
        ),
        pytest.param("what is this\n", "ID=debian\n", Verdict.ERROR, id="gibberish"),
    ],
)
def test_verdicts_that_start_no_fixer(tmp_path: Path, kernels: str, os: str, verdict: Verdict) -> None:
    assert verdict_of(inhabited(tmp_path, Inside(kernels=kernels, os=os)), "initramfs-driver") is verdict


# Other distributions -------------------------------------------------------------------------

#: what facts.sh says of a RHEL 9 with two kernels
TWO = (
    "kernel 5.14.0-427.el9.x86_64\npath /boot/initramfs-5.14.0-427.el9.x86_64.img\nstamp 11:31457280:1:1\n"
    "kernel 5.14.0-362.el9.x86_64\npath /boot/initramfs-5.14.0-362.el9.x86_64.img\nstamp 12:31457280:1:1\n"
)
#: /etc/mkinitcpio.conf of archlinux/mkinitcpio, shortened to what is not a comment
ARCH = (
    "# vim:set ft=sh\n# MODULES\n#     MODULES=(usbhid xhci_hcd)\nMODULES=({})\nBINARIES=()\nFILES=()\n"
    "HOOKS=(base udev autodetect microcode modconf kms keyboard keymap consolefont block filesystems fsck)\n"
)
#: /etc/mkinitfs/mkinitfs.conf as Alpine's setup-disk leaves it
ALPINE = 'features="{}"\n'
ALPINE_KERNEL = "kernel 6.6.31-0-virt\npath /boot/initramfs-virt\nstamp 1:9000000:1:1\n"


ARCH_KERNEL = "kernel 6.9.1-arch1-1\npath /boot/initramfs-linux.img\nstamp 1:9000000:1:1\n"
#: /etc/mkinitcpio.d/linux.preset (mkinitcpio.d/hook.preset of archlinux/mkinitcpio)
PRESET = (
    "# mkinitcpio preset file for the 'linux' package\n\n#ALL_config=\"/etc/mkinitcpio.conf\"\n"
    "ALL_kver=\"/boot/vmlinuz-linux\"\n\nPRESETS=('default' 'fallback')\n\n"
    '#default_config="/etc/mkinitcpio.conf"\ndefault_image="/boot/initramfs-linux.img"\n'
    'default_options="{}"\n\nfallback_image="/boot/initramfs-linux-fallback.img"\n'
    'fallback_options="-S autodetect"\n'
)


def _command(tool: str, release: str, image: str) -> str:
    build = tool.format(release=release, image=image)
    return f"{{ {build} && mv -f {image}.reclaim {image} || {{ rm -f {image}.reclaim; false; }}; }}"


DRACUT = "dracut --force {image}.reclaim {release}"
DRACUT_CONF = "/etc/dracut.conf.d/reclaim.conf"
DRACUT_ALL = " && ".join(
    _command(DRACUT, release, f"/boot/initramfs-{release}.img")
    for release in ("5.14.0-427.el9.x86_64", "5.14.0-362.el9.x86_64")
)


@pytest.mark.parametrize(
    ("tool", "kernels", "path", "before", "after", "command"),
    [
        pytest.param(
            "dracut",
            TWO,
            DRACUT_CONF,
            None,
            'add_drivers+=" virtio_pci virtio_scsi sd_mod "\n',
            DRACUT_ALL,
            id="dracut",
        ),
        pytest.param(
            "mkinitcpio",
            "kernel 6.9.1-arch1-1\npath /boot/initramfs-linux.img\nstamp 1:9000000:1:1\n",
            "/etc/mkinitcpio.conf",
            ARCH.format(""),
            ARCH.format("virtio_pci virtio_scsi sd_mod"),
            _command("mkinitcpio -k {release} -g {image}.reclaim", "6.9.1-arch1-1", "/boot/initramfs-linux.img"),
            id="mkinitcpio",
        ),
        pytest.param(
            "mkinitcpio",
            "kernel 6.9.1-arch1-1\npath /boot/initramfs-linux.img\nstamp 1:9000000:1:1\n",
            "/etc/mkinitcpio.conf",
            'MODULES="loop virtio_pci"\n',
            'MODULES="loop virtio_pci virtio_scsi sd_mod"\n',
            _command("mkinitcpio -k {release} -g {image}.reclaim", "6.9.1-arch1-1", "/boot/initramfs-linux.img"),
            id="mkinitcpio-in-quotes",
        ),
        pytest.param(
            "mkinitcpio",
            ARCH_KERNEL,
            "/etc/mkinitcpio.conf.d/10-mine.conf",
            "MODULES=(btrfs)\n",
            "MODULES=(btrfs virtio_pci virtio_scsi sd_mod)\n",
            _command("mkinitcpio -k {release} -g {image}.reclaim", "6.9.1-arch1-1", "/boot/initramfs-linux.img"),
            id="mkinitcpio-in-a-drop-in",
        ),
        pytest.param(
            "mkinitfs",
            ALPINE_KERNEL,
            "/etc/mkinitfs/mkinitfs.conf",
            ALPINE.format("ata base ide virtio ext4"),
            ALPINE.format("ata base ide virtio ext4 scsi"),
            _command("mkinitfs -o {image}.reclaim {release}", "6.6.31-0-virt", "/boot/initramfs-virt"),
            id="mkinitfs",
        ),
    ],
)
def test_the_distributions_own_builder_is_told_and_builds_beside(
    tmp_path: Path, *, tool: str, kernels: str, path: str, before: str | None, after: str, command: str
) -> None:
    def build(inside: Inside) -> int:
        inside.kernels = "".join(
            f"{line}\n{FULL if line.startswith('stamp') else ''}" for line in inside.kernels.splitlines()
        )
        return 0

    inside = Inside(kernels=kernels, tools=(tool, "findmnt"), commands={command: build}, os="ID=other\n")
    if tool == "mkinitcpio":
        inside.files |= {"/etc/mkinitcpio.conf": ARCH.format(""), "/etc/mkinitcpio.d/linux.preset": PRESET.format("")}
        inside.files["/etc/mkinitcpio.conf.d/90-hooks.conf"] = "HOOKS=(base udev)\nMODULES+=(nvme)\n"
    if before is not None:
        inside.files[path] = before
    others = {name: text for name, text in inside.files.items() if name != path}
    guest = inhabited(tmp_path, inside)
    [change] = requirement("initramfs-driver").fixer(guest)
    assert change == FileChange("one", path, before, after, then=command, devices=["/dev/vda"])
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files == {**others, path: after}
    again = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.parametrize(
    ("files", "kernels", "tools", "free", "words"),
    [
        pytest.param(
            {},
            "kernel 6.1\npath /boot/initrd.img-6.1\nstamp 1:62914560:1:1\n",
            ("update-initramfs", "mkinitramfs"),
            60_000,
            "/boot has 58.6 MiB free, a new initramfs takes 67.0 MiB: remove old kernels",
            id="no-room",
        ),
        pytest.param(
            {}, f"{TWO}lacking virtio_scsi\n", ("dracut",), 400_000, "no virtio_scsi at all", id="no-such-module"
        ),
        pytest.param(
            {"/etc/dracut.conf.d/x.conf": 'omit_drivers+=" virtio_scsi "\n'},
            TWO,
            ("dracut",),
            400_000,
            "/etc/dracut.conf.d/x.conf omits drivers on purpose",
            id="omitted",
        ),
        pytest.param(
            {"/etc/mkinitcpio.conf": "MODULES=(a)\nMODULES=(b)\n"},
            ALPINE_KERNEL,
            ("mkinitcpio",),
            400_000,
            "name virtio_pci virtio_scsi sd_mod in /etc/mkinitcpio.conf by hand",
            id="two-lists",
        ),
        pytest.param({}, ALPINE_KERNEL, ("mkinitfs",), 400_000, "name virtio scsi in /etc/mkinitfs", id="no-list"),
        pytest.param(
            {}, "kernel 6.1;reboot\npath /boot/x\n", ("dracut",), 400_000, "characters of the shell", id="shell"
        ),
        pytest.param({}, "kernel 6.1\nno-initramfs\n", ("dracut",), 400_000, "no kernel in /boot has", id="none"),
        pytest.param(
            {},
            "kernel 6.8.9\npath /efi/m/6.8.9/initrd\nfree 20000\nstamp 1:31457280:1:1\n",
            ("dracut",),
            400_000,
            "/efi/m/6.8.9/initrd has 19.5 MiB free, a new initramfs takes 34.0 MiB",
            id="no-room-on-the-efi-system-partition",
        ),
        pytest.param(
            {},
            "kernel 6.1\n",
            ("update-initramfs",),
            400_000,
            "none of update-initramfs",
            id="another-update-initramfs",
        ),
        pytest.param(
            {"/etc/dracut.conf.d/uki.conf": 'uefi="yes"\n'},
            TWO,
            ("dracut",),
            400_000,
            "/etc/dracut.conf.d/uki.conf has it build unified images",
            id="dracut-uefi",
        ),
        pytest.param(
            {"/etc/mkinitcpio.conf": "MODULES=()\n", "/etc/mkinitcpio.d/linux.preset": PRESET.format("-S autodetect")},
            ARCH_KERNEL,
            ("mkinitcpio",),
            400_000,
            "/etc/mkinitcpio.d/linux.preset sets default_options",
            id="preset-options",
        ),
        pytest.param(
            {
                "/etc/mkinitcpio.conf": "MODULES=()\n",
                "/etc/mkinitcpio.d/linux.preset": "ALL_config='/etc/mine.conf'\n" + PRESET.format(""),
            },
            ARCH_KERNEL,
            ("mkinitcpio",),
            400_000,
            "/etc/mkinitcpio.d/linux.preset sets ALL_config",
            id="preset-config",
        ),
        pytest.param(
            {"/etc/mkinitcpio.conf": "MODULES=()\n"},
            "kernel 6.9.1-arch1-1\nunified /efi/EFI/Linux/arch.efi\nstamp 1:9000000:1:1\n",
            ("mkinitcpio",),
            400_000,
            "build /efi/EFI/Linux/arch.efi again",
            id="unified",
        ),
        pytest.param(
            {"/boot/grub/grub.cfg": "\tlinux /vmlinuz-5.4-mine root=UUID=aaaa-1\n"},
            "kernel 5.4-mine\nstray vmlinuz-5.4-mine\nbuiltin sd_mod\nlacking virtio_scsi\nbuiltin virtio_pci\n",
            ("dracut",),
            400_000,
            "5.4-mine has no virtio_scsi at all",
            id="built-without-modules",
        ),
    ],
)
def test_what_cannot_be_built_is_withheld_and_nothing_touched(
    tmp_path: Path, *, files: dict[str, str], kernels: str, tools: tuple[str, ...], free: int, words: str
) -> None:
    inside = Inside(kernels=kernels, tools=tools, boot_free=free)
    inside.files.update(files)
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert words in result.reason.partition("withheld: ")[2]
    assert (inside.files, inside.ran) == (before, [])


def test_a_list_of_modules_that_another_program_writes_again_is_left_to_it(tmp_path: Path) -> None:
    inside = Inside(kernels="kernel 6.1\npath /boot/initrd.img-6.1\n")
    inside.files[PATH] = "# Ansible managed\nloop\n"
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert result.reason.endswith(
        f'withheld: {PATH} is marked "Ansible managed", and would be written again without them: '
        "name virtio_pci virtio_scsi sd_mod in the source that it is made from"
    )
    assert (inside.files, inside.ran) == (before, [])


# Modules that are there and kept out -----------------------------------------------------------

GRUB = "/etc/default/grub"
MODPROBE = "/etc/modprobe.d/local.conf"
IN_ITSELF = "kernel 6.1-mine\npath /boot/initrd.img-6.1-mine\nbuiltin virtio_scsi\nbuiltin sd_mod\nbuiltin virtio_pci\n"


@pytest.mark.parametrize(
    ("path", "line", "setting"),
    [
        (GRUB, 'GRUB_CMDLINE_LINUX="quiet module_blacklist=foo,virtio-scsi"', "module_blacklist=virtio-scsi"),
        (GRUB, 'GRUB_CMDLINE_LINUX="modprobe.blacklist=virtio_scsi"', "modprobe.blacklist=virtio_scsi"),
        (GRUB, 'GRUB_CMDLINE_LINUX="rd.driver.blacklist=virtio_scsi,foo"', "rd.driver.blacklist=virtio_scsi"),
        ("/boot/loader/entries/a.conf", "options root=UUID=a rdblacklist=virtio_scsi", "rdblacklist=virtio_scsi"),
        (MODPROBE, "blacklist virtio_scsi", "blacklist virtio_scsi"),
        (MODPROBE, "install virtio-scsi /bin/true", "install virtio-scsi /bin/true"),
    ],
)
def test_a_module_that_is_kept_out_is_named_with_its_file_and_left_to_the_user(
    tmp_path: Path, path: str, line: str, setting: str
) -> None:
    inside = Inside()
    inside.files[path] = f"{line}\n"
    before = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    named = f"{path}: {setting} keeps virtio_scsi out"
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert result.reason == f"{named}; withheld: take that out ({named}), and build every initramfs anew"
    assert (inside.files, inside.ran) == (before, [])
    del inside.files[path]
    guest.forget()
    assert verdict_of(guest, "initramfs-driver") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (GRUB, 'GRUB_CMDLINE_LINUX="module_blacklist=nouveau initcall_blacklist=virtio_scsi_init"'),
        (GRUB, '# GRUB_CMDLINE_LINUX="module_blacklist=virtio_scsi"'),
        (MODPROBE, "# blacklist virtio_scsi"),
        (MODPROBE, "install sd_mod /sbin/modprobe --ignore-install sd_mod"),
        (MODPROBE, "blacklist virtio_scsi_mine\noptions virtio_scsi x=1"),
    ],
)
def test_what_keeps_nothing_out_is_no_finding(tmp_path: Path, path: str, line: str) -> None:
    inside = Inside()
    inside.files[path] = f"{line}\n"
    assert verdict_of(inhabited(tmp_path, inside), "initramfs-driver") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("parameter", "verdict"),
    [
        ("module_blacklist=virtio_scsi", Verdict.COMPLIANT),
        ("initcall_blacklist=virtio_scsi_init", Verdict.NONCOMPLIANT),
        ("initcall_blacklist=foo_init,init_sd", Verdict.NONCOMPLIANT),
    ],
)
def test_a_driver_in_the_kernel_itself_obeys_another_parameter(
    tmp_path: Path, parameter: str, verdict: Verdict
) -> None:
    inside = Inside(kernels=IN_ITSELF)
    inside.files[GRUB] = f'GRUB_CMDLINE_LINUX="{parameter}"\n'
    assert verdict_of(inhabited(tmp_path, inside), "initramfs-driver") is verdict


def test_it_is_taken_back_only_on_the_bus_it_was_made_for(tmp_path: Path) -> None:
    inside = Inside(kernels="kernel 6.1\n", commands={REBUILD: _rebuild})
    inside.devices.append(block("vdb", fstype="xfs"))
    inside.devices.append(block("vdc"))
    inside.mounts.append(mounted("/srv", "/dev/vdb", "xfs"))
    [change] = requirement("initramfs-driver").fixer(inhabited(tmp_path, inside))
    assert change == FileChange("one", PATH, None, ALL, then=REBUILD, devices=["/dev/vda", "/dev/vdb"])


@pytest.mark.parametrize(
    ("kernels", "verdict"),
    [
        pytest.param(f"kernel 6.1.0-13-amd64\n{FULL}", Verdict.NOT_ASSESSABLE, id="modules"),
        pytest.param(
            "kernel 6.1.0-13-amd64\n" + FULL.replace("initramfs", "builtin"), Verdict.COMPLIANT, id="built-in"
        ),
        pytest.param(
            "kernel 5.10\n" + FULL.replace("initramfs", "builtin"), Verdict.NOT_ASSESSABLE, id="another-kernel"
        ),
    ],
)
def test_a_kernel_that_the_host_gives_is_none_of_those_in_boot(tmp_path: Path, kernels: str, verdict: Verdict) -> None:
    guest = inhabited(tmp_path, Inside(kernels=kernels))
    xml = domain_xml(disk_xml(), name="one").replace("hvm</type>", "hvm</type><kernel>/srv/vmlinuz</kernel>")
    guest.hypervisor.connection.defineXML(xml)
    guest.forget(inside=False)
    assert verdict_of(guest, "initramfs-driver") is verdict


def test_a_kernel_that_nothing_boots_says_nothing(tmp_path: Path) -> None:
    kernels = f"kernel 6.1\n{FULL}kernel 5.4-old\nstray vmlinuz-5.4-old\nunreadable it has no modules\n"
    assert verdict_of(inhabited(tmp_path, Inside(kernels=kernels)), "initramfs-driver") is Verdict.COMPLIANT
