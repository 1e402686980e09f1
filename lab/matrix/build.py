"""Makes the disks of the matrix: each installation, copied into its layouts, finished by one boot."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from lab import image, paths, tools
from lab.firstboot import run_in_new_guest
from lab.image import MEBIBYTE, log
from lab.matrix.installations import (
    ARRAY,
    INSTALLATIONS,
    ROOT_MIB,
    ROOT_UUID,
    Installation,
    installation_of,
)
from lab.recipes import EXCLUDED, PACKAGES, ROOT_SCRIPT, script

_HERE = Path(__file__).parent
#: what the mkfs.ext4 of a newer host makes, and Debian 11's e2fsck or extlinux does not know
_EXT4 = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,"
_EXT4 += "huge_file,dir_nlink,extra_isize,metadata_csum"


def key(name: str) -> str:
    """Return what changes whenever a disk of that installation would come out different."""
    installation = INSTALLATIONS[name]
    parts = [repr(installation), *PACKAGES, *EXCLUDED, script(ROOT_SCRIPT), ROOT_UUID]
    scripts = [*installation.scripts, installation.builder, Path(__file__).name]
    scripts += [f"{root}.sh" for root in installation.roots]
    parts += [
        (_HERE / one).read_text(encoding="utf-8")
        for one in scripts
        if (_HERE / one).exists()
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def folder(disk: str) -> Path:
    """Return the folder of that disk and its installation's others, building them where they are missing.

    Raises LabError as `image.build` does.
    """
    name = installation_of(disk)
    with image.locked():
        whole = _folder(name)
        if whole.is_dir():
            return whole
        current = set(map(_folder, INSTALLATIONS))
        for stale in (
            *paths.cache().glob("matrix-*"),
            *paths.cache().glob("building-*"),
        ):
            if stale not in current:
                shutil.rmtree(stale)
        beside = Path(tempfile.mkdtemp(prefix="building-", dir=paths.cache()))
        beside.chmod(0o755)
        try:
            _build(beside, INSTALLATIONS[name])
            beside.rename(whole)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return whole


def _folder(name: str) -> Path:
    return paths.cache() / f"matrix-{name}-{key(name)}"


def disk(name: str) -> Path:
    """Return the raw image of that name, building its installation's where they are missing."""
    return folder(name) / f"{name}.raw"


def _build(target: Path, installation: Installation) -> None:
    trees = target / "trees"
    trees.mkdir()
    _install(target, trees, installation)
    first = trees / installation.first
    kernel, initrd = (
        image.only(first / "boot", "vmlinuz-*"),
        image.only(first / "boot", "initrd.img-*"),
    )
    for path, name in (
        (kernel, image.KERNEL),
        (initrd, image.INITRD),
        (first / "initrd.small", "initrd.small"),
    ):
        shutil.copy(path, target / name)
    for path in (first / "cores").iterdir():
        shutil.copy(path, target / path.name)
    for tree in trees.iterdir():
        (tree / "initrd.small").unlink()
        shutil.rmtree(tree / "cores")
    release = kernel.name.removeprefix("vmlinuz-")
    (target / "release").write_text(release, encoding="utf-8")
    _write_disks(target, trees, installation)
    shutil.rmtree(trees)
    log.info("running %s in the new guest", installation.builder)
    disks = [target / f"{name}.raw" for name in installation.layouts]
    text = (_HERE / installation.builder).read_text(encoding="utf-8")
    text = f"ARRAY={ARRAY} ROOT_MIB={ROOT_MIB} ROOT_UUID={ROOT_UUID} RELEASE={release}\n{text}"
    run_in_new_guest(
        disks[0], target / image.KERNEL, target / image.INITRD, text, disks[1:]
    )


def _install(target: Path, trees: Path, installation: Installation) -> None:
    """Install Debian, and leave a copy of each of its roots in *trees*."""
    hooks = [image.in_chroot(_HERE.parent / "recipes" / ROOT_SCRIPT)]
    hooks += [image.in_chroot(_HERE / one) for one in installation.scripts]
    for name, change in installation.roots.items():
        if change:
            hooks.append(
                f'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes -oDPkg::Chroot-Directory="$1" {change} >/dev/null'
            )
        if (_HERE / f"{name}.sh").exists():
            hooks.append(image.in_chroot(_HERE / f"{name}.sh"))
        hooks.append(f'cp -ax "$1" {trees}/{name}')
    image.install(
        target / "root",
        [*PACKAGES, *installation.packages],
        hooks,
        {"ARRAY": ARRAY, "ROOT_UUID": ROOT_UUID},
        installation.suite,
    )
    shutil.rmtree(target / "root")
    for name in installation.roots:
        for left in ("var/lib/apt/lists", "var/cache/apt"):
            shutil.rmtree(trees / name / left)


def _write_disks(target: Path, trees: Path, installation: Installation) -> None:
    """Write every root into its disks, and make the data disks."""
    by_root: dict[str | None, list[str]] = {}
    for name, layout in installation.layouts.items():
        by_root.setdefault(layout.root, []).append(name)
        raw = target / f"{name}.raw"
        image.partition(raw, layout.mebibytes, layout.table)
    for root, names in by_root.items():
        if root is None:
            continue
        part = _filesystem(target, trees, root, installation)
        for name in names:
            layout = installation.layouts[name]
            _put(part, target / f"{name}.raw", layout.at or 0)
            _make_bootable(target, target / f"{name}.raw", layout.core)
        part.unlink()
    for name in by_root.get(None, ()):
        layout = installation.layouts[name]
        if layout.mkfs:
            part = _empty(target, layout.mebibytes - 1)
            tools.call([layout.mkfs, "-q", str(part)], seconds=60)
            _put(part, target / f"{name}.raw", 1)
            part.unlink()


def _filesystem(
    target: Path, trees: Path, root: str, installation: Installation
) -> Path:
    """Write a root into the blocks of one filesystem, wherever the layouts have them."""
    part = _empty(target, ROOT_MIB)
    tree = trees / (installation.first if root == "btrfs" else root)
    if root == "btrfs":
        argv = ["mkfs.btrfs", "--quiet", "--rootdir", str(tree), str(part)]
        tools.call(argv, seconds=600)
        return part
    argv = ["mkfs.ext4", "-q", "-U", ROOT_UUID, "-d", str(tree), "-O", _EXT4]
    argv += ["-E", "lazy_itable_init=0", str(part), f"{ROOT_MIB * 1024}k"]
    tools.call(argv, seconds=600)
    return part


def _empty(target: Path, mebibytes: int) -> Path:
    part = target / "part"
    with part.open("wb") as handle:
        os.truncate(handle.fileno(), mebibytes * MEBIBYTE)
    return part


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
