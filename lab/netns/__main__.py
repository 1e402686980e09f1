"""Runs a command as the client of a fleet of hosts: python3 -m lab.netns [--hosts N] [--guests N] COMMAND…

Without a command it is a shell. The hosts are kvm1, kvm2 and so on; root comes in by ssh, and so does admin, who has
sudo.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from lab.error import LabError
from lab.netns import site
from lab.netns.fleet import GUESTS, NAMES, fleet


def main() -> int:
    """Do what the arguments ask for; return the exit status of the command."""
    about = "Run a command as the client of hypervisors in network namespaces."
    parser = argparse.ArgumentParser(prog="python3 -m lab.netns", description=about)
    parser.add_argument("--hosts", type=int, default=len(NAMES), metavar="N")
    parser.add_argument("--guests", type=int, default=GUESTS, metavar="N")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if reasons := site.missing():
        print(f"lab: {'; '.join(reasons)}", file=sys.stderr)
        return 1
    command = arguments.command or [os.environ.get("SHELL", "/bin/sh")]
    names = [f"kvm{number}" for number in range(1, arguments.hosts + 1)]
    try:
        with fleet(names, arguments.guests) as made:
            # in this terminal's session, so that a shell has job control
            here = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(Path.cwd())]
            return subprocess.run(
                [*made.site.plain, *here, *command],
                env=made.site.environment(),
                check=False,
            ).returncode
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
