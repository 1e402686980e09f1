"""A systemctl for machines on which no manager runs: it enables by the real one, and only notes down the rest.

`systemctl --root` makes and removes links as systemd does. daemon-reload, starting and stopping need a manager.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reclaim.timer.manager import Manager
from tests.support import executable

_STUB = """#!/bin/sh
# a stub: LOG has its calls; the file RUNNING is there as long as the timer runs
set -e
echo "$*" >>"LOG"
[ "$1" != --user ] || shift
verb=$1
shift
case "$verb $*" in
"REFUSED") echo 'Failed to enable unit: Access denied' >&2; exit 1 ;;
esac
case $verb in
daemon-reload) ;;
enable|disable)
    now=
    [ "$1" != --now ] || { now=1; shift; }
    /usr/bin/systemctl --root="ROOT" "$verb" "$1"
    [ -z "$now" ] || [ "$verb" = disable ] || touch "RUNNING"
    [ -z "$now" ] || [ "$verb" = enable ] || rm -f "RUNNING" ;;
is-enabled) shift; exec /usr/bin/systemctl --root="ROOT" is-enabled --quiet "$1" ;;
is-active) [ -e "RUNNING" ] || exit 3 ;;
clean) ;;
show)
    # as systemd 252 prints them
    case $1 in
    *.timer) printf '%s\\n' UnitFileState=enabled ActiveState=active LastTriggerUSec= \\
        'NextElapseUSecRealtime=Mon 2026-11-30 00:41:12 UTC' ;;
    *) printf '%s\\n' Result=success ExecMainStatus=1 'ExecMainExitTimestamp=Mon 2026-11-23 00:12:01 UTC' ;;
    esac ;;
*) echo "Unknown command verb $verb." >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Systemd:
    """A root of units with a systemctl of its own."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "etc/systemd/system"

    @property
    def wanted(self) -> list[str]:
        """The names of the links that start timers at boot."""
        return [path.name for path in self.folder.glob("timers.target.wants/*")]

    @property
    def calls(self) -> list[str]:
        """Every call that changes something."""
        log = self.root / "log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [line for line in lines if not line.startswith(("show", "is-"))]

    @property
    def is_active(self) -> bool:
        return (self.root / "running").exists()

    def manager(self, refused: str = "nothing") -> Manager:
        """Make the systemctl, which fails for the words *refused*, and return its manager."""
        path = self.root / "systemctl"
        text = _STUB.replace("LOG", str(self.root / "log")).replace("RUNNING", str(self.root / "running"))
        executable(path, text.replace("ROOT", str(self.root)).replace("REFUSED", refused))
        self.folder.mkdir(parents=True, exist_ok=True)
        return Manager(self.folder, (str(path),))
