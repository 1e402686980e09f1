"""Which tables count for a guest: globs, the more specific one, hypervisors."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.inventory import NO_NOTES, Inventory, Ssh
from reclaim.inventory.names import is_glob, literals, matches, most_specific_first


def inventory(**tables: Any) -> Inventory:
    return Inventory.model_validate(tables)


@pytest.mark.parametrize(
    ("globs", "name", "order"),
    [
        (["*", "web*", "web1"], "web1", ["web1", "web*", "*"]),
        (["web1", "web*", "*"], "web1", ["web1", "web*", "*"]),
        (["web?", "web*"], "web1", ["web*", "web?"]),
        (["web*", "web?"], "web1", ["web?", "web*"]),
        (["*1", "web[12]", "we*"], "web1", ["web[12]", "we*", "*1"]),
        (["web[1]", "web*"], "web[1]", ["web[1]", "web*"]),
        (["web[1]"], "web1", ["web[1]"]),
        (["Web*", "w?b"], "web", ["w?b"]),
        (["[!w]*", "[!a]*"], "web", ["[!a]*"]),
        (["we", "web*x", ""], "web", []),
    ],
)
def test_the_most_specific_is_first(globs: list[str], name: str, order: list[str]) -> None:
    assert most_specific_first(globs, name) == order


@pytest.mark.parametrize(
    ("glob", "count", "several"),
    [
        ("web", 3, False),
        ("web*", 3, True),
        ("w?b", 2, True),
        ("web[12]x", 4, True),
        ("web[*]", 3, False),
        ("[]]", 0, True),
        ("web[", 4, True),
        ("", 0, False),
    ],
)
def test_a_glob(glob: str, count: int, *, several: bool) -> None:
    assert literals(glob) == count
    assert is_glob(glob) is several


def test_no_glob_takes_time_without_end() -> None:
    assert not matches("*a" * 5000 + "b", "a" * 5000)


def test_each_key_is_from_the_most_specific_table_that_has_it() -> None:
    found = inventory(
        guest={
            "*": {"thick": True, "pull_plug": True, "waive": {"disk-bus": "of all", "disc-max": "of all"}},
            "web*": {"pull_plug": False, "ssh": {"user": "admin", "sudo": True}, "waive": {"disk-bus": "of web"}},
            "web1": {"ssh": {"port": 2222, "user": "me"}, "waive": {"fstab-uuid": "of web1"}},
        }
    )
    notes = found.notes("web1")
    assert (notes.thick, notes.pull_plug) == (True, False)
    assert notes.ssh == Ssh(user="me", port=2222, sudo=True)
    assert {slug: waiver.reason for slug, waiver in notes.waive.items()} == {
        "fstab-uuid": "of web1",
        "disk-bus": "of web",
        "disc-max": "of all",
    }
    assert found.notes("db").ssh is None
    assert found.notes("db").waive["disk-bus"].reason == "of all"
    assert found.notes("web1") is notes


def test_a_guest_that_no_table_is_for_has_no_notes() -> None:
    assert inventory().notes("web") is NO_NOTES
    assert inventory(guest={"db*": {"thick": True}}).notes("web") is NO_NOTES


def test_an_empty_table_of_ssh_is_ssh_as_ssh_config_has_it() -> None:
    assert inventory(guest={"w*": {"ssh": {}}}).ssh_of("web") == Ssh()


def test_the_way_of_a_guests_tables_stands_before_those_of_ssh() -> None:
    found = inventory(ssh=[{"guests": ["*"], "user": "admin"}], guest={"w*": {"ssh": {"port": 22}}})
    assert found.ssh_of("web") == Ssh(port=22)
    way = found.ssh_of("db")
    assert way is not None
    assert way.user == "admin"


@pytest.mark.parametrize(
    ("hypervisor", "here"),
    [
        ("kvm1", ["a", "b"]),
        ("KVM1.example.org", ["a", "b"]),
        ("kvm2.example.org", ["a", "c"]),
        ("kvm2.example.net", ["a"]),
        ("kvm10", ["a"]),
    ],
)
def test_a_table_may_be_for_some_hypervisors(hypervisor: str, here: list[str]) -> None:
    scopes: dict[str, dict[str, Any]] = {"a": {}, "b": {"on": ["kvm1"]}, "c": {"on": ["nowhere", "kvm?.example.org"]}}
    if hypervisor == "KVM1.example.org":
        scopes["c"] = {"on": ["nowhere"]}
    found = inventory(
        guest={name: {**scope, "thick": True} for name, scope in scopes.items()},
        ssh=[{**scope, "guests": [name]} for name, scope in scopes.items()],
        backup=[{**scope, "path": f"/{name}"} for name, scope in scopes.items()],
        window=[
            {**scope, "guests": [name], "from": "22:00", "to": "23:00", "zone": "UTC"} for name, scope in scopes.items()
        ],
    )
    assert found.notes("c").thick
    part = found.on_hypervisor(hypervisor)
    assert list(part.guest) == here
    assert [way.guests for way in part.ssh] == [[name] for name in here]
    assert [str(backup.path) for backup in part.backup] == [f"/{name}" for name in here]
    assert [window.guests for window in part.window] == [[name] for name in here]
    assert bool(part.notes("c").thick) is ("c" in here)
