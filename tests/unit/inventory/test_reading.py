"""The inventory: what the user may say, and one line about what is wrong with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import Mistakes, ReclaimError
from reclaim.base.secret import redacted
from reclaim.inventory import GuestNotes, Inventory, Policy, Ssh, Waiver, read_file, read_inventory, table_of
from reclaim.inventory.mistakes import _WORDS
from reclaim.requirement import catalogue

if TYPE_CHECKING:
    from pathlib import Path


def _read(folder: Path, text: str | bytes) -> Inventory:
    path = folder / "inventory.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_inventory(path, catalogue())


#: a window in lines 1 to 4, to be gone on with
WINDOW = "[[window]]\nfrom = '22:00'\nto = '04:00'\nzone = 'Europe/Vienna'\n"


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
    assert inventory.notes("db").waive == {"fstrim-timer": Waiver(reason="cron does it")}
    assert inventory.notes("another") == GuestNotes()


MISTAKES = [
    pytest.param("[policy]\nbus = 'ide'\n", 2, 'policy.bus): give "scsi" or "any-discarding"', id="choice"),
    pytest.param("[policy]\nbus = 'any-discard'\n", 2, "(did you mean any-discarding?)", id="choice-mistyped"),
    pytest.param("[policy]\nmachine = 3\n", 2, 'policy.machine): give "newest" or "minimum"', id="choice-number"),
    pytest.param("[policy]\nspeed = 1\n", 2, "policy.speed): there is no such key (there are: bus, ", id="key"),
    pytest.param("\n[policy]\nboot-second = 1\n", 3, "such key (did you mean boot_seconds?)", id="key-mistyped"),
    pytest.param("[polcy]\n", 1, "(polcy): there is no such table (did you mean policy?)", id="table"),
    pytest.param(
        "[guest.a]\nthik = true\n", 2, "guest.a.thik): there is no such key (did you mean thick?)", id="guest"
    ),
    pytest.param("[guest.a]\nssh.usr = 'x'\n", 2, "ssh.usr): there is no such key (did you mean user?)", id="ssh"),
    pytest.param("[[backup]]\njobs = '/x'\njob='/x'\n", 2, "[[backup]].jobs): there is no such key (did", id="backup"),
    pytest.param("guest.a.waive = {disk-bus = {reson = 'b', reason = 'b'}}", 1, "(did you mean reason?)", id="waiver"),
    pytest.param("[guest.a]\nthick = 'perhaps'\n", 2, "guest.a.thick): give true or false", id="no-switch"),
    pytest.param("[guest.a]\nthick = 1\n", 2, "guest.a.thick): give true or false", id="number-for-truth"),
    pytest.param("[policy]\npull_plug = 'ja'\n", 2, "policy.pull_plug): give true or false", id="word-for-truth"),
    pytest.param("[policy]\nboot_seconds = 0\n", 2, "policy.boot_seconds): 0: give 1 or more", id="too-few"),
    pytest.param("[policy]\nboot_seconds = 100000\n", 2, "boot_seconds): 100000: give 86400 or less", id="too-many"),
    pytest.param(f"[policy]\nboot_seconds = {'9' * 4000}\n", 2, "that number: give 86400 or less", id="a-long-number"),
    pytest.param("[policy]\nboot_seconds = true\n", 2, "policy.boot_seconds): give a whole number", id="truth"),
    pytest.param("[policy]\nboot_seconds = '90'\n", 2, "policy.boot_seconds): give a whole number", id="text"),
    pytest.param("[policy]\nboot_seconds = inf\n", 2, "policy.boot_seconds): give a whole number", id="infinite"),
    pytest.param("[policy]\ncanary_mib = 8.0\n", 2, "policy.canary_mib): give a whole number", id="fraction"),
    pytest.param("[policy]\ncanary_mib = 2027-01-01\n", 2, "policy.canary_mib): give a whole number", id="date"),
    pytest.param("[guest.a.ssh]\nport = true\n", 2, "guest.a.ssh.port): give a whole number", id="truth-for-port"),
    pytest.param("[guest]\na = 3\n", 2, "guest.a): give a table", id="no-table"),
    pytest.param("guest = 3\n", 1, "(guest): give a table", id="no-tables"),
    pytest.param("policy = 'x'\n", 1, "(policy): give a table", id="no-policy"),
    pytest.param("ssh = 3\n", 1, "(ssh): give a list in [ ]", id="no-list"),
    pytest.param("[ssh]\nuser = 'a'\n", 1, "(ssh): there may be several of these: write [[ssh]]", id="one-bracket"),
    pytest.param("[[policy]]\n", 1, "(policy): write [policy], with one bracket", id="two-brackets"),
    pytest.param("[[guest]]\nname = 'a'\n", 1, "(guest): write [guest.NAME], with one", id="guests-in-brackets"),
    pytest.param("[[ssh]]\nguests = 'web'\n", 2, "[[ssh]].guests): give a list in [ ]", id="no-list-of-guests"),
    pytest.param("[[ssh]]\nguests = [\n'a',\n5]\n", 4, "[[ssh]].guests): give a text in quotes", id="element"),
    pytest.param("[[ssh]]\nguests = []\n", 2, "[[ssh]].guests): give at least one", id="for-none"),
    pytest.param("[[ssh]]\nuser = 'a'\n", 1, "[[ssh]].guests): this key is required", id="for-nobody"),
    pytest.param("[[ssh]]\nguests=['*']\naddress='a'\n", 1, "an address belongs to one guest", id="address-for-many"),
    pytest.param("[guest.'w*'.ssh]\naddress = 'a'\n", 2, "an address belongs to one guest", id="address-for-a-glob"),
    pytest.param("[[backup]]\n", 1, "[[backup]]): give path (the copies), job", id="no-backup"),
    pytest.param("[[backup]]\npath = 'x/y'\n", 2, "[[backup]].path): x/y: give an absolute path", id="relative"),
    pytest.param("[[backup]]\njob = 5\n", 2, "[[backup]].job): give a path in quotes", id="no-path"),
    pytest.param('[[backup]]\njob = "/x\\u0000y"\n', 2, "no path has a NUL in it", id="nul"),
    pytest.param("[guest.a]\non = 'kvm1'\n", 2, "guest.a.on): give a list in [ ]", id="on"),
    pytest.param("[guest.a.waive]\ndisk-bus = 5\n", 2, "disk-bus): give the reason in quotes, or {", id="number"),
    pytest.param("[guest.a.waive]\ndisk-bus = ''\n", 2, "guest.a.waive.disk-bus): give the reason", id="no-reason"),
    pytest.param("[guest.a.waive]\ndisk-bus = ' \t'\n", 2, "guest.a.waive.disk-bus): give the reason", id="blank"),
    pytest.param(
        "[guest.a.waive.disk-bus]\nuntil = 2027-01-31\n", 1, "reason): this key is required", id="until-alone"
    ),
    pytest.param("[guest.a.waive.disk-bus]\nreason = 'N/A'\n", 2, "'N/A' is no reason", id="filler"),
    pytest.param(
        "[guest.a.waive]\ndisk-bus = {reason = 'old', until = '2027-01-31'}", 2, "without quotes", id="quotes"
    ),
    pytest.param("[guest.a.waive]\ndisk-bus = {reason = 'old', until = 2027-01-31 10:00:00}", 2, "a date", id="moment"),
    pytest.param(
        "[guest.a.waive]\ndiskbus = 'it is old'\n", 2, "no such requirement (did you mean disk-bus?", id="slug"
    ),
    pytest.param(f"{WINDOW}days = ['sat', 'Sunday']\n", 5, "(did you mean sun?)", id="weekday"),
    pytest.param(f"{WINDOW}days = []\n", 5, "[[window]].days): give at least one", id="no-days"),
    pytest.param(WINDOW.replace("22:00", "25:00"), 2, "[[window]].from): give a time of day in quotes", id="hour"),
    pytest.param(WINDOW.replace("22:00", "22:60"), 2, "[[window]].from): give a time of day in quotes", id="minute"),
    pytest.param(WINDOW.replace("'22:00'", "22"), 2, "[[window]].from): give a time of day in quotes", id="no-time"),
    pytest.param(WINDOW.replace("'22:00'", "22:00:01"), 2, "[[window]].from): give a time of day", id="seconds"),
    pytest.param(WINDOW.replace("22:00", "04:00"), 1, "from and to are the same time", id="no-length"),
    pytest.param(WINDOW.replace("22:00", "24:00"), 1, 'no window begins at "24:00"', id="begins-at-24"),
    pytest.param(WINDOW.replace("Vienna", "Viena"), 4, "no time zone (did you mean Europe/Vienna?)", id="zone"),
    pytest.param(WINDOW.replace("Europe/Vienna", "vienna"), 4, "(did you mean Europe/Vienna?)", id="city"),
    pytest.param(WINDOW.replace("Europe/Vienna", "../../etc/passwd"), 4, "is no time zone", id="zone-that-is-a-path"),
    pytest.param(WINDOW.replace("Europe/Vienna", "Europe"), 4, "is no time zone", id="zone-that-is-a-folder"),
    pytest.param(WINDOW.replace("zone =", "# zone"), 1, "[[window]].zone): this key is required", id="no-zone"),
    pytest.param("[policy\n", 1, "not TOML: the ] behind the name of a table is missing", id="header"),
    pytest.param("policy:\n  bus: scsi\n", 1, "not TOML: this looks like YAML", id="yaml"),
    pytest.param("{'policy': {}}", 1, "not TOML: a line is a # comment", id="json"),
    pytest.param("\n[guest.a]\n[guest.b]\n[guest.'a']\n", 4, "guest.a is there already, on line 2", id="table-twice"),
    pytest.param('a = 1\nb = 1\na = """\n\n"""\n', 3, "a is there already, on line 1", id="key-twice"),
    pytest.param('a = 1\na.b = """\n\n"""\n', 2, "a is there already, on line 1", id="key-in-a-value"),
    pytest.param("a = {x = 1,  x = 2}\n", 1, "a.x is there already", id="key-twice-inline"),
    pytest.param("a = 1\n\nb = [1,\n2,\n", 3, "the list or inline table that begins here", id="open-list"),
    pytest.param('a = 1\nb = """x\n\n\n', 2, "a text has no closing quotes", id="open-text"),
    pytest.param('a = """\nx"\ny"\n', 1, "a text has no closing quotes", id="open-text-with-quotes"),
    pytest.param("a = 'x\n", 1, "a text in quotes does not end on its line", id="open-quotes"),
    pytest.param("a = 2027-02-30\n", 1, "there is no such date or time", id="no-such-date"),
    pytest.param("a = scsi\n", 1, "a text needs quotes", id="no-quotes"),
    pytest.param('a = "C:\\d"\n', 1, "a backslash: double it", id="backslash"),
    pytest.param(f"a = 1\nx = {'9' * 5000}", None, "a number with too many digits", id="digits"),
    pytest.param(b"x = 1\n# \xe4\n", 2, "not UTF-8 at byte 8", id="no-utf-8"),
]
#: words of tomllib and of pydantic
OF_LIBRARIES = re.compile(r"Value error|[Ii]nput should|Extra inputs|Field required|pydantic|at line|Expected|Invalid ")


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, line: int | None, words: str) -> None:
    with pytest.raises(ReclaimError) as caught:
        _read(tmp_path, text)
    shown = str(caught.value)
    begin = f"inventory {tmp_path / 'inventory.toml'}" + (f", line {line}" if line is not None else "")
    assert shown.startswith((f"{begin}:", f"{begin} ("))
    assert words in shown
    assert "\n" not in shown
    assert not OF_LIBRARIES.search(shown)


def test_all_mistakes_are_named_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        "[[ssh]]\nuser = '-x'\n[polcy]\n[policy]\nbus = 1\nboot_seconds = 'x'\n"
        "[guest.a.waive]\nfoo = 'it is old'\n[[window]]\nzone = 'x'\n"
    )
    with pytest.raises(Mistakes) as caught:
        _read(tmp_path, text)
    begin = f"inventory {tmp_path / 'inventory.toml'}, line "
    assert [line.removeprefix(begin).partition(":")[0] for line in caught.value.lines] == [
        "1 ([[ssh]].guests)",
        "2 ([[ssh]].user)",
        "3 (polcy)",
        "5 (policy.bus)",
        "6 (policy.boot_seconds)",
        "8 (guest.a.waive.foo)",
        "9 ([[window]].from)",
        "9 ([[window]].to)",
        "10 ([[window]].zone)",
    ]


def test_mistakes_without_end_are_counted(tmp_path: Path) -> None:
    with pytest.raises(Mistakes) as caught:
        _read(tmp_path, "".join(f"[x{number}]\n" for number in range(1000)))
    assert len(caught.value.lines) == 101
    assert caught.value.lines[-1].endswith(": and 900 more mistakes")


def test_no_value_that_could_be_a_secret_is_shown(tmp_path: Path) -> None:
    for text in ("[[ssh]]\npassword = 'MARK'\n", "x = 'MARK\n", "[guest.a.ssh]\nport = 'MARK'\n", "MARK: x\n"):
        with pytest.raises(ReclaimError) as caught:
            _read(tmp_path, text)
        assert "MARK" not in str(caught.value)


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match="it has more than the 2097152 bytes that are read"):
        _read(tmp_path, "#" * (2 * 1024 * 1024 + 1))


def test_a_place_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "inventory.toml"
    path.write_text("[policy]\r\nbus = 'scsi'\r\n[guest.'a.b'.waive]\r\ndisk-bus = 'it is old'\r\n", encoding="utf-8")
    file = read_file(path)
    assert file.line(("guest", "a.b", "waive", "disk-bus")) == 4
    assert file.line(("policy", "machine")) == 1
    assert file.line(("window", 0)) is None


def test_arrays_in_arrays_without_end_are_told(tmp_path: Path) -> None:
    with pytest.raises(ReclaimError, match=r"nested too deep|not TOML") as caught:
        _read(tmp_path, f"x = {'[' * 50_000}{']' * 50_000}")
    assert "\n" not in str(caught.value)


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
        pytest.param("user = '-oProxyCommand=x'", "ssh.user): '-oProxyCommand=x': give one word", id="option"),
        pytest.param("address = 'a b'", "ssh.address): 'a b': give one word", id="blank"),
        pytest.param("user = ''", "ssh.user): ", id="empty"),
        pytest.param("port = 0", "ssh.port): ", id="port"),
        pytest.param("key = '/nowhere/key'", "ssh.key): /nowhere/key: there is no such file", id="no-key"),
        pytest.param("known_hosts = 'known'", "ssh.known_hosts): known: give an absolute path", id="relative"),
        pytest.param("key = '~nobody-here/key'", "ssh.key): ~nobody-here/key: there is no such home", id="no-home"),
        pytest.param(f"key = '/{'k' * 300}'", f"ssh.key): /{'k' * 300}: File name too long", id="a-name-too-long"),
        pytest.param("key = '/50%/key'", "ssh.key): '/50%/key': ssh would read", id="percent"),
        pytest.param("password = 'secret'", "ssh.password): there is no such key", id="password"),
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


@pytest.mark.parametrize("words", sorted({*_WORDS.values(), "there is no such key", "5: give 1 or more"}))
def test_no_message_about_a_guest_called_password_is_taken_for_one(words: str) -> None:
    text = f"inventory /x.toml, line 3 (guest.password.ssh.port): {words}"
    assert redacted(text) == text
