"""systemd's manager, of the system or of a user, and its folder of units."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reclaim.base.errors import ReclaimError
from reclaim.base.text import last_words
from reclaim.processes import child

#: seconds that systemctl has
_SECONDS = 90
_MOST = 1024 * 1024
#: sd_booted(3)
_BOOTED = Path("/run/systemd/system")


@dataclass(frozen=True)
class Manager:
    """A manager of systemd."""

    folder: Path
    words: tuple[str, ...] = ("systemctl",)

    @property
    def is_there(self) -> bool:
        """True if systemd runs on this machine."""
        return _BOOTED.is_dir()

    def call(self, *words: str) -> None:
        """Let systemctl do *words*. Raises ReclaimError with its message if that fails."""
        status, said = self._run(words)
        if status:
            raise ReclaimError(
                f"{' '.join([*self.words, *words])}: {last_words(said, silent=f'status {status}')}"
            )

    def is_true(self, *words: str) -> bool:
        """True if systemctl answers *words* with status 0."""
        return self._run(words)[0] == 0

    def properties(self, unit: str, names: Iterable[str]) -> dict[str, str]:
        """Return the properties *names* of *unit* that systemd knows."""
        _, said = self._run(("show", unit, f"--property={','.join(names)}"))
        pairs = (line.partition("=") for line in said.splitlines())
        return {name: value for name, _, value in pairs if value}

    def _run(self, words: Iterable[str]) -> tuple[int, str]:
        return run([*self.words, *words])


def run(words: list[str]) -> tuple[int, str]:
    """Run a program of systemd's. Return its status and the last output that is not empty."""
    try:
        status, stdout, stderr = child.run_limited(words, _SECONDS, _MOST)
    except TimeoutError as exc:
        raise ReclaimError(f"{' '.join(words)}: no answer within {_SECONDS} s") from exc
    except FileNotFoundError as exc:
        raise ReclaimError(f"{words[0]}: there is no such program") from exc
    return status, (stderr or stdout).decode("utf-8", "backslashreplace")


def ours() -> Manager:
    """Return the manager of this user: root's is the system's."""
    if os.geteuid() == 0:
        return Manager(Path("/etc/systemd/system"))
    given = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(given) if given.startswith("/") else Path.home() / ".config"
    return Manager(home / "systemd/user", ("systemctl", "--user"))
