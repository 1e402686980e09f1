"""A libvirtd of the tests' own: same binary, same QEMU, no guest of anybody else."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import libvirt

from lab import tools
from reclaim.processes import binding
from tests import temporary

_SECONDS = 60
#: where libvirtd keeps what it knows; each is hidden behind an empty folder, for it alone
_PLACES = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
#: guests run as we do, and nothing of this machine is set up for them
_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
_SCRIPT = """
set -e
for pair in "$@"; do mkdir -p "${pair#*:}"; mount --bind "${pair%%:*}" "${pair#*:}"; done
exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/own.pid
"""


@contextmanager
def libvirtd(folder: Path, definitions: Mapping[str, str] = MappingProxyType({}), settings: str = "") -> Iterator[str]:
    """Run a libvirtd whose files are all in *folder*; gives its URI.

    *definitions* are domains by name that are there before it starts, as after an upgrade of libvirt and QEMU;
    *settings* are further lines of its libvirtd.conf.
    Raises OSError or RuntimeError where none can be run: not root, no namespaces, no libvirtd.
    """
    folder = temporary.short_place() / f"reclaim-{folder.name}-{time.monotonic_ns():x}"
    for name in _PLACES:
        (folder / name).mkdir(parents=True)
    conf = 'unix_sock_rw_perms = "0700"\nauth_unix_rw = "none"\n'
    (folder / "etc/libvirtd.conf").write_text(conf + settings, encoding="ascii")
    (folder / "etc/qemu.conf").write_text(_QEMU_CONF, encoding="ascii")
    (folder / "etc/qemu").mkdir()
    for name, xml in definitions.items():
        (folder / f"etc/qemu/{name}.xml").write_text(xml, encoding="utf-8")
    log = folder / "said"
    pairs = [f"{folder / name}:{place}" for name, place in _PLACES.items()]
    with log.open("wb") as out:
        daemon = subprocess.Popen(
            ["unshare", "--mount", "--", "/bin/sh", "-c", _SCRIPT, "libvirtd", *pairs],
            env=tools.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    uri = f"qemu+unix:///system?socket={folder}/run/libvirt-sock"
    try:
        _wait(uri, daemon, log)
        yield uri
    finally:
        daemon.terminate()
        try:
            daemon.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(uri: str, daemon: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it answers."""
    binding.prepare()
    end = time.monotonic() + _SECONDS
    while True:
        try:
            libvirt.open(uri).close()
        except libvirt.libvirtError as exc:
            if daemon.poll() is not None or time.monotonic() > end:
                said = log.read_text(encoding="utf-8", errors="replace").strip()[-500:]
                raise RuntimeError(f"no libvirtd of our own: {said or exc}") from exc
            time.sleep(0.1)
        else:
            return
