"""The steps of virsh(1): copies, holds and releases of guests and their images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from reclaim.jobs.calls import Call
from reclaim.jobs.steps import (
    Copy,
    Hold,
    NotUnderstood,
    Release,
    Snapshot,
    Step,
    TrimStep,
    Wrong,
)
from reclaim.jobs.words import (
    UNKNOWN,
    Word,
    absolute,
    shown,
    texts_of,
    without_options,
)

_STOPS = {"shutdown", "destroy", "suspend", "managedsave", "save"}
_STARTS = {"start", "resume", "restore", "reboot", "reset", "dompmwakeup", "create"}
_MERGES = {"blockcommit", "blockpull", "snapshot-delete", "snapshot-revert"}
_GLOBAL_VALUED = {
    "-c",
    "--connect",
    "-d",
    "--debug",
    "-e",
    "--escape",
    "-l",
    "--log",
    "-k",
    "-K",
}
_BOOLEAN = re.compile(
    r"--(?:live|config|current|persistent|all|name|wait|verbose|finish|pivot|active|async|abort|print-xml|no-metadata|"
    r"halt|disk-only|reuse-external|quiesce|atomic|sparse|running|paused|bypass-cache|graceful|force-boot|autodestroy|"
    r"shallow|blockdev|transient-job|raw|info|bytes|delete|children|metadata|validate|redefine)$"
)


def steps(call: Call) -> Iterator[Step]:
    """Yield the steps of the call. A command line of several commands (`virsh "a; b"`) is read command by command."""
    words, elsewhere = _command(call)
    if not words:
        if call.stdin is not None or call.pipe:
            text = "virsh: its commands come from elsewhere"
            yield NotUnderstood(f"{call.where}: {text}", call.branch)
        return
    first = words[0].text
    if len(words) > 1 or " " not in first:
        yield from _steps_of(call, words, elsewhere=elsewhere)
        return
    for command in first.split(";"):
        parts = list(map(Word, command.split()))
        if parts:
            part = replace(call, words=(call.words[0], *parts))
            yield from _steps_of(part, parts, elsewhere=elsewhere)


def _command(call: Call) -> tuple[list[Word], bool]:
    """Return the words from the command on, and True if it is about another machine's guests."""
    rest = list(call.words[1:])
    elsewhere = False
    while rest and rest[0].text.startswith("-"):
        option = rest.pop(0).text
        value = option.partition("=")[2]
        if option in _GLOBAL_VALUED and rest:
            value = rest.pop(0).text
        if option.startswith(("-c", "--connect")):
            uri = value or option[2:]
            if _ANOTHER_MACHINE.search(uri):
                elsewhere = True
    return rest, elsewhere


_ANOTHER_MACHINE = re.compile(r"\+ssh|\+tls|\+tcp|://[^/]")
_COPIES = (
    "blockcopy",
    "vol-download",
    "backup-begin",
    "vol-clone",
    "migrate",
    "qemu-monitor-command",
)


def _steps_of(call: Call, words: list[Word], *, elsewhere: bool) -> Iterator[Step]:
    name, *texts = texts_of(words)
    if name in _COPIES:
        yield from _copies(call, name, texts, elsewhere=elsewhere)
        return
    if elsewhere:
        return
    guest = _guest(texts)
    if guest is not None:
        yield from _holds(call, name, guest, texts)
    elif name in _STARTS:
        yield Release(call, (), ("run",))


def _holds(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    reader = _COMMANDS_OF_A_GUEST.get(name)
    if reader is not None:
        yield from reader(call, name, guest, texts)


def _stop(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    yield Hold(call, (guest,), "run")


def _suspend(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    doubt = ""
    if {"disk", "hybrid", "--target=disk"}.isdisjoint(texts):
        doubt = "reclaim does not know whether a suspended guest is woken up"
    yield Hold(call, (guest,), "run", doubt)


def _start(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    yield Release(call, (guest,), ("run",))


def _start_any(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    """The operand is a file, which may be any guest's."""
    yield Release(call, (), ("run",))


def _merge(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    yield Release(call, (guest,), ("overlay",))


def _blockjob(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    if not {"--pivot", "--abort"}.isdisjoint(texts):
        yield Release(call, (guest,), ("overlay",))


def _trim(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    if not any(text.startswith("--mountpoint") for text in texts):
        yield TrimStep(call, (guest,))


def _freeze(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    doubt = "a frozen guest does not write to filesystems, but may write to swap and to disks without one"
    yield Hold(call, (guest,), "run", doubt)


def _agent_command(
    call: Call, name: str, guest: str, texts: list[str]
) -> Iterator[Step]:
    text = " ".join(texts)
    if re.search("guest-shutdown|guest-suspend-disk", text):
        yield Hold(call, (guest,), "run")
    elif "freeze-freeze" in text:
        yield Hold(call, (guest,), "run", "a frozen guest may write to its swap")
    elif "freeze-thaw" in text:
        yield Release(call, (guest,), ("run",))


def _snapshot(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    """External by --disk-only or an external diskspec; else the guest goes on writing to the same file."""
    if not {"--print-xml", "--redefine"}.isdisjoint(texts):
        return
    specs = _diskspecs(texts)
    if "--disk-only" in texts or any(map(_EXTERNAL.search, specs)):
        spared = tuple(map(_target_of, filter(_NOT_EXTERNAL.search, specs)))
        yield Hold(call, (guest,), "overlay", spared=spared)
        return
    doubt = _doubt_of_snapshot(name, texts)
    if doubt:
        yield Hold(call, (guest,), "overlay", doubt)


def _doubt_of_snapshot(name: str, texts: list[str]) -> str:
    """Why the snapshot may be an external one; "" if it is not."""
    if name == "snapshot-create" and len(without_options(texts)) > 1:
        return "reclaim does not read whether the snapshot's XML makes an external one"
    if all(map(str.isascii, texts)):
        return ""
    return "the options of the snapshot are put together when it runs"


_COMMANDS_OF_A_GUEST: dict[
    str, Callable[[Call, str, str, list[str]], Iterator[Step]]
] = {
    **dict.fromkeys(_STOPS, _stop),
    "dompmsuspend": _suspend,
    **dict.fromkeys(_STARTS, _start),
    **dict.fromkeys(("restore", "create"), _start_any),
    **dict.fromkeys(_MERGES, _merge),
    "blockjob": _blockjob,
    **dict.fromkeys(("snapshot-create-as", "snapshot-create"), _snapshot),
    "domfstrim": _trim,
    "domfsfreeze": _freeze,
    "domfsthaw": _start,
    "qemu-agent-command": _agent_command,
}


_EXTERNAL = re.compile(r"snapshot=external|file=")
_NOT_EXTERNAL = re.compile(r"snapshot=no|snapshot=internal")


def _diskspecs(texts: list[str]) -> list[str]:
    """The values of all --diskspec."""
    specs = []
    for option, value in pairwise(texts):
        if option == "--diskspec":
            specs.append(value)
    for text in texts:
        if text.startswith("--diskspec="):
            specs.append(text.partition("=")[2])
    return specs


def _target_of(diskspec: str) -> str:
    return diskspec.partition(",")[0]


def _guest(texts: list[str]) -> str | None:
    """Return the domain: `--domain NAME`, else the first operand."""
    named = _option(texts, "--domain")
    if named is not None:
        return named
    operands = _operands(texts)
    if not operands:
        return None
    return operands[0]


def _operands(texts: list[str]) -> list[str]:
    operands = []
    is_value = False
    for text in texts:
        if is_value:
            is_value = False
        elif not text.startswith("-"):
            operands.append(text)
        elif len(text) > 1 and "=" not in text:
            is_value = _BOOLEAN.match(text) is None
    return operands


def _option(texts: list[str], name: str) -> str | None:
    """Return the value of `NAME VALUE` or `NAME=VALUE`, the first one of both."""
    start = f"{name}="
    for number, text in enumerate(texts):
        if text.startswith(start):
            return text.removeprefix(start)
        if text == name and number + 1 < len(texts):
            return texts[number + 1]
    return None


def _copies(
    call: Call, name: str, texts: list[str], *, elsewhere: bool
) -> Iterator[Step]:
    if name == "vol-download":
        yield _download(call, _operands(texts), texts)
    elif elsewhere:
        text = f"virsh {name} acts on another machine: audit that one"
        yield NotUnderstood(f"{call.where}: {text}", call.branch)
    elif name in ("blockcopy", "backup-begin"):
        yield from _copy_by_qemu(call, name, texts)
    elif name != "qemu-monitor-command" or _MAY_COPY.search(" ".join(texts)):
        command = shown(" ".join(texts))[:80]
        text = f"virsh {name} {command}: reclaim does not judge its copy"
        yield NotUnderstood(f"{call.where}: {text}", call.branch)


_MAY_COPY = re.compile(r"backup|mirror|stop|cont")


def _copy_by_qemu(call: Call, name: str, texts: list[str]) -> Iterator[Step]:
    """A copy that the guest's QEMU makes, while the guest goes on."""
    guest = _guest(texts) or UNKNOWN
    target = ""
    if name == "blockcopy":
        target = _option(texts, "--dest") or "".join(_operands(texts)[2:3])
    if target:
        target = absolute(target, call.folder)
    is_whole = {"--wait", "--finish"} <= set(texts)
    yield Copy(
        call,
        f"virsh {name}",
        (),
        target,
        store="QEMU writes the copy itself: declare the copy's path, so that the copy is judged",
        at_once=True,
        of_guest=guest,
        is_whole=is_whole,
    )
    if target and not is_whole:
        yield Snapshot(call, UNKNOWN, target)
    doubt = f"virsh {name} makes a copy; the guest goes on writing to its image"
    yield Hold(call, (guest,), "overlay", doubt)


def _download(call: Call, operands: list[str], texts: list[str]) -> Copy:
    """Writes every zero, unless with --sparse."""
    first, second, *_ = (*operands, UNKNOWN, UNKNOWN)
    volume = _option(texts, "--vol") or first
    target = _option(texts, "--file") or second
    wrong: tuple[Wrong, ...] = ()
    if "--sparse" not in texts:
        text = "virsh vol-download without --sparse writes every zero"
        wrong = (Wrong(text, "add --sparse"),)
    source = volume
    if not volume.startswith("/"):
        source = f"volume:{volume}"
    return Copy(
        call,
        "virsh vol-download",
        (source,),
        absolute(target, call.folder),
        wrong=wrong,
        good="virsh vol-download --sparse",
        reads_devices=True,
    )
