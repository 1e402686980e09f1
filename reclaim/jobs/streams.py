"""Copies that go through pipes: `cat IMAGE | gzip > COPY`, `dd if=IMAGE | ssh HOST 'dd of=COPY'`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from reclaim.jobs.calls import Call
from reclaim.jobs.steps import Copy, Wrong
from reclaim.jobs.words import UNKNOWN, absolute, is_sure, without_options

COMPRESSED = (
    "the copy is compressed: zeros take next to nothing in it, "
    "and the restore decides whether it is sparse (zstd -d --sparse, dd conv=sparse)"
)
#: measured with coreutils 9.1
SEEKS_OVER = "dd conv=sparse,notrunc does not overwrite older data of an existing copy with the zeros of the image"
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


#: options of a packer that writes no packed stream
_UNPACKS = frozenset(("-d", "--decompress", "-t", "--test", "-l", "--list"))
#: programs that name their input by an option
_INPUT_OPTION = {"openssl": "-in", "mbuffer": "-i"}


_UNPACKERS = frozenset(("gunzip", "zcat", "unzstd", "zstdcat"))
#: what packs or encrypts
_PACKERS = _COMPRESSORS | {"gpg", "gpg2"}


_FILTERS = _COMPRESSORS | _PASSES | _UNPACKERS | {"unxz", "xzcat"}


_FILTERS_AND_DD = _FILTERS | {"dd"}


def is_filter(name: str) -> bool:
    """True if it only passes its input on, or packs it."""
    return name in _FILTERS


def pipes(calls: Iterable[Call]) -> dict[int, list[Call]]:
    """The calls of each pipeline, in their order."""
    by_pipe: dict[int, list[Call]] = {}
    for call in calls:
        if call.pipe:
            by_pipe.setdefault(call.pipe, []).append(call)
    return by_pipe


def read(group: list[Call], call: Call) -> tuple[Copy, list[Call]] | None:
    """Return the copy that begins with *call*, and the calls that make it.

    None if *call* reads no file for others.
    """
    sources = _reads(call, alone=len(group) == 1)
    if not sources:
        return None
    stages = _from(call, group)
    if _keeps_nothing(stages):
        return None
    used = []
    for stage in stages:
        if stage.name in _FILTERS_AND_DD:
            used.append(stage)
    return _judged(call, sources, stages), used


def _from(call: Call, group: list[Call]) -> list[Call]:
    """*call* and those behind it in its pipeline."""
    position = 0
    for number, other in enumerate(group):
        if other is call:
            position = number
            break
    return [call, *group[position + 1 :]]


def _keeps_nothing(stages: list[Call]) -> bool:
    """True if the stream is thrown away or only read at its end."""
    last = stages[-1]
    if _sink(stages)[0] == "/dev/null":
        return True
    return last.name in _READERS and last.stdout is None


#: what makes dd begin behind the start
_SKIPS = frozenset(("skip", "iseek"))


def is_a_part(call: Call) -> bool:
    """True if `dd count=` or `head -c` copies only a few bytes, as of a partition table.

    With skip= it is one of many.
    """
    values = settings(call)
    if not _SKIPS.isdisjoint(values):
        return False
    length = _length(call, values)
    if length is None:
        return False
    return length <= _MOST_OF_A_PART


def _length(call: Call, values: dict[str, str]) -> int | None:
    """Bytes that the call copies; None if it copies all, or that number cannot be read."""
    if call.name == "dd":
        return _length_by_dd(values)
    given = _count_of_bytes(call.texts)
    return _bytes(given or "")


def _length_by_dd(values: dict[str, str]) -> int | None:
    given = values.get("count", "")
    count = _bytes(given)
    flags = values.get("iflag", "").split(",")
    if "count_bytes" in flags or given.endswith("B"):
        return count
    block = values.get("bs") or values.get("ibs") or "512"
    size = _bytes(block)
    if count is None or size is None:
        return count
    return count * size


def settings(call: Call) -> dict[str, str]:
    """The words of a dd: `if=IMAGE` is IMAGE by the name if."""
    return dict(text.partition("=")[::2] for text in call.texts)


_UNITS = {
    "c": 1,
    "w": 2,
    "b": 512,
    "k": 1024,
    "K": 1024,
    "M": 1024**2,
    "G": 1024**3,
    "T": 1024**4,
}


def _bytes(text: str) -> int | None:
    """Return a number of coreutils in bytes; None if it is none."""
    match = re.fullmatch(r"(\d{1,12})(c|w|b|[kKMGT](?:i?B)?)?B?", text)
    if match is None:
        return None
    letter = (match[2] or "c")[0]
    return int(match[1]) * _UNITS[letter]


def _count_of_bytes(texts: list[str]) -> str | None:
    """Return the number that `head -c` and `tail -c` are given; None without that option."""
    for number, text in enumerate(texts):
        if text in ("-c", "--bytes"):
            return "".join(texts[number + 1 : number + 2])
        if text.startswith(("-c", "--bytes=")):
            return text.removeprefix("--bytes=").removeprefix("-c")
    return None


def _reads(call: Call, *, alone: bool) -> tuple[str, ...]:
    """The files that it reads onto its output or packs."""
    texts = _files(call, alone=alone)
    if texts is None:
        return ()
    if not texts:
        texts = _standard_input(call)
    return tuple(_place(call, text) for text in texts)


def _standard_input(call: Call) -> list[str]:
    """The file that it reads by `<`."""
    if call.stdin is None or call.name not in _FILTERS_AND_DD:
        return []
    return [call.stdin.text]


def _place(call: Call, text: str) -> str:
    """*text* as a path, with the machine that the call runs on if that is another one."""
    path = absolute(text, call.folder)
    if not call.host:
        return path
    return f"{call.host}:{path}"


def _files_by_dd(call: Call, *, alone: bool) -> list[str] | None:
    """The `if=` of a dd; None if it writes a file itself, to no pipe, or a part alone."""
    values = settings(call)
    if values.get("of"):
        return None
    if alone and call.stdout is None:
        return None
    if is_a_part(call):
        return None
    source = values.get("if")
    if not source:
        return []
    return [source]


def _files(call: Call, *, alone: bool) -> list[str] | None:
    """The files that are named to dd, a filter, head or tail.

    None for a filter that unpacks, and for a dd that hands nothing on.
    """
    if call.name == "dd":
        return _files_by_dd(call, alone=alone)
    if call.name == "tee":
        return []
    if is_filter(call.name):
        if not _UNPACKS.isdisjoint(call.texts):
            return None
        return _operands(call)
    if call.name not in ("head", "tail"):
        return []
    if _count_of_bytes(call.texts) is None or is_a_part(call):
        return []
    return _operands(call)


def _operands(call: Call) -> list[str]:
    input_option = _INPUT_OPTION.get(call.name)
    if input_option is not None:
        return _values_of(input_option, call.texts)
    valued = _VALUED.get(call.name, "").split()
    operands = []
    rest = list(call.texts)
    while rest:
        text = rest.pop(0)
        if text in valued and rest:
            rest.pop(0)
        elif not text.startswith("-"):
            operands.append(text)
    if call.name == "split":
        return operands[:1]
    return operands


def _values_of(name: str, texts: list[str]) -> list[str]:
    return [value for option, value in pairwise(texts) if option == name]


def _judged(call: Call, sources: tuple[str, ...], stages: list[Call]) -> Copy:
    """Judge a stream by the place in which it ends."""
    target, conversions = _sink(stages)
    good, store = "", ""
    wrong: tuple[Wrong, ...] = ()
    if _ends_packed(stages):
        store = COMPRESSED
    elif target is None:
        store = "reclaim does not know the target of its output"
    elif "sparse" in conversions:
        wrong = _wrong_if_sparse(target, conversions)
        if not wrong:
            good = "dd conv=sparse"
    elif _is_on_a_device(target):
        good = "it ends on a device, which has no holes"
    elif not _is_file_or_known(target):
        store = "only a run shows whether it writes a file, and every zero into it"
    else:
        text = f"{call.name} writes every zero into the copy"
        advice = "use rsync --sparse, or cp --sparse=always, in its place"
        wrong = (Wrong(text, advice),)
    return Copy(
        call, call.name, sources, target or "", wrong, good, store, reads_devices=True
    )


def _ends_packed(stages: list[Call]) -> bool:
    """True if a stage packs or encrypts, and none unpacks."""
    names = {stage.name for stage in stages}
    if names & _UNPACKERS:
        return False
    return not names.isdisjoint(_PACKERS)


def _is_file_or_known(target: str) -> bool:
    """True unless *target* begins with a value that is not known: that may be a device."""
    host, _, path = target.rpartition(":")
    if host and path.startswith(f"{UNKNOWN}/"):
        return True  # from the folder on in which ssh begins
    return is_sure(path[:1])


def _is_on_a_device(target: str) -> bool:
    return target.rpartition(":")[2].startswith("/dev/")


def _wrong_if_sparse(target: str, conversions: list[str]) -> tuple[Wrong, ...]:
    """Return the faults of `conv=sparse` at *target*."""
    if _is_on_a_device(target):
        text = "dd conv=sparse onto a device does not overwrite older data there with the zeros of the image"
        return (Wrong(text, "drop conv=sparse"),)
    if "notrunc" in conversions:
        return (Wrong(SEEKS_OVER, "drop notrunc, and write to a new file"),)
    return ()


def _sink(stages: list[Call]) -> tuple[str | None, list[str]]:
    """The place in which the stream ends, and how dd converts it there."""
    last = stages[-1]
    values: dict[str, str] = {}
    if last.name == "dd":
        values = settings(last)
    target = values.get("of") or None
    if not target and last.stdout is not None:
        target = last.stdout.text
    if last.name == "tee" and target in (None, "/dev/null"):
        target = _first_operand(last.texts, target)
    if target is None:
        return None, []
    conversions = values.get("conv", "").split(",")
    return _place(last, target), conversions


def _first_operand(texts: list[str], otherwise: str | None) -> str | None:
    operands = without_options(texts)
    if not operands:
        return otherwise
    return operands[0]
