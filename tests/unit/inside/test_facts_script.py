"""facts.sh, run for real by this machine's /bin/sh, and what is read from it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import testinfra
from testinfra.backend.base import CommandResult

from reclaim.base.errors import ProbeError
from reclaim.inside.facts import Facts, gather, read, script
from tests.support import MARK, executable

#: the last line of an answer
END = MARK + b" end\n"
SECTIONS = {
    "btrfs",
    "vdevs",
    "thin",
    "os",
    "kernel",
    "context",
    "cmdline",
    "fstab",
    "swaps",
    "boot_files",
    "units",
    "unified",
    "lvm",
    "named",
    "boot_free",
    "lsblk",
    "findmnt",
    "links",
    "sysfs",
    "layout",
    "kernels",
    "debconf",
    "addresses",
    "timer",
    "service",
    "systemd",
    "cron",
    "daemons",
    "zfs",
    "tools",
}


#: every shell that is here
SHELLS = [["/bin/sh"], *([shutil.which(name) or ""] for name in ("dash", "bash", "mksh") if shutil.which(name))]
SHELLS += [[shutil.which("busybox") or "", "ash"]] if shutil.which("busybox") else []


@pytest.fixture(scope="module")
def printed() -> bytes:
    done = subprocess.run(["/bin/sh", "-c", script()], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.fixture(scope="module")
def facts(printed: bytes) -> Facts:
    return read(printed, "here")


def test_every_section_ends_in_a_status(facts: Facts) -> None:
    assert set(facts.sections) == SECTIONS
    for name, data in facts.sections.items():
        assert data[-3:].isdigit(), name


def test_a_word_that_is_new_each_time_begins_a_section() -> None:
    """A file of the guest that looks like a section is a file."""
    asked = []

    class Shell:
        def run(self, command: str, *, seconds: int) -> CommandResult:
            asked.append(command)
            done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False)
            return CommandResult(None, done.returncode, command, done.stdout, done.stderr)

    for _ in range(2):
        gather(Shell(), "here", seconds=300)
    marks = {re.match("mark=([0-9a-f]{16})\n", command)[1] for command in asked}  # type: ignore[index]
    assert len(marks) == 2


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_both_units_of_one_answer_are_told_apart(tmp_path: Path, shell: list[str]) -> None:
    executable(
        tmp_path / "systemctl",
        "#!/bin/sh\nprintf 'LoadState=loaded\nActiveState=active\n\nResult=success\nLoadState=masked\n'\n",
    )
    lines = script().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("shown="))
    body = "\n".join((*lines[begin : begin + 6], "text tools 0 systemctl"))
    facts = _within(tmp_path, f"PATH={tmp_path}:$PATH\n{body}", shell)
    assert facts.fstrim_timer == {"LoadState": "loaded", "ActiveState": "active"}
    assert facts.fstrim_service == {"Result": "success", "LoadState": "masked"}


def test_where_its_layers_lie_is_told(facts: Facts) -> None:
    for file in Path("/sys/class/block").glob("*/dev"):
        mapped, start = file.with_name("dm") / "name", file.with_name("start")
        name = mapped.read_text().strip() if mapped.exists() else file.parent.name
        assert facts.layout.names[file.read_text().strip()] == name
        if start.exists():
            assert facts.layout.starts[name] == int(start.read_text()) * 512


def test_the_machine_is_described_as_it_is(facts: Facts) -> None:
    assert facts.running_kernel == platform.release()
    assert facts.command_line == Path("/proc/cmdline").read_text().strip()
    assert facts.os["ID"] == platform.freedesktop_os_release()["ID"]


def test_its_disks_and_mounts_are_read(facts: Facts) -> None:
    blocks = {path.name for path in Path("/sys/block").iterdir()}
    assert {device.name for device in facts.block_devices} <= blocks
    mount = next(mount for mount in facts.mounts if mount.target == "/")
    stat = os.statvfs("/")
    assert mount.size == stat.f_blocks * stat.f_frsize


def test_what_this_machine_has_not_costs_only_its_own_section(facts: Facts) -> None:
    for name in ("fstab", "fstrim_timer", "fstrim_service", "kernels", "tools", "jobs", "links", "sysfs"):
        try:
            getattr(facts, name)
        except ProbeError as exc:
            text = str(exc)
            assert "ended with status" in text, text


@pytest.mark.parametrize(("there", "status"), [("missing", "000"), ("dangling", "001"), ("empty", "000")])
def test_a_guest_without_fstab_has_an_empty_one(tmp_path: Path, there: str, status: str) -> None:
    """What cannot be read is not empty: a link that leads nowhere is no answer."""
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "empty").touch()
    body = next(line for line in script().splitlines() if "file fstab" in line)
    output = _run(body.replace("/etc/fstab", str(tmp_path / there)), tmp_path)
    assert output == f"{MARK.decode()} fstab\n{status}\n".encode()


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (("etc", "lib"), "etc"),
        (("lib",), "lib"),
        ((), "an unknown system"),
    ],
)
def test_a_system_is_named_where_it_says_its_name(tmp_path: Path, files: tuple[str, ...], name: str) -> None:
    """RHEL 6 has no os-release; it can be looked into all the same."""
    for one in files:
        (tmp_path / one).write_text(f"ID={one}\n")
    function = script().partition("\nos_release() {")[2].partition("\n}")[0]
    local = function.replace("/etc/os-release", str(tmp_path / "etc")).replace("/usr/lib/os-release", "lib")
    output = _run(f"os_release() {{{local}\n}}\nshort os os_release", tmp_path)
    assert read(output + END, "one").os_name == name


def test_the_same_comes_through_a_testinfra_shell(printed: bytes) -> None:
    again = gather(testinfra.get_host("local://"), "here", seconds=300)
    assert set(again.sections) == SECTIONS
    assert again.sections["kernel"] == read(printed, "here").sections["kernel"]


def _run(body: str, folder: Path) -> bytes:
    """The functions of the script, then *body* in place of its probes."""
    functions = script().partition("\nshort os ")[0]
    done = subprocess.run(["/bin/sh", "-c", f"{functions}\n{body}"], cwd=folder, capture_output=True, check=True)
    return done.stdout


@pytest.mark.parametrize(("status", "command"), [(0, "true"), (1, "false"), (127, "no-such-command"), (42, "exit 42")])
def test_the_status_of_a_command_follows_its_output(tmp_path: Path, status: int, command: str) -> None:
    body = f"it() {{ printf 'a\\nb'; ({command}); }}\nprobe it it"
    assert _run(body, tmp_path) == f"{MARK.decode()} it\na\nb{status:03d}\n".encode()


def test_a_flood_is_cut_and_then_refused(tmp_path: Path) -> None:
    output = _run("cap=262144\nprobe fstab head -c 400000 /dev/zero", tmp_path)
    facts = read(output + END, "here")
    with pytest.raises(ProbeError, match="longer than reclaim reads"):
        _ = facts.fstab


def test_boot_files_come_with_their_bytes(tmp_path: Path) -> None:
    contents = {"a": b"x\n", "b c": b"\xff\x00no newline", "d": b""}
    for name, raw in contents.items():
        (tmp_path / name).write_bytes(raw)
    output = _run("probe boot_files files a 'b c' d missing", tmp_path)
    facts = read(output + END, "here")
    assert {path: text.encode("utf-8", errors="surrogateescape") for path, text in facts.boot_files.items()} == contents


def test_install_devices_are_found_among_other_questions(tmp_path: Path) -> None:
    database = tmp_path / "config.dat"
    database.write_text(
        "Name: grub-pc/install_devices_disks_changed\nTemplate: x\nValue: /dev/no\n\n"
        "Name: grub-pc/install_devices\nTemplate: grub-pc/install_devices\nValue: /dev/sda, /dev/sdb\nOwners: grub-pc\n"
        "\nName: grub-pc/timeout\nValue: 5\n"
        "\nName: grub-efi/install_devices\nTemplate: x\nValue: /dev/disk/by-id/virtio-x-part15\n",
        encoding="utf-8",
    )
    functions = script().partition("\nshort os ")[0].replace("/var/cache/debconf/config.dat", str(database))
    done = subprocess.run(["/bin/sh", "-c", f"{functions}\nshort debconf debconf"], capture_output=True, check=True)
    assert read(done.stdout + END, "here").grub_install_devices == {
        "grub-pc/install_devices": ("/dev/sda", "/dev/sdb"),
        "grub-efi/install_devices": ("/dev/disk/by-id/virtio-x-part15",),
    }


# The parts that other systems than this one need, on folders of our own, by every shell that is here


def _within(root: Path, body: str, shell: list[str], tools: tuple[str, ...] = ()) -> Facts:
    """*body* after the script's functions, whose absolute paths lie below *root*; with these *tools* and no others."""
    functions = script().partition("\nshort os ")[0]
    if tools:
        folder = root / "tools"
        folder.mkdir()
        for name in (*tools, "head", "tail", "tr", "od", "cat", "printf"):
            (folder / name).symlink_to(shutil.which(name) or "/nowhere")
        functions = re.sub("^PATH=.*$", f"PATH={folder}", functions, count=1, flags=re.MULTILINE)
    folders = "etc|boot|efi|lib/modules|run/(?:systemd|udev)|opt|usr/local/(?:etc|lib/udev)|var/(?:spool|lib|mmfs)"
    ours = rf"(?<![\w/])(?=/(?:{folders})[/ ])"
    functions = re.sub(ours, str(root), functions)
    done = subprocess.run([*shell, "-c", f"{functions}\n{body}"], cwd=root, capture_output=True, check=True)
    return read(done.stdout + END, "here")


def _tree(root: Path, **files: str) -> None:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


#: what lsinitramfs, lsinitrd, lsinitcpio and cpio print of an initramfs
LSINITRAMFS = ".\nbin\ninit\nusr/lib/modules/6.1/kernel/drivers/scsi/virtio_scsi.ko\n"
LSINITRD = (
    "Image: /boot/initramfs-6.1.img: 30M\n====\n"
    "lrwxrwxrwx   1 root     root           23 Jan  1  2024 init -> usr/lib/systemd/systemd\n"
    "-rw-r--r--   1 root     root         9876 Jan  1  2024 usr/lib/modules/6.1/kernel/drivers/scsi/virtio_scsi.ko.xz\n"
)
#: lsinitrd of an image that it cannot read prints its head and succeeds
UNREADABLE = "Image: /boot/initramfs-6.1.img: 30M\n========================================\n"


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize(
    ("release", "files", "path"),
    [
        pytest.param("6.1.0-13-amd64", ["vmlinuz-6.1.0-13-amd64", "initrd.img-6.1.0-13-amd64"], 1, id="debian"),
        pytest.param("5.14.0-427.el9", ["vmlinuz-5.14.0-427.el9", "initramfs-5.14.0-427.el9.img"], 1, id="rhel"),
        pytest.param("6.4.0-1-default", ["vmlinuz-6.4.0-1-default", "initrd-6.4.0-1-default"], 1, id="suse"),
        pytest.param("6.9.1-arch1-1", ["vmlinuz-linux", "initramfs-linux.img"], 1, id="arch"),
        pytest.param("6.6.31-0-virt", ["vmlinuz-virt", "initramfs-virt"], 1, id="alpine"),
        pytest.param("6.8.9", ["0123abcd/6.8.9/linux", "0123abcd/6.8.9/initrd"], 1, id="kernel-install"),
        pytest.param("6.6.30-gentoo", ["kernel-6.6.30-gentoo", "initramfs-6.6.30-gentoo.img"], 1, id="gentoo"),
        pytest.param("6.1", ["vmlinuz-6.1"], None, id="no-initramfs"),
        pytest.param("6.1", [], None, id="no-kernel"),
    ],
)
def test_kernels_and_their_initramfs_are_found(
    tmp_path: Path, shell: list[str], release: str, files: list[str], path: int | None
) -> None:
    modules = f"lib/modules/{release}"
    _tree(tmp_path, **{f"boot/{name}": "x" for name in files})
    _tree(
        tmp_path,
        **{
            f"{modules}/modules.builtin": "kernel/drivers/virtio/virtio_pci.ko\n",
            f"{modules}/modules.dep": "kernel/drivers/scsi/virtio_scsi.ko.xz:\n",
            f"{modules}/pkgbase": "linux\n",
            "etc/machine-id": "0123abcd\n",
        },
    )
    body = f"lsinitramfs() {{ printf '%s' '{LSINITRAMFS}'; }}\nprobe kernels kernels"
    kernels = _within(tmp_path, body, shell).kernels
    assert len(kernels) == (1 if files else 0)
    for kernel in kernels:
        assert (kernel.release, kernel.problem) == (release, None)
        assert kernel.builtin == {"virtio_pci"}
        assert kernel.lacking == {"sd_mod", "virtio_blk"}
        assert kernel.path == (None if path is None else f"{tmp_path}/boot/{files[path]}")
        assert kernel.initramfs == (set() if path is None else {"virtio_scsi"})
        assert kernel.initramfs_bytes == (0 if path is None else 1)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize(
    ("listing", "modules", "problem"),
    [
        pytest.param(LSINITRAMFS, {"virtio_scsi"}, None, id="lsinitramfs"),
        pytest.param(LSINITRD, {"virtio_scsi"}, None, id="lsinitrd"),
        pytest.param("init\nusr/\n", set(), None, id="nothing-in-it"),
        pytest.param(UNREADABLE, set(), "cannot be listed", id="head-alone"),
        pytest.param("", set(), "cannot be listed", id="nothing"),
    ],
)
def test_an_image_that_cannot_be_read_is_no_image_without_drivers(
    tmp_path: Path, shell: list[str], listing: str, modules: set[str], problem: str | None
) -> None:
    _tree(tmp_path, **{"boot/vmlinuz-6.1": "x", "boot/initramfs-6.1.img": "x", "lib/modules/6.1/modules.dep": ""})
    (tmp_path / "listing").write_text(listing)
    body = f"lsinitramfs() {{ cat {tmp_path}/listing; }}\nprobe kernels kernels"
    [kernel] = _within(tmp_path, body, shell).kernels
    assert kernel.initramfs == modules
    assert (problem or "") in (kernel.problem or "")
    assert (kernel.problem is None) is (problem is None)


def _unified(command_line: str, release: str = "") -> bytes:
    """A PE image with the sections .linux, .cmdline and .uname, as the UAPI group's specification has them."""
    sections = {b".linux": b"K" * 3000, b".cmdline": command_line.encode() + b"\0"}
    sections |= {b".uname": release.encode()} if release else {}
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", 0x80)
    head = head.ljust(0x80, b"\0") + b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 0xF0, 0x22E)
    head += b"\0" * 0xF0
    at, table, data = 0x1000, b"", b""
    for name, content in sections.items():
        padded = content.ljust(-(-len(content) // 512) * 512, b"\0")
        table += name.ljust(8, b"\0") + struct.pack("<IIII", len(content), 0, len(padded), at) + b"\0" * 16
        at, data = at + len(padded), data + padded
    return (head + table).ljust(0x1000, b"\0") + data


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_the_command_line_of_a_unified_kernel_image_is_read(tmp_path: Path, shell: list[str]) -> None:
    images = tmp_path / "efi" / "EFI" / "Linux"
    images.mkdir(parents=True)
    (images / "a.efi").write_bytes(_unified("root=/dev/vda1 rw\n quiet"))
    (images / "b.efi").write_bytes(b"MZ is all there is")
    (tmp_path / "lib/modules/6.1").mkdir(parents=True)
    facts = _within(tmp_path, "probe unified unified\nprobe kernels kernels", shell)
    assert facts.unified == {f"{images}/a.efi": "root=/dev/vda1 rw quiet", f"{images}/b.efi": ""}
    [kernel] = facts.kernels
    assert kernel.problem == f"it may be inside {images}/a.efi"


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize("tool", ["objcopy", "nothing"])
def test_the_initramfs_in_a_unified_kernel_image_is_listed(tmp_path: Path, shell: list[str], tool: str) -> None:
    """lsinitcpio (unpack_uki) and lsinitrd open one, by the help of objcopy."""
    images = tmp_path / "efi" / "EFI" / "Linux"
    images.mkdir(parents=True)
    (images / "a.efi").write_bytes(_unified("root=UUID=x", "6.0.9-arch1-1"))
    (images / "b.efi").write_bytes(_unified("root=UUID=x", "6.1.1-arch1-1"))
    _tree(tmp_path, **{"lib/modules/6.1.1-arch1-1/modules.dep": "", "lib/modules/5.0/modules.dep": ""})
    (tmp_path / "listing").write_text(LSINITRAMFS)
    listing = f'[ "$1" = {images}/b.efi ] && cat {tmp_path}/listing'
    body = f"{tool}() {{ :; }}\nlsinitcpio() {{ {listing}; }}\nprobe kernels kernels"
    [kernel] = _within(tmp_path, body, shell, tools=("sed", "awk", "grep", "sort", "stat", "readlink")).kernels
    assert (kernel.release, kernel.unified, kernel.path) == ("6.1.1-arch1-1", f"{images}/b.efi", None)
    if tool == "objcopy":
        assert kernel.problem is None
        assert kernel.initramfs == {"virtio_scsi"}
    else:
        assert kernel.problem == f"nothing is installed that lists {images}/b.efi"


#: where kernel-install(8) copies to, for each mount point of the ESP and each kind of entry token
COPIES = ["boot/efi/0123abcd/6.1", "efi/fedora/6.1", "boot/debian/6.1"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize("folder", COPIES)
@pytest.mark.parametrize("name", ["initrd", "initrd.img-6.1", "initramfs-6.1.img"])
def test_a_copy_of_an_initramfs_is_read_beside_the_one_in_boot(
    tmp_path: Path, shell: list[str], folder: str, name: str
) -> None:
    """The copy boots, and may be older than the image that it was made from."""
    _tree(tmp_path, **{"boot/vmlinuz-6.1": "k", "boot/initrd.img-6.1": "new", "lib/modules/6.1/modules.dep": ""})
    _tree(tmp_path, **{f"{folder}/linux": "k", f"{folder}/{name}": "old", "etc/machine-id": "0123abcd\n"})
    (tmp_path / "listing").write_text(LSINITRAMFS)
    listing = f'if grep -q new "$1"; then cat {tmp_path}/listing; else echo init; fi'
    kernels = _within(tmp_path, f"lsinitramfs() {{ {listing}; }}\nprobe kernels kernels", shell).kernels
    assert [kernel.path for kernel in kernels] == [f"{tmp_path}/boot/initrd.img-6.1", f"{tmp_path}/{folder}/{name}"]
    assert [kernel.release for kernel in kernels] == ["6.1", "6.1"]
    assert [kernel.initramfs for kernel in kernels] == [{"virtio_scsi"}, set()]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_the_same_bytes_are_listed_once(tmp_path: Path, shell: list[str]) -> None:
    _tree(tmp_path, **{"boot/vmlinuz-6.1": "k", "boot/initrd.img-6.1": "new", "lib/modules/6.1/modules.dep": ""})
    _tree(tmp_path, **{"efi/debian/6.1/linux": "k", "efi/debian/6.1/initrd": "new"})
    (tmp_path / "listing").write_text(LSINITRAMFS)
    body = f"lsinitramfs() {{ echo >>{tmp_path}/calls; cat {tmp_path}/listing; }}\nprobe kernels kernels"
    kernels = _within(tmp_path, body, shell).kernels
    assert [kernel.initramfs for kernel in kernels] == [{"virtio_scsi"}] * 2
    assert (tmp_path / "calls").read_text() == "\n"


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_a_unified_image_is_read_beside_the_image_that_it_was_made_from(tmp_path: Path, shell: list[str]) -> None:
    images = tmp_path / "boot" / "efi" / "EFI" / "Linux"
    images.mkdir(parents=True)
    (images / "0123-6.1.efi").write_bytes(_unified("root=UUID=x", "6.1"))
    (images / "other.efi").write_bytes(_unified("root=UUID=x"))
    _tree(tmp_path, **{"boot/vmlinuz-6.1": "k", "boot/initrd.img-6.1": "new", "lib/modules/6.1/modules.dep": ""})
    (tmp_path / "listing").write_text(LSINITRAMFS)
    body = f"lsinitramfs() {{ cat {tmp_path}/listing; }}\nprobe kernels kernels"
    names = ("sed", "awk", "grep", "sort", "stat", "readlink", "cmp")
    boot, unified = _within(tmp_path, body, shell, tools=names).kernels
    assert (boot.path, boot.problem) == (f"{tmp_path}/boot/initrd.img-6.1", None)
    assert (unified.unified, unified.problem) == (
        f"{images}/0123-6.1.efi",
        f"nothing is installed that lists {images}/0123-6.1.efi",
    )


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_a_kernel_without_modules_counts_where_something_boots_it(tmp_path: Path, shell: list[str]) -> None:
    _tree(
        tmp_path,
        **{
            "boot/vmlinuz-6.1": "x",
            "boot/initrd.img-6.1": "x",
            "lib/modules/6.1/modules.dep": "",
            "boot/vmlinuz-5.4-mine": "x",
            "boot/config-5.4-mine": "CONFIG_SCSI_VIRTIO=y\nCONFIG_BLK_DEV_SD=y\n# CONFIG_VIRTIO_PCI is not set\n",
            "boot/vmlinuz-5.3-gone": "x",
            "boot/vmlinuz-5.3-mine": "x",
            "boot/vmlinuz-0-rescue-0123": "x",
            "boot/grub/grub.cfg": "linux /vmlinuz-6.1\nlinux /vmlinuz-5.4-mine\nlinux /vmlinuz-5.3-mine\n"
            "linux /vmlinuz-0-rescue-0123\n",
        },
    )
    (tmp_path / "boot/vmlinuz").symlink_to("vmlinuz-5.3-gone")
    body = f"lsinitramfs() {{ printf '%s' '{LSINITRAMFS}'; }}\nprobe kernels kernels\n"
    facts = _within(tmp_path, f"{body}probe boot_files files {tmp_path}/boot/grub/grub.cfg", shell)
    mine = {kernel.release: kernel for kernel in facts.kernels}
    assert list(mine) == ["6.1", "5.3-mine", "5.4-mine"]
    assert mine["5.4-mine"].builtin == {"virtio_scsi", "sd_mod"}
    assert mine["5.4-mine"].lacking == {"virtio_pci", "virtio_blk"}
    assert "what is built into it is not known" in (mine["5.3-mine"].problem or "")
    assert mine["6.1"].problem is None


#: lines of lsinitrd on an image by dracut 059, which was told of /dev/vda5 by --add-device (wait_for_dev)
HOOKS = (
    "-rw-r--r--   1 root     root           19 Nov 23 02:59 usr/lib/dracut/hooks/initqueue/finished/"
    "devexists-\\x2fdev\\x2fvda5.sh\n"
    "-rw-r--r--   1 root     root           19 Nov 23 02:59 usr/lib/dracut/hooks/initqueue/finished/"
    "devexists-\\x2fdev\\x2fdisk\\x2fby-path\\x2fpci-0000:00:05.0-part1.sh\n"
    "lrwxrwxrwx   1 root     root            0 Nov 23 02:59 etc/systemd/system/initrd.target.wants/"
    "dev-disk-by\\x2did-virtio\\x2dx.device -> ../dev-disk.device\n"
)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_what_an_initramfs_waits_for_is_read(tmp_path: Path, shell: list[str]) -> None:
    _tree(tmp_path, **{"boot/vmlinuz-6.1": "x", "boot/initramfs-6.1.img": "x", "lib/modules/6.1/modules.dep": ""})
    (tmp_path / "listing").write_text(LSINITRD + HOOKS)
    body = f"lsinitramfs() {{ cat {tmp_path}/listing; }}\nprobe kernels kernels"
    [kernel] = _within(tmp_path, body, shell).kernels
    assert kernel.problem is None
    assert kernel.waits == {"/dev/vda5", "/dev/disk/by-path/pci-0000:00:05.0-part1", "/dev/disk/by-id/virtio-x"}


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_the_room_is_that_of_where_the_image_lies(tmp_path: Path, shell: list[str]) -> None:
    _tree(tmp_path, **{"efi/m/6.1/linux": "x", "efi/m/6.1/initrd": "x", "lib/modules/6.1/modules.dep": ""})
    _tree(tmp_path, **{"etc/machine-id": "m\n"})
    status = os.statvfs(tmp_path)
    [kernel] = _within(tmp_path, "probe kernels kernels", shell).kernels
    assert kernel.path == f"{tmp_path}/efi/m/6.1/initrd"
    assert kernel.free is not None
    assert abs(kernel.free - status.f_bavail * status.f_frsize) < status.f_blocks * status.f_frsize // 10


#: lvm.conf as lvm2 2.03.16 ships it, shortened, with a list over several lines
LVM_CONF = """config {
\t# Configuration option devices/filter.
\t# filter = [ "a|/dev/vda|" ]
}
devices {
\t# use_devicesfile = 0
\tuse_devicesfile = 1
\t# search_for_devnames = "none"
\tsearch_for_devnames = "auto"
\tglobal_filter = [ "a|/dev/[sv]d.*|",   # the disks
\t\t# "a|/dev/old|",
\t\t'r|.*|' ]
\tscan = [ "/dev" ]
}
"""


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_only_the_files_that_name_a_driver_of_virtio_scsi_are_read_of_modprobe_d(
    tmp_path: Path, shell: list[str]
) -> None:
    named = {
        "etc/modprobe.d/a.conf": "options x y=1\nblacklist virtio_scsi\n",
        "etc/modprobe.d/b.conf": "  install sd-mod /bin/false",
    }
    others = {
        "etc/modprobe.d/c.conf": "blacklist nouveau\n# blacklist virtio_scsi\nblacklist virtio_scsi_mine\n",
        "etc/modprobe.d/d.bak": "blacklist virtio_scsi\n",
    }
    _tree(tmp_path, **named, **others)
    facts = _within(tmp_path, "probe boot_files files $(keeping_out)", shell)
    assert {path.removeprefix(f"{tmp_path}/"): text for path, text in facts.boot_files.items()} == named


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_what_lvm_is_told_is_read(tmp_path: Path, shell: list[str]) -> None:
    entry = "IDTYPE=sys_serial IDNAME=s DEVNAME=/dev/vdb PVID=x"
    _tree(
        tmp_path,
        **{"etc/lvm/lvm.conf": LVM_CONF, "etc/lvm/devices/system.devices": f"# LVM uses this\nHASH=1\n{entry}\n"},
        **{"etc/lvm/devices/own.devices": f"{entry}\n"},
        **{
            "etc/lvm/lvmlocal.conf": 'devices/filter = "r|.*|"\n',
            "etc/lvm/lvm_db.conf": "devices { global_filter=[] }",
        },
    )
    facts = _within(tmp_path, "probe lvm lvm_names", shell)
    lines = [(path.removeprefix(f"{tmp_path}/etc/lvm/"), " ".join(line.split())) for path, line in facts.lvm_lines]
    assert lines == [
        *(("lvm.conf", line) for line in ("config {", "}", "devices {", "use_devicesfile = 1")),
        ("lvm.conf", 'search_for_devnames = "auto"'),
        ("lvm.conf", """global_filter = [ "a|/dev/[sv]d.*|", # the disks"""),
        ("lvm.conf", "'r|.*|' ]"),
        ("lvm.conf", 'scan = [ "/dev" ]'),
        ("lvm.conf", "}"),
        ("lvmlocal.conf", 'devices/filter = "r|.*|"'),
        ("lvm_db.conf", "devices { global_filter=[] }"),
        ("lvm.conf", "# use_devicesfile = 0"),
        ("devices/own.devices", entry),
        ("devices/system.devices", entry),
    ]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_what_runs_beside_the_boot_is_read(tmp_path: Path, shell: list[str]) -> None:
    _tree(
        tmp_path,
        **{
            "etc/smartd.conf": "DEVICESCAN -d removable\n/dev/vda -a\n",
            "etc/rc.local": "#!/bin/sh\nmount /dev/vdb1 /data\n",
            "etc/local.d/a.start": "swapon /dev/vdb2\n",
            "etc/conf.d/dmcrypt": "target=crypt-home\nsource='/dev/vdb1'\n",
            "etc/udev/rules.d/70 a.rules": 'KERNEL=="vdb1", SYMLINK+="x"\n',
            "etc/udev/rules.d/vdb.rules": '# KERNEL=="vda"\n\nENV{ID_SERIAL}=="b-1", \\\n  SYMLINK+="y"\nLABEL="end"\n',
            "usr/local/lib/udev/rules.d/c.rules": 'KERNEL=="vdc", OWNER="db"\n',
            "run/udev/rules.d/d.rules": 'KERNEL=="vdd", OWNER="db"\n',
            "etc/auto.misc": "cd -fstype=iso9660 :/dev/cdrom\nd :/dev/disk/by-path/y\n",
            "etc/systemd/system/a.service.d/b.conf": "[Unit]\nAfter=dev-vdb.device\n",
        },
    )
    facts = _within(tmp_path, "probe named named", shell)
    assert {(path.removeprefix(f"{tmp_path}/").removeprefix("etc/"), line) for path, line in facts.named_lines} == {
        ("usr/local/lib/udev/rules.d/c.rules", 'KERNEL=="vdc", OWNER="db"'),
        ("run/udev/rules.d/d.rules", 'KERNEL=="vdd", OWNER="db"'),
        ("smartd.conf", "/dev/vda -a"),
        ("rc.local", "mount /dev/vdb1 /data"),
        ("local.d/a.start", "swapon /dev/vdb2"),
        ("conf.d/dmcrypt", "source='/dev/vdb1'"),
        ("udev/rules.d/70 a.rules", 'KERNEL=="vdb1", SYMLINK+="x"'),
        ("udev/rules.d/vdb.rules", 'ENV{ID_SERIAL}=="b-1",   SYMLINK+="y"'),
        ("udev/rules.d/vdb.rules", 'LABEL="end"'),
        ("auto.misc", "d :/dev/disk/by-path/y"),
        ("systemd/system/a.service.d/b.conf", "After=dev-vdb.device"),
    }


#: files of what uses a disk as it is, and the line of each that names one
USERS = {
    "etc/drbd.d/r0.res": "  disk /dev/disk/by-partuuid/p;",
    "etc/tgt/conf.d/d1.conf": "  backing-store /dev/vdb",
    "etc/rtslib-fb-target/saveconfig.json": '{"storage_objects":[{"dev":"/dev/vdb","plugin":"block"}]}',
    "etc/trafficserver/storage.config": "/dev/vdb volume=1",
    "etc/nbd-server/config": "exportname = /dev/disk/by-id/virtio-data",
    "etc/mysql/conf.d/raw.cnf": "innodb_data_file_path=vdb1:10Gnewraw",
    "etc/sysconfig/oracleasm": 'ORACLEASM_SCANEXCLUDE="sd"',
    "etc/sysconfig/docker-storage-setup": 'DEVS="vdb vdc"',
    "etc/collectd.conf": 'Disk "vda"',
    "etc/crontab": "@reboot root mount /dev/vdb1 /data",
    "var/lib/pacemaker/cib/cib.xml": '<nvpair name="device" value="/dev/vdb1"/>',
    # none of those that are known: found below /etc
    "etc/initramfs-tools/scripts/local-top/keys": "cryptsetup open /dev/vda2 keys",
    "etc/appliance/store.conf": "device=/dev/vdb",
}
#: what names no disk, is a copy, or is read elsewhere
NO_USERS = {
    "etc/appliance/words": "a/vda.txt b-sda /dev/mapper/vg /dev/null /dev/disk/by-uuid/x",
    "etc/appliance/store.conf.bak": "device=/dev/vdb",
    "etc/fstab": "/dev/vda1 / ext4",
    "etc/lvm/archive/vg_1.vg": 'device = "/dev/vda3"',
    "etc/selinux/targeted/file_contexts": "/dev/vda.*",
}


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_what_uses_a_disk_as_it_is_is_read(tmp_path: Path, shell: list[str]) -> None:
    _tree(tmp_path, **{path: f"{line}\n" for path, line in {**USERS, **NO_USERS}.items()})
    units = tmp_path / "etc/systemd/system"
    (units / "dev-vdb.device.wants").mkdir(parents=True)
    osd = tmp_path / "var/lib/ceph/osd/ceph-0"
    osd.mkdir(parents=True)
    (osd / "block").symlink_to("/dev/vdc")
    facts = _within(tmp_path, "probe named named_anywhere", shell)
    assert sorted((path.removeprefix(f"{tmp_path}/"), line) for path, line in facts.named_lines) == sorted(
        [
            *((path, line.strip()) for path, line in USERS.items()),
            ("etc/systemd/system/dev-vdb.device.wants", "dev-vdb.device.wants"),
            ("var/lib/ceph/osd/ceph-0/block", "/dev/vdc"),
        ]
    )


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_a_guest_without_awk_is_read_unless_it_has_rules(tmp_path: Path, shell: list[str]) -> None:
    _tree(tmp_path, **{"etc/appliance/store.conf": "device=none\n"})
    tools = ("grep", "find", "readlink", "sed")
    assert _within(tmp_path, "probe named named_anywhere", shell, tools).named_lines == ()
    shutil.rmtree(tmp_path / "tools")
    _tree(tmp_path, **{"etc/appliance/store.conf": "device=/dev/vdb\n"})
    [line] = _within(tmp_path, "probe named named_anywhere", shell, tools).named_lines
    assert line[1] == "device=/dev/vdb"
    shutil.rmtree(tmp_path / "tools")
    _tree(tmp_path, **{"etc/udev/rules.d/a.rules": 'KERNEL=="vda", MODE="0660"\n'})
    with pytest.raises(ProbeError, match="named in the guest ended with status 127"):
        _ = _within(tmp_path, "probe named named_anywhere", shell, tools).named_lines


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_cron_jobs_that_trim_are_found(tmp_path: Path, shell: list[str]) -> None:
    _tree(
        tmp_path,
        **{
            "etc/crontab": "SHELL=/bin/sh\n# 1 2 * * 0 root fstrim -a\n1 2 * * 0 root fstrim /\n",
            "etc/cron.weekly/fstrim": "#!/bin/sh\n/sbin/fstrim --all || true\n",
            "etc/cron.weekly/off": "#!/bin/sh\nfstrim -a\n",
            "etc/periodic/monthly/z": "zpool trim tank\n",
        },
    )
    for path in ("etc/cron.weekly/fstrim", "etc/periodic/monthly/z"):
        (tmp_path / path).chmod(0o755)
    jobs = _within(tmp_path, "jobs=$(trimming)\nprobe cron cron", shell).jobs
    assert {(job.path.removeprefix(f"{tmp_path}/"), job.line) for job in jobs} == {
        ("etc/crontab", "1 2 * * 0 root fstrim /"),
        ("etc/cron.weekly/fstrim", "/sbin/fstrim --all || true"),
        ("etc/periodic/monthly/z", "zpool trim tank"),
    }


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize("debian", [True, False])
def test_a_script_that_run_parts_passes_over_trims_nothing(tmp_path: Path, shell: list[str], *, debian: bool) -> None:
    _tree(tmp_path, **{"etc/cron.weekly/fstrim.sh": "#!/bin/sh\nfstrim -a\n", "bin/run-parts": "#!/bin/sh\nexit 1\n"})
    for path in ("etc/cron.weekly/fstrim.sh", "bin/run-parts"):
        (tmp_path / path).chmod(0o755)
    path = "" if debian else f"PATH={tmp_path}/bin:$PATH\n"
    facts = _within(tmp_path, f"{path}jobs=$(trimming)\nprobe cron cron", shell)
    assert [job.line for job in facts.jobs] == ["fstrim -a"] * (not debian)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize("booted", [True, False])
def test_systemctl_counts_where_systemd_is_init(tmp_path: Path, shell: list[str], *, booted: bool) -> None:
    """sd_booted(3): a Debian on sysvinit may have the tool and nothing that answers it."""
    if booted:
        (tmp_path / "run/systemd/system").mkdir(parents=True)
    tools = _within(tmp_path, "systemctl() { :; }\nshort tools tools", shell).tools
    assert ("systemctl" in tools) is booted


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_cron_is_looked_for_where_no_systemd_runs_the_timer(tmp_path: Path, shell: list[str]) -> None:
    """Debian's util-linux brings fstrim.timer to a guest on sysvinit too."""
    body = "any() { :; }\njobs=\nif needs_cron; then short daemons echo cron; else none daemons; fi"
    assert _within(tmp_path, body, shell).cron_daemons == {"cron"}
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert not _within(tmp_path, body, shell).cron_daemons


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_links_are_read_where_find_knows_no_printf(tmp_path: Path, shell: list[str]) -> None:
    """busybox's find has none."""
    (tmp_path / "link").symlink_to("../../vda1")
    body = (
        f'find() {{ case "$*" in *-printf*) return 1 ;; *) printf "%s\\n" {tmp_path}/link ;; esac; }}\n'
        "probe links links"
    )
    assert _within(tmp_path, body, shell).links == {f"{tmp_path}/link": "/dev/vda1"}


#: lsblk 2.23 (CentOS 7) knows neither --json nor PATH, 2.29 (Debian 9) not PATH
PAIRS = (
    'NAME="vda" KNAME="vda" TYPE="disk" FSTYPE="" UUID="" LABEL="" PARTUUID="" PARTLABEL="" SIZE="100" RO="0" '
    'SERIAL="" DISC-MAX="7" DISC-GRAN="1" PKNAME=""\n'
    'NAME="vda1" KNAME="vda1" TYPE="part" FSTYPE="LVM2_member" UUID="u-1" LABEL="a\\x20b" PARTUUID="" PARTLABEL="" '
    'SIZE="90" RO="1" SERIAL="" DISC-MAX="7" DISC-GRAN="1" PKNAME="vda"\n'
    'NAME="vg-root" KNAME="dm-0" TYPE="lvm" FSTYPE="xfs" UUID="u-2" LABEL="" PARTUUID="" PARTLABEL="" '
    'SIZE="80" RO="0" SERIAL="" DISC-MAX="0" DISC-GRAN="0" PKNAME="vda1"\n'
)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_the_lsblk_and_findmnt_of_centos_7_are_understood(tmp_path: Path, shell: list[str]) -> None:
    (tmp_path / "pairs").write_text(PAIRS)
    body = (
        'bounded() { case "$*" in *--json*) return 1 ;; '
        f"lsblk*) cat {tmp_path}/pairs ;; "
        'findmnt*) printf \'TARGET="/" SOURCE="/dev/mapper/vg-root" FSTYPE="xfs" OPTIONS="rw,noquota" UUID="u-2" '
        'FSROOT="/"\\n\' ;; esac; }\nprobe lsblk block_devices\nprobe findmnt mounts\nprobe links true'
    )
    facts = _within(tmp_path, body, shell)
    [disk] = facts.block_devices
    assert [(one.path, one.type, one.size, one.disc_max) for one in disk.walk()] == [
        ("/dev/vda", "disk", 100, 7),
        ("/dev/vda1", "part", 90, 7),
        ("/dev/mapper/vg-root", "lvm", 80, 0),
    ]
    assert (disk.children[0].label, disk.children[0].readonly) == ("a b", True)
    [mount] = facts.mounts
    assert (mount.target, mount.source, mount.options) == ("/", "/dev/mapper/vg-root", ("rw", "noquota"))
    device = facts.device(mount.source)
    assert device
    assert [one.name for one in facts.stack(device)[0]] == ["vda", "vda1", "vg-root"]


def test_the_mounts_of_many_containers_crowd_nobody_out(tmp_path: Path) -> None:
    """Lines of proc_pid_mountinfo(5) as containerd makes them, for 300 containers."""
    snapshots = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
    lower = ":".join(f"{snapshots}/{number}/fs" for number in range(10))
    lines = ["21 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"]
    for number in range(300):
        target = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{number:064d}/rootfs"
        options = f"rw,lowerdir={lower},upperdir={snapshots}/{number}/fs,workdir={snapshots}/{number}/work"
        lines.append(f"{100 + number} 21 0:{100 + number} / {target} rw,relatime - overlay overlay {options}\n")
        lines.append(f"{500 + number} 21 0:4 net:[40{number}] /run/netns/cni-{number} rw - nsfs nsfs rw\n")
    (tmp_path / "mountinfo").write_text("".join(lines))
    table = f"--kernel --tab-file {tmp_path}/mountinfo"
    output = _run(f'bounded() {{ shift; findmnt {table} "$@"; }}\nprobe findmnt mounts', tmp_path)
    facts = read(output + END, "one")
    assert [(mount.target, mount.source) for mount in facts.mounts] == [("/", "/dev/vda1")]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run(["/bin/sh", "-c", script()], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
@pytest.mark.parametrize(
    ("context", "etc", "confined"),
    [
        pytest.param("system_u:system_r:virt_qemu_ga_t:s0\0", "nowhere", "virt_qemu_ga_t", id="enforcing"),
        pytest.param("system_u:system_r:virt_qemu_ga_t:s0\0", ".", None, id="permissive"),
        pytest.param("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0", ".", None, id="ssh"),
        pytest.param("system_u:system_r:virt_qemu_ga_unconfined_t:s0", "nowhere", None, id="unconfined-agent"),
    ],
)
def test_what_selinux_confines_is_what_may_not_write(
    tmp_path: Path, shell: list[str], context: str, etc: str, confined: str | None
) -> None:
    (tmp_path / "current").write_text(context)
    functions = script().partition("\nshort os ")[0]
    functions = functions.replace("/proc/self/attr/current", "current").replace("-w /etc ", f"-w {etc} ")
    done = subprocess.run(
        [*shell, "-c", f"{functions}\nshort context context"], cwd=tmp_path, capture_output=True, check=True
    )
    assert read(done.stdout + END, "here").confined == confined
