"""The inventory: what the user may say, and one line about what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.base.secret import redacted
from reclaim.inventory import _IN_WORDS, GuestNotes, Inventory, Policy, Ssh, read_inventory, table_of

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
        pytest.param("[policy]\nspeed = 1\n", "policy.speed: there is no such key", id="key"),
        pytest.param("[gust.a]\n", "gust: there is no such key", id="table"),
        pytest.param("[guest.a]\nthik = true\n", "guest.a.thik: there is no such key", id="key-of-a-guest"),
        pytest.param("[guest.a]\nthick = 'perhaps'\n", "guest.a.thick: ", id="type"),
        pytest.param("[policy]\nboot_seconds = 0\n", "policy.boot_seconds: ", id="too-few-seconds"),
        pytest.param("[policy]\nboot_seconds = 100000\n", "policy.boot_seconds: ", id="too-many-seconds"),
        pytest.param("[guest.a.waive]\nx = 5\n", "guest.a.waive.x: ", id="a-waiver-without-words"),
        pytest.param("[guest.a.waive]\ndisk-bus = ''\n", "guest.a.waive.disk-bus: give the reason", id="no-reason"),
        pytest.param("[guest.a.waive]\ndisk-bus = ' \t'\n", "guest.a.waive.disk-bus: give the reason", id="blank"),
        pytest.param("[policy]\nboot_seconds = true\n", "policy.boot_seconds: give a whole number", id="truth"),
        pytest.param("[policy]\nboot_seconds = '90'\n", "policy.boot_seconds: give a whole number", id="text"),
        pytest.param("[policy]\ncanary_mib = 8.0\n", "policy.canary_mib: give a whole number", id="fraction"),
        pytest.param("[guest.a.ssh]\nport = true\n", "guest.a.ssh.port: give a whole number", id="truth-for-port"),
        pytest.param("[guest.a]\nthick = 1\n", "guest.a.thick: give true or false", id="number-for-truth"),
        pytest.param("[policy]\npull_plug = 'yes'\n", "policy.pull_plug: give true or false", id="no-switch"),
        pytest.param("[policy]\nboot_seconds = 'x'\n", "boot_seconds: give a whole number", id="no-number"),
        pytest.param("[guest]\na = 3\n", "guest.a: give a table", id="no-table"),
        pytest.param("[policy]\nmachine = 3\n", "policy.machine: it should be 'newest' or 'minimum'", id="choice"),
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


def test_arrays_in_arrays_without_end_are_told(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match=r"nested too deep|not TOML") as caught:
        _read(tmp_path, f"x = {'[' * 50_000}{']' * 50_000}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["path", "job"])
def test_a_path_that_no_file_can_have_is_told(tmp_path: Path, key: str) -> None:
    with pytest.raises(ReclaimError, match="no path has a NUL in it"):
        _read(tmp_path, f'[[backup]]\n{key} = "/x\\u0000y"\n')


def test_the_mark_that_windows_editors_leave_is_no_fault(tmp_path: Path) -> None:
    assert _read(tmp_path, '\ufeff[policy]\nmachine = "minimum"\n').policy.machine == "minimum"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match="No such file"):
        read_inventory(tmp_path / "none.toml")
    with pytest.raises(ReclaimError, match="Is a directory"):
        read_inventory(tmp_path)


def test_the_way_in_of_one_guest_stands_before_those_of_many(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    inventory = _read(
        tmp_path,
        f'[guest.web1.ssh]\nuser = "me"\nport = 2222\nkey = "{key}"\naddress = "web1.example"\nprefer = true\n'
        "[guest.web2]\nthick = true\n"
        '[[ssh]]\nguests = ["db", "web*"]\nuser = "admin"\nsudo = true\n[[ssh]]\nguests = ["*2"]\n',
    )
    assert inventory.ssh_of("web1") == Ssh(user="me", port=2222, key=key, address="web1.example", prefer=True)
    assert [(one.user, one.sudo) for name in ("web2", "db", "x2") if (one := inventory.ssh_of(name))] == [
        ("admin", True),
        ("admin", True),
        (None, False),
    ]
    assert inventory.ssh_of("mail") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("user = '-oProxyCommand=x'", "ssh.user: '-oProxyCommand=x': give one word", id="option"),
        pytest.param("address = 'a b'", "ssh.address: 'a b': give one word", id="blank"),
        pytest.param("user = ''", "ssh.user: ", id="empty"),
        pytest.param("port = 0", "ssh.port: ", id="port"),
        pytest.param("key = '/nowhere/key'", "ssh.key: /nowhere/key: there is no such file", id="no-key"),
        pytest.param("known_hosts = 'known'", "ssh.known_hosts: known: give an absolute path", id="relative"),
        pytest.param("key = '~nobody-here/key'", "ssh.key: ~nobody-here/key: there is no such home", id="no-home"),
        pytest.param(f"key = '/{'k' * 300}'", f"ssh.key: /{'k' * 300}: File name too long", id="a-name-too-long"),
        pytest.param("key = '/50%/key'", "ssh.key: '/50%/key': ssh would read", id="percent"),
        pytest.param("password = 'secret'", "ssh.password: there is no such key", id="password"),
    ],
)
def test_what_is_wrong_about_ssh_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ReclaimError) as caught:
        _read(tmp_path, f"[guest.a.ssh]\n{text}\n")
    assert f"guest.a.{words}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["web1", "web1.example.org", "a b", 'say "hi"', "ünï", "a\\b", ""])
def test_the_table_that_an_advice_names_is_the_guests(tmp_path: Path, name: str) -> None:
    """`[guest.web1.example.org.ssh]` would be a table of the guest web1, and is refused."""
    inventory = _read(tmp_path, f"[{table_of(name)}.ssh]\nuser = 'me'\n")
    assert inventory.ssh_of(name) == Ssh(user="me")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("user = 'a'", "ssh.0.guests: this key is required", id="for-nobody"),
        pytest.param("guests = []", "ssh.0.guests: ", id="for-none"),
        pytest.param("guests = ['*']\naddress = 'a'", "an address belongs to one guest", id="one-address-for-many"),
    ],
)
def test_the_way_into_many_names_them(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ReclaimError) as caught:
        _read(tmp_path, f"[[ssh]]\n{text}\n")
    assert words in str(caught.value)


@pytest.mark.parametrize("words", sorted({*_IN_WORDS.values(), "it should be less than 5"}))
def test_no_message_about_a_guest_called_password_is_taken_for_one(words: str) -> None:
    text = f"inventory /x.toml: guest.password.ssh.port: {words}"
    assert redacted(text) == text
