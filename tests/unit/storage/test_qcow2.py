"""The fields of qcow2 headers and their snapshot tables, from bytes."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from reclaim.base.errors import NotAssessable
from reclaim.storage import qcow2
from reclaim.storage.qcow2 import Named, Qcow2
from tests.images import qcow2_header

MIB = 1024**2
LENGTH = 4 * MIB
BACKING_FORMAT, FEATURE_NAMES, DATA_FILE = 0xE2792ACA, 0x6803F857, 0x44415441


def image(tail: bytes = b"", **fields: Any) -> bytes:
    """The first bytes of an image: a header, and what follows it."""
    return qcow2_header(**fields) + tail


def reading(data: bytes) -> qcow2.Read:
    return lambda offset, length: data[offset : offset + length]


def parsed(data: bytes, length: int | None = LENGTH) -> Qcow2:
    return qcow2.parse(reading(data), length, "/srv/web.qcow2")


def extension(kind: int, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack(">II", kind, size) + data + bytes(-len(data) % 8)


# The header -----------------------------------------------------------------------------------


def test_a_header_is_read() -> None:
    found = parsed(image(snapshots=2, snapshots_at=262_144))
    assert found == Qcow2(
        version=3,
        virtual=64 * MIB,
        cluster=65_536,
        l1_end=196_616,
        snapshots=2,
        backing=None,
        encrypted=False,
        external_data=False,
        snapshots_at=262_144,
        extensions_at=104,
        extensions_end=65_536,
    )


def test_a_version_2_ends_before_the_features() -> None:
    data = image(version=2, incompatible=0xFFFF, refcount_order=99, header_length=0)
    found = parsed(data[:72])
    assert (found.version, found.extensions_at, found.external_data, found.corrupt) == (2, 72, False, False)


@pytest.mark.parametrize(
    ("bit", "name"), [(1 << 1, "corrupt"), (1 << 2, "external_data"), (1 << 4, "extended_l2"), (1 << 0, "")]
)
def test_each_feature_has_its_bit(bit: int, name: str) -> None:
    found = parsed(image(incompatible=bit))
    told = {flag for flag in ("corrupt", "external_data", "extended_l2") if getattr(found, flag)}
    assert told == ({name} if name else set())


@pytest.mark.parametrize("crypt", [1, 2])
def test_an_encrypted_image_is_not_plain(crypt: int) -> None:
    assert parsed(image(crypt=crypt)).encrypted
    assert not parsed(image(crypt=crypt)).is_plain


def test_what_is_plain() -> None:
    plain = parsed(image())
    assert plain.is_plain
    assert replace(plain, backing="base", corrupt=True).is_plain
    assert not replace(plain, snapshots=1).is_plain
    assert not replace(plain, external_data=True).is_plain


def test_the_name_of_the_backing_file_is_of_any_bytes_and_ends_with_its_nul() -> None:
    name = b"/srv/ba\xffse\0junk"
    found = parsed(image(name, backing_at=104, backing_size=len(name)))
    assert found.backing == "/srv/ba\udcffse"
    assert found.extensions_end == 104


@pytest.mark.parametrize("raw", [b"", b"\0abc"])
def test_an_empty_name_is_none(raw: bytes) -> None:
    assert parsed(image(raw, backing_at=104, backing_size=len(raw))).backing is None


def test_the_tables_of_an_image() -> None:
    head = parsed(image(virtual=10 * 65_536 + 1, l1_count=1))
    assert head.tables == 11 * 10 + 16 * 65_536
    assert replace(head, extended_l2=True).tables == 11 * 18 + 16 * 65_536


@pytest.mark.parametrize("length", [0, 4, 71])
def test_a_file_that_ends_in_its_header_is_broken(length: int) -> None:
    with pytest.raises(NotAssessable, match=r"/srv/web\.qcow2: .*ends within it"):
        parsed(image()[:length])


def test_a_version_3_that_ends_in_its_features_is_broken() -> None:
    with pytest.raises(NotAssessable, match="ends within it"):
        parsed(image()[:103])
    assert parsed(image()[:104]).version == 3


def test_a_backing_name_that_ends_with_the_file_is_broken() -> None:
    with pytest.raises(NotAssessable, match="ends within it"):
        parsed(image(b"base", backing_at=104, backing_size=5))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": 1}, "version 1"),
        ({"version": 4}, "version 4"),
        ({"cluster_bits": 8}, r"2\^8 bytes"),
        ({"cluster_bits": 22}, r"2\^22 bytes"),
        ({"l1_count": 4 * MIB + 1}, "larger than any"),
        ({"backing_at": 200, "backing_size": 1024}, "larger than any"),
        ({"snapshots": 65_537}, "larger than any"),
        ({"l1_at": LENGTH - 7}, "truncated"),
        ({"backing_at": 65_000, "backing_size": 537}, "behind any file"),
        ({"snapshots_at": 1 << 62}, "behind any file"),
        ({"refcount_order": 7}, r"2\^7 bits"),
        ({"header_length": 103}, "103 bytes"),
        ({"header_length": 65_537}, "65537 bytes"),
        ({"virtual": 512 * MIB + 1}, "too short for 536870913 bytes"),
        ({"virtual": 256 * MIB + 1, "incompatible": 1 << 4}, "too short"),
    ],
)
def test_a_number_beyond_its_limit_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(NotAssessable, match=words) as caught:
        parsed(image(**fields))
    assert "/srv/web.qcow2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"cluster_bits": 9, "virtual": 32_768},
        {"cluster_bits": 21, "virtual": MIB},
        {"snapshots": 65_536},
        {"l1_at": LENGTH - 8},
        {"refcount_order": 6},
        {"header_length": 65_536},
        {"virtual": 512 * MIB},
        {"virtual": 256 * MIB, "incompatible": 1 << 4},
        {"snapshots_at": (1 << 62) - 1},
        {"backing_size": 1023},
    ],
)
def test_a_number_at_its_limit_is_taken(fields: dict[str, int]) -> None:
    assert parsed(image(bytes(65_536), **fields)).version == 3


def test_the_tables_of_a_device_are_not_compared_with_its_length() -> None:
    data = image(l1_at=LENGTH)
    assert parsed(data, None).l1_end == LENGTH + 8
    with pytest.raises(NotAssessable, match="behind any file"):
        parsed(image(l1_at=1 << 62), None)


# Names ----------------------------------------------------------------------------------------


def named(tail: bytes, **fields: Any) -> Named:
    data = image(tail, **fields)
    return qcow2.named(reading(data), parsed(data), "/srv/web.qcow2")


def test_the_names_in_extensions() -> None:
    tail = extension(BACKING_FORMAT, b"raw") + extension(FEATURE_NAMES, bytes(48)) + extension(DATA_FILE, b"a\xff.raw")
    assert named(tail + bytes(8), incompatible=1 << 2) == Named(None, "raw", "a\udcff.raw")


def test_a_data_file_counts_with_its_feature_alone() -> None:
    assert named(extension(DATA_FILE, b"a.raw") + bytes(8)) == Named(None, "", None)


def test_the_first_of_several_names_counts() -> None:
    tail = extension(BACKING_FORMAT, b"qcow2") + extension(BACKING_FORMAT, b"raw") + bytes(8)
    assert named(tail).backing_format == "qcow2"


def test_the_end_of_the_extensions_is_kept() -> None:
    assert named(bytes(8) + extension(BACKING_FORMAT, b"raw")).backing_format == ""
    # the name of the backing file begins where the next extension would
    found = named(extension(BACKING_FORMAT, b"raw"), backing_at=104, backing_size=11)
    assert found.backing_format == ""


def test_a_name_is_cut_at_the_longest() -> None:
    tail = extension(BACKING_FORMAT, b"x" * 2000) + bytes(8)
    assert len(named(tail).backing_format) == 1023


@pytest.mark.parametrize("length", [17, 2**32 - 1])
def test_an_extension_beyond_the_header_is_refused(length: int) -> None:
    with pytest.raises(NotAssessable, match=r"/srv/web\.qcow2: .*longer than the header"):
        named(extension(BACKING_FORMAT, b"raw", length) + bytes(8))


def test_a_table_of_64_kib_is_all_that_is_read() -> None:
    asked: list[int] = []
    data = image(cluster_bits=21, virtual=MIB)

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    qcow2.named(read, parsed(data), "x")
    assert asked == [65_536]
    empty = replace(parsed(data), extensions_at=200, extensions_end=104)
    assert qcow2.named(read, empty, "x") == Named()
    assert len(asked) == 1


# Snapshots ------------------------------------------------------------------------------------


def snapshot(name: bytes, ident: bytes = b"1", extra: int = 24) -> bytes:
    """An entry of the snapshot table, padded to 8 bytes."""
    entry = struct.pack(">QIHHIIQII", 0, 1, len(ident), len(name), 0, 0, 0, 0, extra) + bytes(extra) + ident + name
    return entry + bytes(-len(entry) % 8)


def names(count: int, table: bytes, most: int = 9) -> list[str]:
    return qcow2.snapshot_names(parsed(image(snapshots=count)), table, most)


def test_the_names_of_snapshots() -> None:
    table = snapshot(b"monday") + snapshot(b"t\xc3\xbcr", b"22", 16) + snapshot(b"\xff", extra=0)
    assert names(3, table) == ["monday", "tür", "\\xff"]
    assert names(2, table) == ["monday", "tür"]
    assert names(3, table, most=1) == ["monday"]
    assert names(0, table) == []


def test_a_table_that_is_broken_off_has_fewer_names() -> None:
    table = snapshot(b"monday") + snapshot(b"tuesday")
    end = len(snapshot(b"monday"))
    assert names(2, table[: end + 39]) == ["monday"]
    assert names(2, table[: end + 40 + 24 + 1 + 6]) == ["monday"]
    assert names(2, table[: end + 40 + 24 + 1 + 7]) == ["monday", "tuesday"]
    assert names(9, table) == ["monday", "tuesday"]
    assert names(1, b"") == []


def test_lengths_that_a_guest_made_up_end_the_list() -> None:
    entry = struct.pack(">QIHHIIQII", 0, 1, 65_535, 65_535, 0, 0, 0, 0, 2**32 - 1)
    assert names(2, entry + bytes(100)) == []
