"""What commands of virsh(1) do to guests and their images."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
from reclaim.jobs.words import UNKNOWN, Word, absolute, shown

_STOPS = {"shutdown", "destroy", "suspend", "managedsave", "save", "dompmsuspend"}
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
    """What the call does. A command line of several commands (`virsh "a; b"`) is read command by command."""
    words, elsewhere = _command(call)
    if len(words) == 1 and " " in words[0].text:
        for part in words[0].text.split(";"):
            inner = tuple(Word(one) for one in part.split())
            if inner:
                yield from _one(
                    replace(call, words=(call.words[0], *inner)),
                    list(inner),
                    elsewhere=elsewhere,
                )
        return
    if words:
        yield from _one(call, words, elsewhere=elsewhere)
    elif call.stdin is not None or call.pipe:
        yield NotUnderstood(
            f"{call.where}: virsh: its commands come from elsewhere", call.branch
        )


def _command(call: Call) -> tuple[list[Word], bool]:
    """The words from the command on; is it about another machine's guests?"""
    rest = list(call.words[1:])
    elsewhere = False
    while rest and rest[0].text.startswith("-"):
        option = rest.pop(0).text
        value = option.partition("=")[2]
        if option in _GLOBAL_VALUED and rest:
            value = rest.pop(0).text
        if option.startswith(("-c", "--connect")) and re.search(
            r"\+ssh|\+tls|\+tcp|://[^/]", value or option[2:]
        ):
            elsewhere = True
    return rest, elsewhere


def _one(call: Call, words: list[Word], *, elsewhere: bool) -> Iterator[Step]:
    name = words[0].text
    texts = [word.text for word in words[1:]]
    if name in (
        "blockcopy",
        "vol-download",
        "backup-begin",
        "vol-clone",
        "migrate",
        "qemu-monitor-command",
    ):
        yield from _copies(call, name, texts, elsewhere=elsewhere)
        return
    guest = _guest(texts)
    if elsewhere or guest is None:
        if guest is None and name in _STARTS and not elsewhere:
            yield Release(call, (), ("run",))
        return
    yield from _holds(call, name, guest, texts)


def _holds(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    if name in _STOPS:
        yield from _stop(call, name, guest, texts)
    elif name in _STARTS:
        yield Release(call, () if name in ("restore", "create") else (guest,), ("run",))
    elif name in _MERGES or (
        name == "blockjob" and {"--pivot", "--abort"} & set(texts)
    ):
        yield Release(call, (guest,), ("overlay",))
    elif name in ("snapshot-create-as", "snapshot-create"):
        yield from _snapshot(call, name, guest, texts)
    elif name == "domfstrim" and not any(
        text.startswith("--mountpoint") for text in texts
    ):
        yield TrimStep(call, (guest,))
    elif name == "domfsfreeze":
        doubt = "a frozen guest's filesystems are not written to, its swap and what has no filesystem may be"
        yield Hold(call, (guest,), "run", doubt)
    elif name == "domfsthaw":
        yield Release(call, (guest,), ("run",))
    elif name == "qemu-agent-command":
        text = " ".join(texts)
        if "guest-shutdown" in text or "guest-suspend-disk" in text:
            yield Hold(call, (guest,), "run")
        elif "freeze-freeze" in text:
            yield Hold(call, (guest,), "run", "a frozen guest's swap may be written to")
        elif "freeze-thaw" in text:
            yield Release(call, (guest,), ("run",))


def _stop(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    if name == "managedsave" and "--running" in texts:
        pass
    if name == "dompmsuspend" and not {"disk", "hybrid", "--target=disk"} & set(texts):
        yield Hold(
            call,
            (guest,),
            "run",
            "whether a guest that sleeps in memory is woken up is not known",
        )
        return
    yield Hold(call, (guest,), "run")


def _snapshot(call: Call, name: str, guest: str, texts: list[str]) -> Iterator[Step]:
    """External by --disk-only or an external diskspec; else the guest goes on writing to the same file."""
    if {"--print-xml", "--redefine"} & set(texts):
        return
    specs = [value for option, value in pairwise(texts) if option == "--diskspec"]
    specs += [one.partition("=")[2] for one in texts if one.startswith("--diskspec=")]
    spared = tuple(
        one.partition(",")[0]
        for one in specs
        if "snapshot=no" in one or "snapshot=internal" in one
    )
    external = "--disk-only" in texts or any(
        "snapshot=external" in one or "file=" in one for one in specs
    )
    if external:
        yield Hold(call, (guest,), "overlay", spared=spared)
    elif (
        name == "snapshot-create"
        and len([one for one in texts if not one.startswith("-")]) > 1
    ):
        yield Hold(
            call,
            (guest,),
            "overlay",
            "whether the snapshot's XML makes an external one is not read",
        )
    elif any(not one.isascii() for one in texts):
        yield Hold(
            call,
            (guest,),
            "overlay",
            "the options of the snapshot are put together when it runs",
        )


def _guest(texts: list[str]) -> str | None:
    """The domain: `--domain NAME`, else the first operand."""
    for number, text in enumerate(texts):
        if text == "--domain" and number + 1 < len(texts):
            return texts[number + 1]
        if text.startswith("--domain="):
            return text.partition("=")[2]
    operands = _operands(texts)
    return operands[0] if operands else None


def _operands(texts: list[str]) -> list[str]:
    found, skip = [], False
    for text in texts:
        if skip:
            skip = False
        elif text.startswith("-"):
            skip = "=" not in text and not _BOOLEAN.match(text) and len(text) > 1
        else:
            found.append(text)
    return found


def _option(texts: list[str], name: str) -> str | None:
    for number, text in enumerate(texts):
        if text == name and number + 1 < len(texts):
            return texts[number + 1]
        if text.startswith(f"{name}="):
            return text.partition("=")[2]
    return None


def _copies(
    call: Call, name: str, texts: list[str], *, elsewhere: bool
) -> Iterator[Step]:
    where, operands = call.where, _operands(texts)
    if elsewhere and name != "vol-download":
        yield NotUnderstood(
            f"{where}: virsh {name} acts on another machine: audit that one",
            call.branch,
        )
        return
    if name == "vol-download":
        yield _download(call, operands, texts)
        return
    if name in ("blockcopy", "backup-begin"):
        guest = _guest(texts) or UNKNOWN
        target = (
            (_option(texts, "--dest") or "".join(operands[2:3]))
            if name == "blockcopy"
            else ""
        )
        store = "QEMU writes the copy itself: declare the copy's path, so that the copy is judged"
        target = absolute(target, call.folder) if target else ""
        is_whole = {"--wait", "--finish"} <= set(texts)
        yield Copy(
            call,
            f"virsh {name}",
            (),
            target,
            store=store,
            at_once=True,
            of_guest=guest,
            is_whole=is_whole,
        )
        if target and not is_whole:
            yield Snapshot(call, UNKNOWN, target)
        yield Hold(
            call,
            (guest,),
            "overlay",
            f"virsh {name} makes a copy; the guest goes on writing to its image",
        )
        return
    if name == "qemu-monitor-command" and not re.search(
        r"backup|mirror|stop|cont", " ".join(texts)
    ):
        return
    said = shown(" ".join(texts))[:80]
    yield NotUnderstood(
        f"{where}: virsh {name} {said}: what it copies is not judged", call.branch
    )


def _download(call: Call, operands: list[str], texts: list[str]) -> Copy:
    """Writes every zero, unless with --sparse."""
    volume = _option(texts, "--vol") or (operands[0] if operands else UNKNOWN)
    target = _option(texts, "--file") or (operands[1] if len(operands) > 1 else UNKNOWN)
    wrong: tuple[Wrong, ...] = ()
    if "--sparse" not in texts:
        wrong = (
            Wrong(
                "virsh vol-download without --sparse writes every zero", "add --sparse"
            ),
        )
    source = volume if volume.startswith("/") else f"volume:{volume}"
    return Copy(
        call, "virsh vol-download", (source,), absolute(target, call.folder), wrong=wrong,
        good="virsh vol-download --sparse", reads_devices=True,
    )  # fmt: skip
