"""The inventory: what the user may say, and one line about what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.errors import ReclaimError
from reclaim.inventory import GuestNotes, Inventory, Policy, read_inventory

if TYPE_CHECKING:
    from pathlib import Path


def _read(folder: Path, text: str | bytes) -> Inventory:
    path = folder / "inventory.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_inventory(path)


def test_everything_has_a_default(tmp_path: Path) -> None:
    assert _read(tmp_path, "") == Inventory(policy=Policy(), guest={})


def test_what_is_said_is_read(tmp_path: Path) -> None:
    inventory = _read(
        tmp_path,
        '[policy]\nmachine = "minimum"\ntarget = "keep"\nboot_seconds = 30\n'
        '[guest."web é"]\nthick = true\n[guest.db.waive]\nfstrim-timer = "cron does it"\n',
    )
    assert inventory.policy == Policy(machine="minimum", target="keep", boot_seconds=30)
    assert inventory.notes("web é") == GuestNotes(thick=True)
    assert inventory.notes("db").waive == {"fstrim-timer": "cron does it"}
    assert inventory.notes("another") == GuestNotes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("[policy]\nbus = 'ide'\n", "policy.bus: ", id="value"),
        pytest.param("[policy]\nspeed = 1\n", "policy.speed: Extra inputs are not permitted", id="key"),
        pytest.param("[gust.a]\n", "gust: Extra inputs", id="table"),
        pytest.param("[guest.a]\nthik = true\n", "guest.a.thik: Extra inputs", id="key-of-a-guest"),
        pytest.param("[guest.a]\nthick = 'perhaps'\n", "guest.a.thick: ", id="type"),
        pytest.param("[policy]\nboot_seconds = 0\n", "policy.boot_seconds: ", id="too-few-seconds"),
        pytest.param("[policy]\nboot_seconds = 100000\n", "policy.boot_seconds: ", id="too-many-seconds"),
        pytest.param("[guest.a.waive]\nx = 5\n", "guest.a.waive.x: ", id="a-waiver-without-words"),
        pytest.param("[policy]\nbus = 1\nspeed = 1\n", "and 1 more", id="two"),
        pytest.param("[policy\n", "not TOML: ", id="no-toml"),
        pytest.param("a = 1\na = 2\n", "not TOML: ", id="a-key-twice"),
        pytest.param(b"# \xe4\n", "not UTF-8 at byte 2", id="no-utf-8"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(ReclaimError) as caught:
        _read(tmp_path, text)
    assert str(caught.value).startswith(f"inventory {tmp_path / 'inventory.toml'}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match="No such file"):
        read_inventory(tmp_path / "none.toml")
    with pytest.raises(ReclaimError, match="Is a directory"):
        read_inventory(tmp_path)
