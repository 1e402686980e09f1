"""crypttab(5): the devices that are unlocked at boot, their names, and the option discard."""

from __future__ import annotations

import pytest

from reclaim.inside.boot import crypttab
from reclaim.inside.boot.crypttab import CrypttabEntry
from tests.support import Inside, block, part

DEVICES = [
    block(
        "vda",
        part("vda2", uuid="u-2", fstype="swap", partuuid="p-2"),
        part("vda3", uuid="u-3", fstype="crypto_LUKS", partuuid="p-3"),
        part("vda4", partuuid="p-4"),
        part("vda5", fstype="crypto_LUKS"),
    )
]
PATH = "/etc/crypttab"


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("root /dev/vda3 none luks,discard", CrypttabEntry("root", "/dev/vda3", ("luks", "discard"))),
        ("\troot\t/dev/vda3", CrypttabEntry("root", "/dev/vda3", ("",))),
        ("root UUID=u-3 /key", CrypttabEntry("root", "UUID=u-3", ("",))),
        ("root /dev/vda3 none luks # more", CrypttabEntry("root", "/dev/vda3", ("luks",))),
        ("root /dev/vda3 none luks\r", CrypttabEntry("root", "/dev/vda3", ("luks",))),
        ("# root /dev/vda3 none luks", None),
        ("  #root /dev/vda3", None),
        ("root", None),
        ("", None),
    ],
)
def test_a_line_is_taken_apart(line: str, entry: CrypttabEntry | None) -> None:
    found = list(crypttab.entries(f"# head\n{line}\n"))
    assert found == ([entry] if entry else [])


@pytest.mark.parametrize(
    ("options", "optional"), [("luks", False), ("luks,nofail", True), ("noauto", True), ("xnoauto", False), ("", False)]
)
def test_the_boot_goes_on_without_some(options: str, *, optional: bool) -> None:
    assert CrypttabEntry("root", "/dev/vda3", tuple(options.split(","))).is_optional is optional


def _places(text: str, path: str = PATH) -> list[tuple[tuple[str, ...], str | None]]:
    """The names of each place, and its text afterwards."""
    found = list(crypttab.places(Inside(files={path: text}, devices=DEVICES).facts()))
    assert {place.path for place in found} <= {path}
    return [(place.names, place.after) for place in found]


@pytest.mark.parametrize("path", crypttab.PATHS)
def test_the_devices_get_names_and_every_initramfs_is_built_anew(path: str) -> None:
    text = "# head\nroot /dev/vda3 none luks\nswap\t/dev/vda2 /dev/urandom swap\nx UUID=u-3 none\n"
    [place] = crypttab.places(Inside(files={path: text}, devices=DEVICES).facts())
    assert (place.path, place.rebuild, place.before) == (path, True, text)
    assert place.names == place.devices == ("/dev/vda3", "/dev/vda2")
    # of a device that is no LUKS only the partition has a name that stays
    assert place.after == text.replace("/dev/vda3", "UUID=u-3").replace("/dev/vda2", "PARTUUID=p-2")


def test_a_device_without_a_name_stays_and_is_told() -> None:
    text = "a /dev/vda5 none luks\nb /dev/vdz1 none luks\n"
    assert _places(text) == [(("/dev/vda5", "/dev/vdz1"), text)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a /dev/vdz1 none nofail\n", []),
        ("a /dev/vda3 none nofail\n", ["/dev/vda3"]),
        ("a UUID=u-3 none luks\n", []),
        ("a /dev/mapper/vg-a none luks\n", []),
        ("# a /dev/vda3 none luks\n", []),
    ],
)
def test_which_devices_count(text: str, names: list[str]) -> None:
    assert [name for shown, _ in _places(text) for name in shown] == names


@pytest.mark.parametrize(
    "rest",
    ["/key:/dev/vdb1 luks", "/dev/vdb1:/key luks", "none luks,header=/dev/vdb1", "/key:/dev/disk/by-id/ata-x luks"],
)
def test_a_key_on_another_disk_is_left_to_the_user(rest: str) -> None:
    facts = Inside(files={PATH: f"root UUID=u-3 {rest}\n"}, devices=DEVICES).facts()
    [place] = crypttab.places(facts)
    assert place.after is None
    assert place.names == (("/dev/disk/by-id/ata-x",) if "by-id" in rest else ("/dev/vdb1",))
    assert "root" in place.advice
    assert PATH in place.advice


def test_a_key_by_uuid_is_no_place() -> None:
    assert _places("root UUID=u-3 /key:UUID=x luks\n") == []


@pytest.mark.parametrize(
    ("line", "after"),
    [
        pytest.param("root UUID=x none luks", "root UUID=x none luks,discard", id="options"),
        pytest.param("root UUID=x none luks\t# more", "root UUID=x none luks,discard\t# more", id="a-remark"),
        pytest.param("root UUID=x none luks,discard", None, id="has-it"),
        pytest.param("root UUID=x none discard,luks", None, id="has-it-first"),
        pytest.param("root UUID=x none no-discard", "root UUID=x none no-discard,discard", id="another-word"),
        pytest.param("root UUID=x /key", "root UUID=x /key discard", id="a-key-alone"),
        pytest.param("root UUID=x /key \t", "root UUID=x /key discard", id="blanks-at-its-end"),
        pytest.param("root UUID=x", "root UUID=x none discard", id="a-device-alone"),
        pytest.param("root UUID=x \t", "root UUID=x none discard", id="a-device-and-blanks"),
        pytest.param("root UUID=x /key\rluks", None, id="a-line-break-of-another-kind"),
        pytest.param("other UUID=x none luks", None, id="another-mapping"),
        pytest.param("# root UUID=x none luks", None, id="a-comment"),
    ],
)
def test_discard_is_added_once_and_where_it_is_understood(line: str, after: str | None) -> None:
    text = "# head\n{}\nlast UUID=y none luks\n"
    assert crypttab.with_discard(text.format(line), {"root"}) == text.format(line if after is None else after)


def test_discard_is_added_for_each_that_is_named() -> None:
    text = "a UUID=1 none luks\nb UUID=2 none luks\nc UUID=3\n"
    assert (
        crypttab.with_discard(text, {"a", "c"})
        == "a UUID=1 none luks,discard\nb UUID=2 none luks\nc UUID=3 none discard\n"
    )
