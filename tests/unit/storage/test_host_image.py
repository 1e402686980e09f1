"""A disk's image as the hypervisor's shell describes it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import ProbeError
from reclaim.storage import host_image
from reclaim.storage.host_image import thin_bytes
from tests.support import disk_xml, domain_xml, opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("status", "held"),
    [
        pytest.param("0 2097152 thin 524288 2097151", 524288 * 512, id="thin"),
        pytest.param("0 2097152 thin 0 -", 0, id="empty"),
        pytest.param("0 2097152 thin Fail", None, id="failed-pool"),
        pytest.param("0 2097152 linear ", None, id="thick"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_what_a_thin_volume_holds(status: str, held: int | None) -> None:
    assert thin_bytes(status) == held


GOOD = ("regular file", "1000", "8", "512", "fd00", "0", "0")


def looked_at(folder: Path, stat: str) -> host_image.HostImage:
    owner = opened(folder, domain_xml(disk_xml()))
    printed = "".join(
        f"{name} {base64.b64encode(text.encode()).decode()}\n"
        for name, text in (("stat", stat), ("real", "/x"), ("head", ""))
    )

    class Shell:
        def run(self, *_arguments: str) -> Any:
            return type("Result", (), {"rc": 0, "stdout": printed, "stderr": ""})()

    owner.shell = Shell()
    return host_image.look(owner, "/x")


@pytest.mark.parametrize("field", range(1, 7))
@pytest.mark.parametrize(
    "odd", ["1a00", "", "-1", "9" * 20, "9" * 5000, "٣", "²", "1e3", "0x10", " 8", "8\n8", "ffffffffffff"]
)
def test_odd_numbers_of_stat_are_told_in_one_line(tmp_path: Path, field: int, odd: str) -> None:
    fields = [*GOOD]
    fields[field] = odd
    try:
        looked_at(tmp_path, "|".join(fields))
    except ProbeError as exc:
        assert str(exc) == "/x: what stat says cannot be parsed"  # noqa: PT017
    else:
        assert odd in ("1a00", "ffffffffffff", "1e3")
        assert field >= 4


def test_what_stat_says_is_read_as_it_writes_it(tmp_path: Path) -> None:
    found = looked_at(tmp_path, "|".join(GOOD))
    assert (found.length, found.allocated, found.device) == (1000, 4096, "fd00")
