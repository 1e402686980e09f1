"""The commands beside `pytest checks/`: undo, verify-backup, report, diff, index, inventory, new."""

from __future__ import annotations

import argparse
import io
import platform
import sys
from importlib import metadata
from pathlib import Path

import libvirt

from reclaim import __version__, scaffold
from reclaim.backups.verify import verify
from reclaim.base.errors import Mistakes, ReclaimError
from reclaim.base.text import printable, trouble
from reclaim.engine.undo import undo
from reclaim.handles.hypervisor import Hypervisor, connect
from reclaim.handles.node import dotted
from reclaim.inventories import verbs as inventory_verbs
from reclaim.inventory import Inventory
from reclaim.processes import bytecode, programs
from reclaim.record import record
from reclaim.report import archive, compare, page, publish
from reclaim.requirement import STAGES


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 not everything could be taken back or something newly broke, 2 wrong use."""
    options = _parser().parse_args(arguments)
    programs.guard()
    bytecode.guard()
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # a name that the locale does not have must stop no undo half way
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = options.run(options)
    except Mistakes as exc:
        return _refuse("\n".join(exc.lines))
    except ReclaimError as exc:
        return _refuse(printable(str(exc)))
    except OSError as exc:
        return _refuse(printable(trouble(exc)))
    return int(status)


def _undo(options: argparse.Namespace) -> int:
    return 0 if undo(options.folder, _say, options.inventory, options.uri) else 1


def _verify(options: argparse.Namespace) -> int:
    return 0 if verify(options.copy, _hypervisor(options), options.image, _say) else 1


def _report(options: argparse.Namespace) -> int:
    folders: list[Path] = options.folders
    if options.output is None and len(folders) > 1:
        raise ReclaimError("one page of several runs: name the page with --output FILE")
    path = options.output or record.path_of(folders[0]).parent / page.NAME
    publish.write_report(folders, path, shared=options.output is not None)
    print(path)  # noqa: T201
    return 0


def _diff(options: argparse.Namespace) -> int:
    before, now = record.read(options.before), record.read(options.now)
    if (
        before.hypervisor.uri != now.hypervisor.uri
        or before.hypervisor.name != now.hypervisor.name
    ):
        print(  # noqa: T201
            f"note: two hypervisors, {printable(before.hypervisor.name)} and {printable(now.hypervisor.name)}"
        )
    comparison = compare.compare([before], now)
    for line in compare.lines(comparison):
        _say(line)
    return 1 if comparison.broken else 0


def _index(options: argparse.Namespace) -> int:
    if options.keep is not None and options.keep < 1:
        raise ReclaimError(f"--keep {options.keep}: keep at least one run")
    if not options.reports.is_dir():
        raise ReclaimError(f"{options.reports}: there is no such folder")
    print(archive.update(options.reports, options.keep))  # noqa: T201
    return 0


def _new(options: argparse.Namespace) -> int:
    order = scaffold.Order(options.slug, options.title, options.handle, options.stage)
    scaffold.new(order, _say)
    return 0


def versions() -> str:
    """Return the versions on which a report of a fault depends, on one line."""
    python, library = platform.python_version(), dotted(libvirt.getVersion())
    tests = metadata.version("pytest")
    return f"reclaim {__version__} (Python {python}, pytest {tests}, libvirt {library})"


def _say(text: str) -> None:
    print(printable(text, lines=True))  # noqa: T201


def _refuse(why: str) -> int:
    print(f"reclaim: {why}", file=sys.stderr)  # noqa: T201
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reclaim",
        description="Undo, reports, comparisons and other commands beside `pytest checks/`.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=versions(),
        help="print the versions of reclaim, Python, pytest and libvirt's library",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    way_back = verbs.add_parser(
        "undo", help="take back the changes of a --fix run, the last change first"
    )
    way_back.add_argument(
        "folder", metavar="RUN", type=Path, help="the run's folder below reports/"
    )
    way_back.add_argument(
        "--inventory",
        metavar="FILE",
        type=Path,
        help="how to get into guests (default: that of the run)",
    )
    way_back.add_argument(
        "--uri",
        help="the run's libvirt URI: required if it runs a command (default: as the journal has it)",
    )
    way_back.set_defaults(run=_undo)
    verification = verbs.add_parser(
        "verify-backup",
        help="compare a copy with its disk image; status 1 if it differs",
    )
    verification.add_argument("copy", metavar="COPY", help="the copy of a disk image")
    verification.add_argument(
        "--image",
        help="the image, or a snapshot of it (default: that of the disk with a matching name)",
    )
    verification.add_argument(
        "--uri", help="libvirt URI of the guests (default: qemu:///system)"
    )
    verification.set_defaults(run=_verify)
    report = verbs.add_parser(
        "report",
        help="make report.html again from results.json; one page of several runs",
    )
    report.add_argument(
        "folders",
        metavar="RUN",
        type=Path,
        nargs="+",
        help="a run's folder, or its results.json",
    )
    report.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="the page to write (default: report.html of the run)",
    )
    report.set_defaults(run=_report)
    comparison = verbs.add_parser(
        "diff",
        help="compare two runs; status 1 if something newly broke",
    )
    comparison.add_argument(
        "before", metavar="RUN", type=Path, help="the folder of the earlier run"
    )
    comparison.add_argument(
        "now", metavar="RUN", type=Path, help="the folder of the later run"
    )
    comparison.set_defaults(run=_diff)
    index = verbs.add_parser("index", help="make index.html of all runs again")
    index.add_argument(
        "reports",
        metavar="REPORTS",
        type=Path,
        nargs="?",
        default=Path("reports"),
        help="the folder of the reports (default: reports)",
    )
    index.add_argument(
        "--keep",
        metavar="N",
        type=int,
        help="keep the newest N runs of each hypervisor, and every run that can still be undone; remove the others",
    )
    index.set_defaults(run=_index)
    requirement = verbs.add_parser(
        "new",
        help="write a new requirement into this checkout: check, fixer, test, and its rows",
    )
    requirement.add_argument(
        "slug", metavar="SLUG", help="its name, such as disk-serial"
    )
    requirement.add_argument(
        "title",
        metavar="TITLE",
        help="the good state, such as 'The disk has a serial number'",
    )
    requirement.add_argument(
        "--for",
        dest="handle",
        metavar="HANDLE",
        required=True,
        help=", ".join(scaffold.HANDLES),
    )
    requirement.add_argument(
        "--stage", metavar="STAGE", required=True, help=", ".join(STAGES)
    )
    requirement.set_defaults(run=_new)
    inventory = verbs.add_parser("inventory", help=inventory_verbs.HELP)
    inventory_verbs.declare(inventory)
    inventory.set_defaults(run=inventory_verbs.run)
    return parser


def _hypervisor(options: argparse.Namespace) -> Hypervisor | None:
    """The hypervisor whose guests' disks may be meant; None if the image is given and no libvirt answers."""
    try:
        return connect(options.uri, None, Inventory(), readonly=True)
    except ReclaimError:
        if options.image is None or options.uri is not None:
            raise
        return None


if __name__ == "__main__":
    sys.exit(main())
