"""The list of the hypervisors that there should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reclaim.base.errors import ReclaimError
from reclaim.database import expected
from reclaim.database.expected import Heard


@pytest.mark.parametrize(
    "text",
    [
        "kvm1\nkvm2.example.org\n",
        "# all\n\n  kvm1   # first\n\tkvm2.example.org",
        "  hosts (2):\n    kvm1\n    kvm2.example.org\n",
        "kvm1\r\nkvm2.example.org\r\nkvm1\r\n",
        "\ufeffkvm1\r\nkvm2.example.org\r\n",
        json.dumps(
            {"_meta": {"hostvars": {"kvm1": {}}}, "all": {"children": ["x"]}, "x": {"hosts": ["kvm2.example.org"]}}
        ),
    ],
)
def test_names_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "hosts").write_text(text, newline="")
    assert expected.read(tmp_path / "hosts") == ["kvm1", "kvm2.example.org"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[kvm]\nkvm1\n",
            "hosts:1: [kvm]: not one name of a hypervisor; `ansible -i INVENTORY all --list-hosts` prints",
        ),
        ("kvm1 ansible_host=10.0.0.1\n", "hosts:1: kvm1 ansible_host=10.0.0.1: not one name"),
        ("kvm[01:50]\n", "not one name"),
        ("all:\n  hosts:\n", "hosts:1: all:: not one name"),
        ("\n# nothing\n", "it names no hypervisor"),
        ("{}", "it names no hypervisor"),
        ("{", "not the JSON of"),
        ("[" * 9, "not one name"),
        ("kvm\x1b1", "kvm\\x1b1: not one name"),
    ],
)
def test_a_line_that_is_no_name_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ReclaimError) as raised:
        expected.read(tmp_path / "hosts")
    assert words in str(raised.value)


@pytest.mark.parametrize("data", [b"kvm\xff", None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "hosts").write_bytes(data)
    with pytest.raises(ReclaimError, match="hosts: "):
        expected.read(tmp_path / "hosts")


def test_a_name_stands_for_a_hypervisor_with_or_without_its_domain() -> None:
    heard = Heard(["kvm1.example.org", "kvm2", "kvm3.a.org", "kvm3.b.org"])
    assert heard.named("KVM1") == ["kvm1.example.org"]
    assert heard.named("kvm2.example.org") == ["kvm2"]
    assert heard.named("kvm1.other.org") == []
    assert heard.named("kvm3") == [], "it may be either"
    assert heard.named("kvm3.b.org") == ["kvm3.b.org"]
    assert heard.named("kvm") == []
