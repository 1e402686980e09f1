"""Builds the base images of the lab's guests and keeps them.

A base is a folder in the cache: `disk.qcow2`, and the kernel and initramfs that a build boots it with. It is made
beside and renamed, so a folder that is there is whole.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab import paths, recipes, tools
from lab.error import LabError
from lab.firstboot import run_in_new_guest
from lab.recipes import DISK_MIB, EXCLUDED, START_MIB, SUITE, Recipe
from lab.sources import apt_options, debian_sources

log = logging.getLogger("lab")

MEBIBYTE = 1 << 20
DISK = "disk.qcow2"
KERNEL = "vmlinuz"
INITRD = "initrd.img"
IDENTITY = "id_ed25519"


def build(recipe: str = "article") -> Path:
    """Return the base image of `recipe`, building what the cache lacks: minutes under emulation.

    Raises LabError where a tool fails or the new guest does not finish its first boot.
    """
    with locked():
        return _base(recipes.recipe(recipe)) / DISK


def instantiate(recipe: str, target: Path) -> None:
    """Write a full, sparse copy of the base image of `recipe` to `target`, which must not exist.

    Raises LabError as `build` does.
    """
    with locked():
        source = _base(recipes.recipe(recipe)) / DISK
        # Never an overlay: a backing file cannot shrink, and a test would measure the wrong file.
        tools.call(
            ["cp", "--sparse=always", "--reflink=auto", str(source), str(target)],
            seconds=600,
        )


def identity(recipe: str) -> Path:
    """Return the private key for the guests of `recipe`, which has ssh. Raises LabError as `build` does."""
    return build(recipe).with_name(IDENTITY)


def kernel(recipe: str) -> tuple[Path, Path]:
    """Return the kernel and the initramfs of the guests of `recipe`, for booting them directly; as `build` does."""
    folder = build(recipe).parent
    return folder / KERNEL, folder / INITRD


def cached(recipe: str) -> bool:
    """Return whether the base image of `recipe` is there already."""
    return (_folder(recipes.recipe(recipe)) / DISK).is_file()


def _folder(recipe: Recipe) -> Path:
    return paths.cache() / f"{recipe.name}-{recipe.key}"


@contextmanager
def locked() -> Iterator[None]:
    """Keep others from building in the cache meanwhile."""
    with (paths.cache() / "lock").open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _base(recipe: Recipe) -> Path:
    whole = _folder(recipe)
    if whole.is_dir():
        return whole
    base = _base(recipes.recipe(recipe.base)) if recipe.base else None
    log.info("building the base image %r", recipe.name)
    for stale in (
        *paths.cache().glob(f"{recipe.name}-*"),
        *paths.cache().glob("building-*"),
    ):
        shutil.rmtree(stale)
    beside = Path(tempfile.mkdtemp(prefix="building-", dir=paths.cache()))
    beside.chmod(0o755)
    try:
        if base is None:
            _make_disk(beside, recipe)
        else:
            for part in (KERNEL, INITRD):
                shutil.copy(base / part, beside / part)
            tools.call(
                [
                    "qemu-img",
                    "convert",
                    "-O",
                    "raw",
                    str(base / DISK),
                    str(beside / "disk.raw"),
                ],
                seconds=600,
            )
        log.info("running %s in the new guest", recipe.boot_script)
        run_in_new_guest(
            beside / "disk.raw",
            beside / KERNEL,
            beside / INITRD,
            recipes.script(recipe.boot_script),
        )
        tools.call(
            [
                "qemu-img",
                "convert",
                "-O",
                "qcow2",
                str(beside / "disk.raw"),
                str(beside / DISK),
            ],
            seconds=600,
        )
        (beside / "disk.raw").unlink()
        beside.rename(whole)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return whole


def _make_disk(folder: Path, recipe: Recipe) -> None:
    root = folder / "root"
    hooks = [
        in_chroot(Path(recipes.__file__).with_name(one)) for one in recipe.root_scripts
    ]
    if recipe.ssh:
        key = folder / IDENTITY
        tools.call(
            [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "reclaim-lab",
                "-f",
                str(key),
            ],
            seconds=60,
        )
        hooks.insert(
            0, f"upload {shlex.quote(str(key.with_suffix('.pub')))} /root/lab.pub"
        )
    install(root, recipe.packages, hooks)
    try:
        shutil.copy(only(root / "boot", "vmlinuz-*"), folder / KERNEL)
        shutil.copy(only(root / "boot", "initrd.img-*"), folder / INITRD)
        disk = folder / "disk.raw"
        partition(
            disk, DISK_MIB, f"label: dos\nstart={START_MIB}MiB, type=83, bootable\n"
        )
        argv = [
            "mkfs.ext4",
            "-q",
            "-d",
            str(root),
            "-E",
            f"offset={START_MIB * MEBIBYTE},lazy_itable_init=0",
        ]
        tools.call([*argv, str(disk), f"{(DISK_MIB - START_MIB) * 1024}k"], seconds=600)
    finally:
        shutil.rmtree(root)


def partition(disk: Path, mebibytes: int, layout: str) -> None:
    """Make a sparse raw image of that size, with the partitions that `layout` tells sfdisk. Raises LabError."""
    with disk.open("wb") as handle:
        os.truncate(handle.fileno(), mebibytes * MEBIBYTE)
    # Partitions of loop devices do not appear everywhere, so no loop device: mkfs writes at an offset.
    tools.call(
        ["sh", "-c", 'printf %s "$1" | sfdisk --quiet "$2"', "sh", layout, str(disk)],
        seconds=60,
    )


def in_chroot(script: Path) -> str:
    """Return a hook of mmdebstrap that runs `script` inside the new root."""
    return f'chroot "$1" sh -eu <{shlex.quote(str(script))}'


def install(
    root: Path,
    packages: Sequence[str],
    hooks: Sequence[str],
    env: Mapping[str, str] | None = None,
    suite: str = SUITE,
) -> None:
    """Install Debian with `packages` into the folder `root` and run mmdebstrap's `hooks` on it. Raises LabError."""
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    options.append('--aptopt=APT::Install-Recommends "false"')
    options += [f"--customize-hook={hook}" for hook in hooks]
    bootstrap(suite, root, packages, options, env)


def bootstrap(
    suite: str,
    target: Path,
    packages: Sequence[str],
    options: Sequence[str],
    env: Mapping[str, str] | None = None,
) -> None:
    """Install Debian's `suite` with `packages` into the folder or archive `target`. Raises LabError."""
    # mmdebstrap mounts /proc and /sys below the new root. In namespaces of its own, whatever ends it, or us, ends its
    # children and mounts too: removing the folder can then never reach into the machine's own /sys.
    argv = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--quiet", "--variant=minbase"),
        f"--include={','.join(packages)}",
        *(f"--aptopt={line}" for line in apt_options().splitlines()),
        *options,
    ]
    log.info("installing Debian %s with mmdebstrap", suite)
    tools.call(
        [*argv, suite, str(target), *debian_sources(suite)], seconds=1800, env=env
    )


def only(folder: Path, pattern: str) -> Path:
    """Return the one file in `folder` that matches. Raises LabError where there are more or none."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise LabError(
            f"the new guest has {len(found)} files {folder.name}/{pattern}; it should have one"
        )
    return found[0]
