"""A real sshd on the loopback, with users, sudo rules and a machine's UUID of its own, all in a mount namespace."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reclaim.inventory import Ssh

#: name -> login shell
USERS = {
    "admin": "/bin/bash",
    "asked": "/bin/bash",
    "stranger": "/bin/bash",
    "fish": "/usr/bin/fish",
    "tcsh": "/usr/bin/tcsh",
    "nologin": "/usr/sbin/nologin",
}
_SECONDS = 20
_SUDOERS = """\
Defaults !lecture
root ALL=(ALL:ALL) ALL
admin,fish,tcsh ALL=(ALL) NOPASSWD: ALL
asked ALL=(ALL) ALL
"""
_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile /run/authorized_keys
UsePAM no
PidFile none
PasswordAuthentication no
Banner /run/banner
MaxSessions 20
Subsystem sftp internal-sftp
"""
_START = """\
set -eu
cd "$1"
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=755 none /sys/class
mkdir -p /sys/class/dmi/id /run/sshd
(umask 277; printf '%s\\n' "$2" >/sys/class/dmi/id/product_uuid)
install -m 644 user.pub /run/authorized_keys
printf 'Authorized users only.\\n' >/run/banner
[ -z "$4" ] || { mkdir /run/libvirt && mount --bind "$4" /run/libvirt; }
for file in passwd group sudoers; do
    install -m 440 $file /run/$file
    [ $file = sudoers ] || chmod 644 /run/$file
    mount --bind /run/$file /etc/$file
done
while IFS=: read -r name _ uid _; do
    [ "$uid" -ge 6000 ] || continue
    install -d -o "$uid" -g "$uid" /run/$name
    echo 'echo "Welcome, $USER"; echo "mail: none" >&2' >/run/$name/.bashrc
done <passwd
# OpenSSH from 9.8 knows it, and all tests come from one address
{ cat sshd_config; echo "PerSourcePenalties $3"; } >penalties
if /usr/sbin/sshd -t -f penalties 2>/dev/null; then mv penalties sshd_config; fi
exec /usr/sbin/sshd -D -e -f sshd_config 2>log
"""


@dataclass(frozen=True)
class Sshd:
    """It listens on 127.0.0.1 at `port`; `key` opens every one of USERS, and root."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def has_penalties(self) -> bool:
        """Whether it knows PerSourcePenalties."""
        return "PerSourcePenalties" in (self.folder / "sshd_config").read_text(encoding="ascii")

    @property
    def key(self) -> Path:
        return self.folder / "user"

    def settings(self, user: str = "root", *names: str, **more: object) -> Ssh:
        """How to get in as *user*, its host key known as *names* (as its address where none is given)."""
        known = self.folder / f"known_hosts-{len(list(self.folder.glob('known_hosts-*')))}"
        public = (self.folder / "host.pub").read_text(encoding="ascii")
        known.write_text(
            "".join(f"{name} {public}" for name in names or (f"[127.0.0.1]:{self.port}",)), encoding="ascii"
        )
        values = {"user": user, "port": self.port, "key": self.key, "address": "127.0.0.1", "known_hosts": known}
        return Ssh.model_validate({**values, **more})


@contextmanager
def listening(folder: Path, machine: str, penalties: str = "no", libvirt: Path | None = None) -> Iterator[Sshd]:
    """An sshd on a machine with the UUID *machine*, until the end; with *penalties* if it knows them (sshd_config).

    *libvirt* is the folder with the sockets of its libvirtd.
    """
    folder.mkdir(exist_ok=True)
    for name in ("host", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True, timeout=_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(_CONFIG.format(port=port, folder=folder), encoding="ascii")
    (folder / "sudoers").write_text(_SUDOERS, encoding="ascii")
    users = ["root:*:0:0::/root:/bin/sh"] + [
        f"{name}:*:{6000 + number}:{6000 + number}::/run/{name}:{shell}"
        for number, (name, shell) in enumerate(USERS.items())
    ]
    users.append("sshd:*:5999:65534::/run/sshd:/usr/sbin/nologin")
    (folder / "passwd").write_text("".join(f"{line}\n" for line in users), encoding="ascii")
    groups = ["root:x:0:", "nogroup:x:65534:"] + [f"{name}:x:{6000 + number}:" for number, name in enumerate(USERS)]
    (folder / "group").write_text("".join(f"{line}\n" for line in groups), encoding="ascii")
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _START, "sh", str(folder), machine, penalties]
    argv.append(str(libvirt or ""))
    process = subprocess.Popen(argv)
    try:
        _wait_for_banner(folder, process, port)
        yield Sshd(folder, port, process)
    finally:
        process.kill()
        process.wait(_SECONDS)


def _wait_for_banner(folder: Path, process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), _SECONDS) as client:
                if client.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.05)
        log = folder / "log"
        assert process.poll() is None, log.read_text(encoding="utf-8") if log.exists() else "sshd was not started"
        assert time.monotonic() < end, "sshd does not listen"
