"""A canary in a guest's filesystem: incompressible bytes, written, held, deleted and trimmed by one small script."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from testinfra.host import Host

from reclaim.base.errors import ProbeError
from reclaim.base.text import last_words
from reclaim.processes import shell_script

MIB = 1024 * 1024
#: seconds that the guest keeps the canary if it is not dug out
_HOLD_SECONDS = 180
_TRIM_SECONDS = 900
#: the slowest disk that is waited for, in seconds a MiB
_SECONDS_PER_MIB = 2
_SWEEP_SECONDS = 60


class NotPlanted(Exception):
    """The guest could not do it; the text is the guest's own."""


@dataclass(frozen=True)
class Trimmed:
    """The status and the output of fstrim(8). `claimed`: the bytes that it reports as trimmed."""

    status: int
    words: str

    @property
    def claimed(self) -> int | None:
        # util-linux: "/: 3.5 GiB (3758096384 bytes) trimmed"; busybox: "/: 3758096384 bytes trimmed"
        match = re.search(r"\b(\d{1,20}) bytes\)? trimmed", self.words)
        return int(match[1]) if match and self.status == 0 else None


@dataclass
class Canary:
    """One canary in the filesystem mounted at `mount`, through a shell in the guest."""

    shell: Host
    guest: str
    mount: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    _holder: str = ""
    _begun: bool = False

    def prepare(self) -> tuple[Trimmed, int]:
        """Trim the free space. Return the result of fstrim, and the free bytes (statvfs(3)'s f_bavail).

        Raises ProbeError.
        """
        lines = self._run("prepare", seconds=_TRIM_SECONDS)
        match = None
        if lines:
            match = re.fullmatch(r"\S.*\s\d+\s+\d+\s+(\d{1,18})\s+\d+%\s.*", lines[-1])
        if match is None:
            raise ProbeError(
                f"{self.guest}: df in the guest does not report the free space of {self.mount!r}"
            )
        return _trimmed(self.guest, lines), int(match[1]) * 1024

    def plant(self, mebibytes: int) -> None:
        """Write it, and have it on the guest's disk. Raises NotPlanted with the guest's own text, ProbeError."""
        self._begun = True
        seconds = 60 + mebibytes * _SECONDS_PER_MIB
        lines = self._run("plant", str(mebibytes), str(_HOLD_SECONDS), seconds=seconds)
        match = re.fullmatch(r"planted (\d{1,10})", lines[-1]) if lines else None
        if match is None:
            raise ProbeError(
                f"{self.guest}: the guest does not report the process that has the canary open on {self.mount!r}"
            )
        self._holder = match[1]

    def dig(self) -> Trimmed:
        """Delete it and trim its filesystem. Raises NotPlanted if it was gone already."""
        lines = self._run("dig", self._holder, seconds=_TRIM_SECONDS)
        self._begun = False
        return _trimmed(self.guest, lines)

    def sweep(self) -> None:
        """End the process that writes or holds it; do nothing if it was dug out."""
        if self._begun:
            self._begun = False
            self._run("sweep", seconds=_SWEEP_SECONDS)

    def _run(self, verb: str, *arguments: str, seconds: int) -> list[str]:
        given = [verb, self.mount, self.token, *arguments]
        command = shell_script.command(len(given))
        result = self.shell.run(command, script(), *given, seconds=seconds)
        if result.rc != 0:
            silent = f"{verb} in the guest ended with status {result.rc}"
            raise NotPlanted(last_words(result.stderr, silent=silent))
        return [line for line in str(result.stdout).splitlines() if line.strip()]


def script() -> str:
    """Return the shell script that does the work in the guest."""
    return shell_script.load("reclaim.space", "canary.sh")


def _trimmed(guest: str, lines: list[str]) -> Trimmed:
    for line in lines:
        match = re.fullmatch(r"trim (\d{1,3}) ?(.*)", line)
        if match is not None:
            return Trimmed(int(match[1]), " ".join(match[2].split())[:200])
    raise ProbeError(f"{guest}: the guest does not report fstrim's status")
