"""Copies that go through pipes: `cat IMAGE | gzip > COPY`, `dd if=IMAGE | ssh HOST 'dd of=COPY'`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from reclaim.jobs.calls import Call
from reclaim.jobs.steps import Copy, Wrong
from reclaim.jobs.words import UNKNOWN, absolute

COMPRESSED = (
    "the copy is compressed: zeros take next to nothing in it, "
    "and whether a restore is sparse is the restore's to say (zstd -d --sparse, dd conv=sparse)"
)
#: measured with coreutils 9.1
SEEKS_OVER = "dd conv=sparse,notrunc leaves in an older copy what was there before where the image has zeros"
_COMPRESSORS = frozenset(
    "gzip pigz bzip2 pbzip2 lbzip2 xz pxz pixz zstd pzstd zstdmt lz4 lzop lzma lzip plzip brotli compress".split()  # noqa: SIM905
)
#: bytes of a copy that is no image: a partition table, a bootloader, a header of LUKS
_MOST_OF_A_PART = 64 * 1024**2
#: what passes its input on
_PASSES = frozenset(
    [
        "cat",
        "pv",
        "mbuffer",
        "buffer",
        "throttle",
        "tee",
        "gpg",
        "gpg2",
        "age",
        "openssl",
        "split",
        "sponge",
        "ts",
    ]
)
#: what reads a stream to its end and keeps nothing of it
_READERS = frozenset(
    [
        "wc",
        "cmp",
        "grep",
        "md5sum",
        "sha1sum",
        "sha256sum",
        "sha512sum",
        "b2sum",
        "cksum",
        "file",
        "xxd",
        "head",
        "tail",
    ]
)
_VALUED = {
    "pv": "-s -L -B -N -i -w -H -D -F -R -P --size --rate-limit --buffer-size --name --interval",
    "mbuffer": "-i -o -m -s -b -r -R -O -I -l",
    "zstd": "-o -T",
    "gzip": "-S",
    "xz": "-T -M",
    "pigz": "-p -b",
    "gpg": "-o -r --recipient --output --passphrase-file --passphrase --cipher-algo --batch-file",
    "openssl": "-pass -in -out -kfile -iter",
    "split": "-b -n -l -a -d",
    "tee": "",
    "head": "-c -n --bytes --lines",
    "tail": "-c -n --bytes --lines",
    "age": "-r -R -o -i",
}


def is_filter(name: str) -> bool:
    """Does it only pass on, or pack, what it reads?"""
    return (
        name in _COMPRESSORS
        or name in _PASSES
        or name in ("gunzip", "zcat", "unxz", "xzcat", "unzstd", "zstdcat")
    )


def pipes(calls: Iterable[Call]) -> dict[int, list[Call]]:
    """The calls of each pipeline, in their order."""
    found: dict[int, list[Call]] = {}
    for call in calls:
        if call.pipe:
            found.setdefault(call.pipe, []).append(call)
    return found


def read(group: list[Call], call: Call) -> tuple[Copy, list[Call]] | None:
    """The copy that begins with *call*, and the calls that make it; None where *call* reads no file for others."""
    sources = _reads(call, alone=len(group) == 1)
    if not sources:
        return None
    position = next((number for number, one in enumerate(group) if one is call), 0)
    stages = [call, *group[position + 1 :]]
    if _sink(stages)[0] == "/dev/null" or (
        stages[-1].name in _READERS and stages[-1].stdout is None
    ):
        return None
    used = [one for one in stages if is_filter(one.name) or one.name == "dd"]
    return _judged(call, sources, stages), used


def is_a_part(call: Call) -> bool:
    """Does `dd count=` or `head -c` copy only a few bytes, as of a partition table? With skip= it is one of many."""
    values = dict(text.partition("=")[::2] for text in call.texts)
    if {"skip", "iseek"} & set(values):
        return False
    if call.name == "dd":
        size = _bytes(values.get("bs") or values.get("ibs") or "512")
        count = _bytes(values.get("count", ""))
        in_bytes = "count_bytes" in values.get("iflag", "").split(",") or values.get(
            "count", ""
        ).endswith("B")
        length = count if in_bytes or count is None or size is None else count * size
    else:
        length = _bytes(_count_of_bytes(call.texts) or "")
    return length is not None and length <= _MOST_OF_A_PART


def _bytes(text: str) -> int | None:
    """A number of coreutils; None if it is none."""
    found = re.fullmatch(r"(\d{1,12})(c|w|b|[kKMGT](?:i?B)?)?B?", text)
    if found is None:
        return None
    letter = (found[2] or "c")[0]
    units = {
        "c": 1,
        "w": 2,
        "b": 512,
        "k": 1024,
        "K": 1024,
        "M": 1024**2,
        "G": 1024**3,
        "T": 1024**4,
    }
    return int(found[1]) * units[letter]


def _count_of_bytes(texts: list[str]) -> str | None:
    """What `head -c` and `tail -c` are given."""
    for number, text in enumerate(texts):
        if text in ("-c", "--bytes"):
            return texts[number + 1] if number + 1 < len(texts) else ""
        if text.startswith(("-c", "--bytes=")):
            return text.removeprefix("--bytes=").removeprefix("-c")
    return None


def _reads(call: Call, *, alone: bool) -> tuple[str, ...]:
    """The files that it reads onto its output or packs."""
    if call.name == "dd":
        values = dict(text.partition("=")[::2] for text in call.texts)
        if values.get("of") or (alone and call.stdout is None) or is_a_part(call):
            return ()
        texts = [values["if"]] if values.get("if") else []
    elif is_filter(call.name) and call.name != "tee":
        if any(
            text in ("-d", "--decompress", "-t", "--test", "-l", "--list")
            for text in call.texts
        ):
            return ()
        texts = _operands(call)
    elif (
        call.name in ("head", "tail")
        and _count_of_bytes(call.texts) is not None
        and not is_a_part(call)
    ):
        texts = _operands(call)
    else:
        texts = []
    if (
        not texts
        and call.stdin is not None
        and (is_filter(call.name) or call.name == "dd")
    ):
        texts = [call.stdin.text]
    prefix = f"{call.host}:" if call.host else ""
    return tuple(prefix + absolute(text, call.folder) for text in texts)


def _operands(call: Call) -> list[str]:
    valued, found, rest = _VALUED.get(call.name, "").split(), [], list(call.texts)
    if call.name == "openssl":
        return [value for option, value in pairwise(rest) if option == "-in"]
    if call.name == "mbuffer":
        return [value for option, value in pairwise(rest) if option == "-i"]
    while rest:
        text = rest.pop(0)
        if text in valued and rest:
            rest.pop(0)
        elif not text.startswith("-"):
            found.append(text)
    return found[:1] if call.name == "split" else found


def _judged(call: Call, sources: tuple[str, ...], stages: list[Call]) -> Copy:
    """By what the stream ends in."""
    packed = next(
        (
            one.name
            for one in stages
            if one.name in _COMPRESSORS or one.name in ("gpg", "gpg2")
        ),
        None,
    )
    target, conv = _sink(stages)
    sparse = "sparse" in conv
    good, store = "", ""
    wrong: tuple[Wrong, ...] = ()
    if packed and not any(
        one.name in ("gunzip", "zcat", "unzstd", "zstdcat") for one in stages
    ):
        store = COMPRESSED
    elif target is None:
        store = "where its output ends is not known"
    elif target.rpartition(":")[2].startswith("/dev/") and not sparse:
        good = "it ends on a device, which has no holes"
    elif target.rpartition(":")[2].startswith("/dev/"):
        text = "dd conv=sparse onto a device leaves there what was there before where the image has zeros"
        wrong = (Wrong(text, "drop conv=sparse"),)
    elif "notrunc" in conv and sparse:
        wrong = (Wrong(SEEKS_OVER, "drop notrunc, and write to a new file"),)
    elif sparse:
        good = "dd conv=sparse"
    elif target.startswith(UNKNOWN):
        store = (
            "whether it writes a file, and every zero into it, shows only when it runs"
        )
    else:
        text = f"{call.name} writes every zero into the copy"
        wrong = (
            Wrong(text, "use rsync --sparse, or cp --sparse=always, in its place"),
        )
    return Copy(
        call, call.name, sources, target or "", wrong, good, store, reads_devices=True
    )


def _sink(stages: list[Call]) -> tuple[str | None, list[str]]:
    """Where the stream ends, and how dd converts it there."""
    last = stages[-1]
    values = (
        dict(text.partition("=")[::2] for text in last.texts)
        if last.name == "dd"
        else {}
    )
    target = values.get("of") or (last.stdout.text if last.stdout is not None else None)
    if last.name == "tee" and target in (None, "/dev/null"):
        target = next((text for text in last.texts if not text.startswith("-")), target)
    if target is None:
        return None, []
    prefix = f"{last.host}:" if last.host else ""
    return prefix + absolute(target, last.folder), values.get("conv", "").split(",")
