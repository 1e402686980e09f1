"""Copies that go through pipes, and those that are read and not kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.jobs.steps import Copy
from reclaim.jobs.streams import COMPRESSED, is_a_part, is_filter, pipes, read
from tests.jobs import IMAGES, calls_of, declared_job, judged, rsync, says_version

__all__ = ["rsync"]


@pytest.mark.parametrize(
    "command",
    [f"cat {IMAGES}/web.qcow2 >/dev/null", f"pv {IMAGES}/web.qcow2 | sha256sum", f"dd if={IMAGES}/db.img of=/dev/null"],
)
def test_what_is_only_read_is_not_copied(tmp_path: Path, rsync: Path, command: str) -> None:
    says_version(rsync, "3.4.1")
    assert "no command in it copies" in judged(declared_job(tmp_path, "job.sh", text=f"#!/bin/sh\n{command}\n")).reason


DB = "/images/db.img"


def read_from(text: str) -> tuple[Copy, list[str]] | None:
    """The copy that the first command of a pipeline begins, and the names of the commands that make it."""
    calls = calls_of(f"{text}\n")
    stream = read(calls, calls[0])
    return None if stream is None else (stream[0], [call.name for call in stream[1]])


@pytest.mark.parametrize(
    ("text", "source", "target", "makers"),
    [
        ("cat /images/db.img > /b/db.img", DB, "/b/db.img", ["cat"]),
        ("cat < /images/db.img > /b/db.img", DB, "/b/db.img", ["cat"]),
        ("cat /images/db.img | pv | dd of=/b/db.img", DB, "/b/db.img", ["cat", "pv", "dd"]),
        ("dd if=/images/db.img | dd of=b/db.img", DB, "/work/b/db.img", ["dd", "dd"]),
        ("dd if=/images/db.img > /b/db.img", DB, "/b/db.img", ["dd"]),
        ("dd < /images/db.img > /b/db.img", DB, "/b/db.img", ["dd"]),
        ("pv -L 10m -s 5G /images/db.img > /b/db.img", DB, "/b/db.img", ["pv"]),
        ("pv /images/db.img | tee /b/db.img", DB, "/b/db.img", ["pv", "tee"]),
        ("pv /images/db.img | tee -a /b/db.img > /dev/null", DB, "/b/db.img", ["pv", "tee"]),
        ("cat /images/db.img | ssh nas 'cat > /b/db.img'", DB, "nas:/b/db.img", ["cat", "cat"]),
        ("dd if=/images/db.img | ssh nas dd of=/b/db.img", DB, "nas:/b/db.img", ["dd", "dd"]),
        ("mbuffer -i /images/db.img -m 1G > /b/db.img", DB, "/b/db.img", ["mbuffer"]),
        ("tail -c +1 /images/db.img > /b/db.img", DB, "/b/db.img", []),
        ("head -c 10G /images/db.img > /b/db.img", DB, "/b/db.img", []),
        ("cd /images; cat db.img > db.copy", DB, "/images/db.copy", ["cat"]),
    ],
)
def test_a_stream_writes_every_zero_where_it_ends(text: str, source: str, target: str, makers: list[str]) -> None:
    stream = read_from(text)
    assert stream is not None
    copy, names = stream
    assert (copy.sources, copy.target, names) == ((source,), target, makers)
    assert copy.reads_devices
    assert len(copy.wrong) == 1
    assert (copy.good, copy.store) == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "gzip -c /images/db.img > /b/db.gz",
        "gzip /images/db.img",
        "zstd -T 0 /images/db.img -o /b/db.zst",
        "cat /images/db.img | zstd > /b/db.zst",
        "dd if=/images/db.img | ssh nas 'gzip > /b/db.gz'",
        "openssl enc -in /images/db.img -out /b/db | gpg -e > /b/db",
        "gpg -r me -e /images/db.img",
        "pigz -p 4 -k /images/db.img",
        "split -b 1G /images/db.img /b/part | xz",
    ],
)
def test_a_stream_that_is_packed_has_no_holes_to_keep(text: str) -> None:
    stream = read_from(text)
    assert stream is not None
    copy, _ = stream
    assert (copy.sources, copy.store, copy.wrong) == ((DB,), COMPRESSED, ())


@pytest.mark.parametrize(
    ("text", "is_packed"),
    [
        ("cat /images/db.img | gzip | ssh nas 'gunzip > /b/db.img'", False),
        ("cat /images/db.img | gzip | zcat > /b/db.img", False),
        ("cat /images/db.img | age -r x > /b/db.age", False),
    ],
)
def test_a_stream_that_is_unpacked_again_is_none(text: str, *, is_packed: bool) -> None:
    stream = read_from(text)
    assert stream is not None
    assert (stream[0].store == COMPRESSED) is is_packed
    assert bool(stream[0].wrong) is not is_packed


@pytest.mark.parametrize(
    ("text", "is_wrong", "is_good"),
    [
        ("cat /images/db.img | dd of=/b/db.img conv=sparse", False, True),
        ("cat /images/db.img | dd of=/b/db.img conv=fsync,sparse", False, True),
        ("cat /images/db.img | dd of=/b/db.img conv=sparse,notrunc", True, False),
        ("cat /images/db.img | dd of=/b/db.img conv=fsync", True, False),
        ("cat /images/db.img | dd of=/dev/vg/db", False, True),
        ("cat /images/db.img > /dev/vg/db", False, True),
        ("cat /images/db.img | dd of=/dev/vg/db conv=sparse", True, False),
        ("cat /images/db.img | ssh nas 'dd of=/dev/vg/db'", False, True),
        ("cat /images/db.img | ssh nas 'dd of=/dev/vg/db conv=sparse'", True, False),
    ],
)
def test_a_device_has_no_holes_and_a_file_gets_them_by_dd(text: str, *, is_wrong: bool, is_good: bool) -> None:
    stream = read_from(text)
    assert stream is not None
    copy, _ = stream
    assert (bool(copy.wrong), bool(copy.good), copy.store) == (is_wrong, is_good, "")


@pytest.mark.parametrize("text", ["cat /images/db.img | pv", "cat /images/db.img"])
def test_a_stream_whose_end_is_not_known_is_in_doubt(text: str) -> None:
    stream = read_from(text)
    assert stream is not None
    copy, _ = stream
    assert copy.store
    assert copy.store != COMPRESSED
    assert (copy.wrong, copy.good) == ((), "")


@pytest.mark.parametrize(
    "text",
    [
        "cat /images/db.img > /dev/null",
        "cat /images/db.img | sha256sum",
        "cat /images/db.img | gzip | wc -c",
        "dd if=/images/db.img | dd of=/dev/null",
        "dd if=/images/db.img",
        "dd if=/images/db.img of=/b/db.img",
        "dd if=/images/db.img of=/b/db.img | pv",
        "gunzip -c /b/db.gz > /b/db.img | cat",
        "gzip -d /b/db.gz",
        "zstd -d -c /b/db.zst",
        "xz --list /b/db.xz",
        "tee /b/db.img",
        "head -n 5 /images/db.img > /b/lines",
        "head -c 512 /images/db.img > /b/table",
        "dd if=/images/db.img bs=1M count=4 | gzip > /b/table",
        "sort /images/db.img > /b/lines",
        "cat",
    ],
)
def test_a_command_that_hands_no_image_on_begins_no_stream(text: str) -> None:
    found = read_from(text)
    assert found is None or found[0].sources != (DB,)


def test_a_sum_that_is_kept_is_a_stream_like_any_other() -> None:
    stream = read_from("cat /images/db.img | sha256sum > /b/sum")
    assert stream is not None
    assert stream[0].target == "/b/sum"


@pytest.mark.parametrize(
    ("text", "is_part"),
    [
        ("dd if=/x bs=512 count=1", True),
        ("dd if=/x count=2048", True),
        ("dd if=/x bs=1M count=64", True),
        ("dd if=/x bs=1M count=65", False),
        ("dd if=/x ibs=1M count=65", False),
        ("dd if=/x bs=1MiB count=1", True),
        ("dd if=/x bs=4K count=1 skip=1", False),
        ("dd if=/x bs=4K count=1 iseek=1", False),
        ("dd if=/x bs=1M count=1000 iflag=count_bytes", True),
        ("dd if=/x bs=1M count=1000B", True),
        ("dd if=/x bs=1M count=100000000B", False),
        ("dd if=/x bs=$B count=1", True),
        ("dd if=/x bs=1M count=$N", False),
        ("dd if=/x bs=1M", False),
        ("dd if=/x count=1x", False),
        ("head -c 512 /x", True),
        ("head -c512 /x", True),
        ("head --bytes=64M /x", True),
        ("head --bytes 1G /x", False),
        ("head -c 2w /x", True),
        ("head -c 1b /x", True),
        ("head -c -1 /x", False),
        ("head -c", False),
        ("head -n 1 /x", False),
        ("head -c 1234567890123 /x", False),
    ],
)
def test_a_few_bytes_are_no_image(text: str, *, is_part: bool) -> None:
    (call,) = calls_of(f"{text}\n")
    assert is_a_part(call) is is_part


@pytest.mark.parametrize(
    ("name", "filters"),
    [("gzip", True), ("cat", True), ("gunzip", True), ("xzcat", True), ("dd", False), ("cp", False)],
)
def test_a_filter_is_known_by_its_name(name: str, *, filters: bool) -> None:
    assert is_filter(name) is filters


def test_the_commands_of_each_pipeline() -> None:
    calls = calls_of("a | b\nc\nd | e | true\n")
    groups = pipes(calls)
    assert [[call.name for call in group] for group in groups.values()] == [["a", "b"], ["d", "e", "true"]]


def test_a_stream_that_begins_within_a_pipeline() -> None:
    calls = calls_of("echo x | cat /images/db.img | gzip > /b/db.gz\n")
    stream = read(calls, calls[1])
    assert stream is not None
    assert [call.name for call in stream[1]] == ["cat", "gzip"]
