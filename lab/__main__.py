"""The lab's command line: `python3 -m lab build|up|down|clean|doctor`."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from lab import recipes
from lab.error import LabError

try:
    from lab import guest, host, image
except ModuleNotFoundError as error:
    sys.exit(f"lab: the Python module {error.name} is missing: install python3-libvirt")


def main() -> int:
    """Do what the arguments say; return the exit status."""
    arguments = _parser().parse_args()
    logging.basicConfig(
        level=logging.INFO, format="lab: %(message)s", stream=sys.stderr
    )
    try:
        return _do(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _do(arguments: argparse.Namespace) -> int:
    reasons = host.missing()
    if arguments.verb == "doctor":
        for reason in reasons:
            print(f"lab: {reason}", file=sys.stderr)
        if not reasons:
            print(f"lab: real guests can run here, type='{host.accelerator()}'")
        return 1 if reasons else 0
    if arguments.verb == "clean":
        for what in guest.clean() or ["nothing: there was nothing to remove"]:
            print(f"lab: removed {what}")
        return 0
    if reasons:
        raise LabError("; ".join(reasons))
    started = time.monotonic()
    if arguments.verb == "build":
        for name in arguments.recipe or [one.name for one in recipes.RECIPES]:
            print(image.build(name))
    elif arguments.verb == "up":
        made = guest.create(arguments.name, arguments.recipe)
        print(f"lab: {made.name} is up after {time.monotonic() - started:.0f} s")
        print(f"lab: its disk is {made.image}, its console is {made.console}")
    elif arguments.verb == "down":
        guest.find(arguments.name)
        guest.destroy(arguments.name)
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "Throwaway guests for reclaim's demo and tests."
    parser = argparse.ArgumentParser(prog="python3 -m lab", description=about)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    known = [one.name for one in recipes.RECIPES]
    build = verbs.add_parser(
        "build", help="build the base images (all, or those named)"
    )
    build.add_argument("recipe", nargs="*", metavar="RECIPE", help=", ".join(known))
    up = verbs.add_parser("up", help="make a guest and wait until it answers")
    up.add_argument("name", help="begins with reclaim-lab-")
    up.add_argument("--recipe", default="article", choices=known)
    down = verbs.add_parser("down", help="remove a guest and its files")
    down.add_argument("name")
    verbs.add_parser(
        "clean", help="remove every guest, the daemons the lab started, and its folder"
    )
    verbs.add_parser("doctor", help="say whether real guests can run here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
