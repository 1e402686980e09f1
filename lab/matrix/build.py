"""Makes the disks of the matrix: one installation, copied into every layout, finished by one boot."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import image, paths, tools
from lab.firstboot import run_in_new_guest
from lab.image import MEBIBYTE, log
from lab.recipes import EXCLUDED, PACKAGES, ROOT_SCRIPT, SUITE, script

MORE = ("lvm2", "mdadm", "cryptsetup", "btrfs-progs", "xfsprogs", "dosfstools")
ROOT_MIB = 1200
ROOT_UUID = "2013a7e1-0000-4000-8000-000000000001"
ARRAY = "2013a7e1:00004000:80000000:00000002"
"""The UUID of the array: the initramfs that assembles it is made before it."""

_HERE = Path(__file__).parent
#: the roots: what apt-get makes each from the one before
_ROOTS = {
    "plain": "",
    "uefi": "--purge install grub-efi-amd64 grub-pc-",
    "sysvinit": "--purge install grub-pc grub-efi-amd64- sysvinit-core sysv-rc orphan-sysvinit-scripts cron "
    "systemd- systemd-sysv- libpam-systemd-",
}


@dataclass(frozen=True)
class Layout:
    """One disk: its size, what sfdisk is told, where (in MiB) which root's blocks go, and which GRUB boots it."""

    mebibytes: int
    table: str
    at: int | None = None
    root: str = "plain"
    core: str | None = "plain"


_WHOLE = "label: dos\nstart=1MiB, type=83, bootable\n"
#: by name, in the order in which builder.sh sees them
LAYOUTS = {
    "plain": Layout(
        ROOT_MIB + 80,
        f"label: dos\nstart=1MiB, size={ROOT_MIB}MiB, type=83, bootable\ntype=82\n",
        1,
    ),
    "lvm": Layout(
        ROOT_MIB + 210,
        "label: dos\nstart=1MiB, size=128MiB, type=83, bootable\nstart=130MiB, type=8e\n",
        131,
        core="apart",
    ),
    "raid-a": Layout(
        ROOT_MIB + 8, "label: dos\nstart=1MiB, type=fd, bootable\n", 2, core="raid"
    ),
    "raid-b": Layout(
        ROOT_MIB + 8, "label: dos\nstart=1MiB, type=fd, bootable\n", 2, core="raid"
    ),
    "btrfs": Layout(ROOT_MIB + 1, _WHOLE, 1, "btrfs", "btrfs"),
    "uefi": Layout(
        ROOT_MIB + 66,
        "label: gpt\nstart=1MiB, size=63MiB, type=U\nstart=64MiB, type=L\n",
        64,
        "uefi",
        None,
    ),
    "sysvinit": Layout(ROOT_MIB + 1, _WHOLE, 1, "sysvinit"),
    "luks": Layout(129, _WHOLE, core=None),
    "ext4": Layout(129, _WHOLE, core=None),
    "xfs": Layout(329, _WHOLE, core=None),
}


def key() -> str:
    """Return what changes whenever a disk would come out different."""
    parts = [SUITE, *PACKAGES, *MORE, *EXCLUDED, script(ROOT_SCRIPT), *_ROOTS.values()]
    parts += [
        path.read_text(encoding="utf-8")
        for path in (Path(__file__), *sorted(_HERE.glob("*.sh")))
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def folder() -> Path:
    """Return the folder of the disks, building them where they are missing. Raises LabError as `image.build` does."""
    with image.locked():
        whole = paths.cache() / f"matrix-{key()}"
        if whole.is_dir():
            return whole
        for stale in (
            *paths.cache().glob("matrix-*"),
            *paths.cache().glob("building-*"),
        ):
            shutil.rmtree(stale)
        beside = Path(tempfile.mkdtemp(prefix="building-", dir=paths.cache()))
        beside.chmod(0o755)
        try:
            _build(beside)
            beside.rename(whole)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return whole


def disk(name: str) -> Path:
    """Return the raw image of that name, building all where they are missing."""
    return folder() / f"{name}.raw"


def _build(target: Path) -> None:
    trees = target / "trees"
    trees.mkdir()
    hooks = [
        image.in_chroot(_HERE.parent / "recipes" / ROOT_SCRIPT),
        image.in_chroot(_HERE / "root.sh"),
    ]
    for name, change in _ROOTS.items():
        if change:
            hooks.append(
                f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes -oDPkg::Chroot-Directory="$1" {change} >/dev/null'
            )
        if (_HERE / f"{name}.sh").exists():
            hooks.append(image.in_chroot(_HERE / f"{name}.sh"))
        hooks.append(f'cp -ax "$1" {trees}/{name}')
    image.install(
        target / "root",
        [*PACKAGES, *MORE],
        hooks,
        {"ARRAY": ARRAY, "ROOT_UUID": ROOT_UUID},
    )
    shutil.rmtree(target / "root")
    for name in _ROOTS:
        for left in ("var/lib/apt/lists", "var/cache/apt"):
            shutil.rmtree(trees / name / left)
    plain = trees / "plain"
    kernel, initrd = (
        image.only(plain / "boot", "vmlinuz-*"),
        image.only(plain / "boot", "initrd.img-*"),
    )
    for path, name in (
        (kernel, image.KERNEL),
        (initrd, image.INITRD),
        (plain / "initrd.small", "initrd.small"),
    ):
        shutil.copy(path, target / name)
    for path in (plain / "cores").iterdir():
        shutil.copy(path, target / path.name)
    (target / "release").write_text(
        kernel.name.removeprefix("vmlinuz-"), encoding="utf-8"
    )
    _write_roots(target, trees)
    shutil.rmtree(trees)
    log.info("running builder.sh in the new guest")
    disks = [target / f"{name}.raw" for name in LAYOUTS]
    text = (_HERE / "builder.sh").read_text(encoding="utf-8")
    text = f"ARRAY={ARRAY} ROOT_MIB={ROOT_MIB} ROOT_UUID={ROOT_UUID}\n{text}"
    run_in_new_guest(
        disks[0], target / image.KERNEL, target / image.INITRD, text, disks[1:]
    )


def _write_roots(target: Path, trees: Path) -> None:
    """Write every root into its disks: the blocks of one file system, wherever the layout has them."""
    size = f"{ROOT_MIB * 1024}k"
    for name in ("btrfs", *_ROOTS):
        part = target / "part"
        tree = trees / ("plain" if name == "btrfs" else name)
        if name == "btrfs":
            for left in trees.glob("*/initrd.small"):
                left.unlink()
            for left in trees.glob("*/cores"):
                shutil.rmtree(left)
        with part.open("wb") as handle:
            os.truncate(handle.fileno(), ROOT_MIB * MEBIBYTE)
        if name == "btrfs":
            tools.call(
                ["mkfs.btrfs", "--quiet", "--rootdir", str(tree), str(part)],
                seconds=600,
            )
        else:
            argv = [
                "mkfs.ext4",
                "-q",
                "-U",
                ROOT_UUID,
                "-d",
                str(tree),
                "-E",
                "lazy_itable_init=0",
            ]
            tools.call([*argv, str(part), size], seconds=600)
        for layout_name, layout in LAYOUTS.items():
            if layout.root == name and layout.at is not None:
                raw = target / f"{layout_name}.raw"
                image.partition(raw, layout.mebibytes, layout.table)
                _put(part, raw, layout.at)
                _make_bootable(target, raw, layout.core)
        part.unlink()
    for name, make in (("luks", None), ("ext4", "mkfs.ext4"), ("xfs", "mkfs.xfs")):
        raw, layout = target / f"{name}.raw", LAYOUTS[name]
        image.partition(raw, layout.mebibytes, layout.table)
        if make:
            part = target / "part"
            with part.open("wb") as handle:
                os.truncate(handle.fileno(), (layout.mebibytes - 1) * MEBIBYTE)
            tools.call([make, "-q", str(part)], seconds=60)
            _put(part, raw, 1)
            part.unlink()


def _make_bootable(target: Path, raw: Path, core: str | None) -> None:
    """Write GRUB where grub-bios-setup would: its core image behind the partition table, in a row."""
    if core is None:
        return
    with raw.open("r+b") as handle:
        handle.write((target / "boot.img").read_bytes()[:440])
        handle.seek(512)
        handle.write((target / f"{core}.img").read_bytes())


def _put(part: Path, raw: Path, mebibytes: int) -> None:
    argv = [
        "dd",
        f"if={part}",
        f"of={raw}",
        "bs=1M",
        f"seek={mebibytes}",
        "conv=sparse,notrunc",
    ]
    tools.call(argv, seconds=600)
