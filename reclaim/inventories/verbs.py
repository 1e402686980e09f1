"""The verb `inventory`: init, check, explain and schema."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reclaim import options, verbs
from reclaim.base.errors import ReclaimError
from reclaim.base.nearest import meant
from reclaim.base.text import counted, printable
from reclaim.handles.clock import this_machines
from reclaim.handles.hypervisor import Hypervisor, connect
from reclaim.inventories import checked, explained, schema, starter
from reclaim.inventory import Inventory, InventoryFile, read_file
from reclaim.requirement import catalogue

#: the inventory that is meant if none is named
_FILE = Path("inventory.toml")


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `inventory` to *parser*."""
    own = parser.add_subparsers(
        dest="inventory_verb", required=True, metavar="{init,check,explain,schema}"
    )
    _declare_init(own.add_parser("init", help="write one from the guests here"))
    _declare_check(
        own.add_parser(
            "check",
            help="list mistakes (status 2), and names that meet no guest, waivers that end, and the like (status 1)",
        )
    )
    _declare_explain(
        own.add_parser(
            "explain", help="list the settings for a guest, and the line of each"
        )
    )
    printing = own.add_parser("schema", help="print its JSON schema, for editors")
    printing.set_defaults(do=_schema)


@dataclass(frozen=True)
class Printer:
    """How the command prints: *say* one line, of whatever text, and *show* a whole document as it is.

    *show* returns the exit status.
    """

    say: Callable[[str], None]
    show: Callable[[str], int]


def run(given: argparse.Namespace, printer: Printer) -> int:
    """Do it. Return 0, or for `check` 1 if there is something to look at. Raises ReclaimError for wrong use."""
    status: int = given.do(given, printer)
    return status


def _declare_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="a new file (default: standard output)",
    )
    verbs.declare_uri(parser)
    parser.set_defaults(do=_init)


def _declare_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        default=_FILE,
        help=f"the inventory (default: {_FILE})",
    )
    parser.add_argument(
        "--no-guests",
        action="store_true",
        help="check the file alone: ask no hypervisor for its guests",
    )
    verbs.declare_uri(parser)
    parser.add_argument(
        "--hosts",
        metavar="HOST,…",
        help="the hypervisors that the file serves, such as ssh://root@kvm1,ssh://root@kvm2",
    )
    parser.set_defaults(do=_check)


def _declare_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST", help="the name of a guest")
    parser.add_argument(
        "--inventory",
        metavar="FILE",
        type=Path,
        default=_FILE,
        help=f"the inventory (default: {_FILE})",
    )
    verbs.declare_uri(parser)
    parser.add_argument(
        "--on",
        metavar="NAME",
        help="the name of the guest's hypervisor: then none is asked",
    )
    parser.set_defaults(do=_explain)


@contextmanager
def _connected(
    inventory: Inventory,
    uri: str | None,
    hosts: Sequence[str | None] = (None,),
    *,
    readonly: bool = True,
) -> Iterator[list[Hypervisor]]:
    """Yield the hypervisors. None of them is changed; *readonly* does for all but a look into guests."""
    with ExitStack() as stack:
        connected = []
        for host in hosts:
            hypervisor = connect(uri, host, inventory, readonly=readonly)
            stack.callback(hypervisor.close)
            connected.append(hypervisor)
        yield connected


def _init(given: argparse.Namespace, printer: Printer) -> int:
    path: Path | None = given.output
    if path is not None:
        starter.expect_absent(path)
    with _connected(Inventory(), given.uri, readonly=False) as (hypervisor,):
        text = starter.text(hypervisor)
    if path is None:
        return printer.show(text)
    starter.write(path, text)
    printer.say(str(path))
    return 0


def _check(given: argparse.Namespace, printer: Printer) -> int:
    file = read_file(given.file, catalogue())
    if given.no_guests:
        remarks = list(checked.too_short(file))
        return _report(file, remarks, "no guest was looked for", printer)
    hosts: Sequence[str | None] = options.listed(given.hosts) or (None,)
    with _connected(file.inventory, given.uri, hosts) as hypervisors:
        names = ", ".join(printable(each.name) for each in hypervisors)
        number = sum(len(each.guests) for each in hypervisors)
        here = f"{counted(number, 'guest')} of {names}"
        return _report(file, checked.remarks(file, hypervisors), here, printer)


def _report(
    file: InventoryFile, remarks: list[str], here: str, printer: Printer
) -> int:
    for remark in remarks:
        printer.say(remark)
    if remarks:
        return 1
    printer.say(f"{file.path}: no mistakes; {here}")
    return 0


def _explain(given: argparse.Namespace, printer: Printer) -> int:
    file = read_file(given.inventory, catalogue())
    guest: str = given.guest
    if given.on is not None:
        part = file.inventory.on_hypervisor(given.on)
        lines = explained.lines(file, part, guest, this_machines())
        return _print_explained(file, guest, given.on, lines, printer)
    with _connected(file.inventory, given.uri) as (hypervisor,):
        if guest not in hypervisor.guest_names:
            close = meant(guest, hypervisor.guest_names)
            raise ReclaimError(
                f"no guest of {hypervisor.name} is called {guest}{close}; for a guest of another hypervisor give its "
                "name with --on NAME"
            )
        lines = explained.lines(file, hypervisor.inventory, guest, hypervisor.now())
        return _print_explained(file, guest, hypervisor.name, lines, printer)


def _print_explained(
    file: InventoryFile,
    guest: str,
    hypervisor: str,
    lines: Sequence[str],
    printer: Printer,
) -> int:
    printer.say(f"{guest} on {hypervisor}, by {file.path}")
    for line in lines:
        printer.say(f"  {line}")
    return 0


def _schema(_given: argparse.Namespace, printer: Printer) -> int:
    return printer.show(schema.text())
