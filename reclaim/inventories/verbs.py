"""The verb `inventory`: init, check, explain and schema."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from reclaim.base.errors import ReclaimError
from reclaim.base.text import counted, printable
from reclaim.handles.clock import this_machines
from reclaim.handles.hypervisor import Hypervisor, connect
from reclaim.inventories import checked, explained, schema, starter
from reclaim.inventory import Inventory, InventoryFile, read_file
from reclaim.inventory.nearest import meant
from reclaim.requirement import catalogue

#: the inventory that is meant if none is named
_FILE = Path("inventory.toml")
HELP = "write an inventory, check it, or explain what it means for a guest"


def declare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `inventory` to *parser*."""
    verbs = parser.add_subparsers(
        dest="inventory_verb", required=True, metavar="{init,check,explain,schema}"
    )
    _declare_init(verbs.add_parser("init", help="write one from the guests here"))
    _declare_check(
        verbs.add_parser(
            "check",
            help="list mistakes (status 2), and names that meet no guest, waivers that end, and the like (status 1)",
        )
    )
    _declare_explain(
        verbs.add_parser(
            "explain", help="list the settings for a guest, and the line of each"
        )
    )
    printing = verbs.add_parser("schema", help="print its JSON schema, for editors")
    printing.set_defaults(do=_schema)


def run(options: argparse.Namespace) -> int:
    """Do it. Return 0, or for `check` 1 if there is something to look at. Raises ReclaimError for wrong use."""
    status: int = options.do(options)
    return status


def _declare_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="a new file (default: standard output)",
    )
    _declare_hypervisor(parser)
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
    _declare_hypervisor(parser)
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
    _declare_hypervisor(parser)
    parser.add_argument(
        "--on",
        metavar="NAME",
        help="the name of the guest's hypervisor: then none is asked",
    )
    parser.set_defaults(do=_explain)


def _declare_hypervisor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--uri", help="libvirt URI of the guests (default: qemu:///system)"
    )


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


def _init(options: argparse.Namespace) -> int:
    output: Path | None = options.output
    if output is not None and os.path.lexists(output):
        raise ReclaimError(
            f"--output {output}: it is there already: give a new name, or remove it"
        )
    with _connected(Inventory(), options.uri, readonly=False) as (hypervisor,):
        text = starter.text(hypervisor)
    if output is None:
        print(text, end="")  # noqa: T201
    else:
        starter.write(output, text)
        _say(str(output))
    return 0


def _check(options: argparse.Namespace) -> int:
    file = read_file(options.file, catalogue())
    if options.no_guests:
        return _report(file, list(checked.too_short(file)), "no guest was looked for")
    given: str = options.hosts or ""
    hosts: list[str | None] = [host for host in given.split(",") if host]
    with _connected(file.inventory, options.uri, hosts or [None]) as hypervisors:
        names = ", ".join(printable(each.name) for each in hypervisors)
        number = sum(len(each.guests) for each in hypervisors)
        here = f"{counted(number, 'guest')} of {names}"
        return _report(file, checked.remarks(file, hypervisors), here)


def _report(file: InventoryFile, remarks: list[str], here: str) -> int:
    for remark in remarks:
        _say(remark)
    if remarks:
        return 1
    _say(f"{file.path}: no mistakes; {here}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    file: InventoryFile = read_file(options.inventory, catalogue())
    guest: str = options.guest
    if options.on is not None:
        part = file.inventory.on_hypervisor(options.on)
        _print_explained(file, part, guest, options.on, this_machines())
        return 0
    with _connected(file.inventory, options.uri) as (hypervisor,):
        if guest not in hypervisor.guest_names:
            close = meant(guest, hypervisor.guest_names)
            raise ReclaimError(
                f"no guest of {hypervisor.name} is called {guest}{close}; for a guest of another hypervisor give its "
                "name with --on NAME"
            )
        _print_explained(
            file, hypervisor.inventory, guest, hypervisor.name, hypervisor.now()
        )
    return 0


def _print_explained(
    file: InventoryFile, part: Inventory, guest: str, hypervisor: str, now: datetime
) -> None:
    _say(f"{guest} on {hypervisor}, by {file.path}")
    for line in explained.lines(file, part, guest, now):
        _say(f"  {line}")


def _say(text: str) -> None:
    print(printable(text))  # noqa: T201


def _schema(_options: argparse.Namespace) -> int:
    print(schema.text(), end="")  # noqa: T201
    return 0
