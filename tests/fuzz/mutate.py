"""Inputs made from seeds by changing them: what people write wrongly, and what the hostile would."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

#: what separates, quotes, escapes, ends or means something in one of the formats, or is at an edge of a number
NASTY = (
    *(b"\n", b"\r\n", b"\r", b"\t", b" ", b"\0", b"\x0b", b"\x1c", b"\x1b[31m", b"\xff\xfe", b"\xc2\x85"),
    *(b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xd9\xa3", "²".encode(), "𝟙".encode(), b"\xed\xa0\x80"),
    *(b"'", b'"', b"`", b"\\", b"\\\n", b"\\040", b"\\777", b"\\x", b"$", b"${", b"${a[@]}", b"$(id)", b"<<E\n"),
    *(b"=", b",", b":", b";", b"#", b"|", b"&&", b"(", b")", b"{", b"}", b"[", b"]", b"<", b">", b"&lt;", b"<!--"),
    *(b"-", b"--", b"%", b"%s", b"*", b"**", b"/***", b"?", b"../", b"/", b"//", b"~", b"!"),
    *(
        b"0",
        b"-1",
        b"1e999",
        b"NaN",
        b"9" * 25,
        b"9" * 5000,
        b"18446744073709551616",
        b"0x1a",
        b"1_0",
        b"true",
        b"null",
    ),
    *(b"/dev/vda", b"/dev/vdz9", b"UUID=", b"LABEL=", b"PARTUUID=x", b"root=", b"resume=/dev/vda2", b"device=/dev/vdb"),
    *(b"--sparse", b"--inplace", b"rsync ", b"sh -c ", b"bash -c '", b"env -S", b"nice -n", b"sudo ", b"@daily "),
    *(b"*/5 * * * * root ", b"[Service]\n", b"ExecStart=", b"Environment=", b"\tbackup\t", b"kernel ", b"menuentry"),
    *(
        b"<disk>",
        b"</disk>",
        b"<!ENTITY x SYSTEM 'file:///etc/passwd'>",
        b"&x;",
        b'"return"',
        b'"children"',
        b"[[backup]]",
    ),
)

Operation = tuple[int, int, int, int]


def apply(seed: bytes, operations: Sequence[Operation], pieces: Sequence[bytes] = NASTY) -> bytes:
    """*seed* changed by *operations*: what is done, where, with which piece, over how many bytes."""
    data = bytearray(seed)
    for kind, place, piece, length in operations:
        at = place % (len(data) + 1)
        if kind == 0:
            data[at:at] = pieces[piece % len(pieces)]
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2 and data:
            data[min(at, len(data) - 1)] = piece % 256
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            other = piece % (len(data) + 1)
            data[at:at] = data[other : other + length]
        else:
            lines = bytes(data).split(b"\n")
            one, other = place % len(lines), piece % len(lines)
            lines[one], lines[other] = lines[other], lines[one]
            data = bytearray(b"\n".join(lines))
    return bytes(data)


#: additions are the most: deleting comes next
_KINDS = (0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 5, 6)
_NUMBERS = st.integers(0, 2**16)
OPERATIONS = st.lists(st.tuples(st.sampled_from(_KINDS), _NUMBERS, _NUMBERS, st.integers(1, 60)), max_size=12)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """What hypothesis draws: a seed and what becomes of it."""
    return st.builds(apply, st.sampled_from(list(seeds)), OPERATIONS)


def random_input(random: Random, seeds: Sequence[bytes]) -> bytes:
    """The same without hypothesis, for long runs."""
    count = random.choice((1, 1, 2, 3, 6, 12))
    operations = [
        (random.choice(_KINDS), random.randrange(2**16), random.randrange(2**16), random.randint(1, 60))
        for _ in range(count)
    ]
    return apply(random.choice(seeds), operations)
