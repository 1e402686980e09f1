"""The agent's typed answers become values, or no answer at all: a part of one would be taken for the whole."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.handles.agent_answers import (
    AgentFilesystem,
    Interface,
    PathTrim,
    filesystems,
    interfaces,
    trims,
)

DISK = {"bus-type": "virtio", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/vda1"}
ROOT = {"name": "vda1", "mountpoint": "/", "type": "ext4", "used-bytes": 5, "total-bytes": 9, "disk": [DISK]}
ETH0 = {
    "name": "eth0",
    "hardware-address": "52:54:00:AB:00:01",
    "ip-addresses": [{"ip-address": "192.0.2.7", "ip-address-type": "ipv4", "prefix": 24}],
}


def test_filesystems_as_the_schema_has_them() -> None:
    tmpfs = {"name": "tmpfs", "mountpoint": "/tmp", "type": "tmpfs", "disk": []}
    assert filesystems([ROOT, tmpfs]) == [
        AgentFilesystem("vda1", "/", 5, True),
        AgentFilesystem("tmpfs", "/tmp", None, False),
    ]
    assert filesystems([{**ROOT, "used-bytes": None}])[0].used is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="nothing"),
        pytest.param({}, id="an-object"),
        pytest.param([1], id="a-number-in-the-list"),
        pytest.param([ROOT, None], id="null-in-the-list"),
        pytest.param([{**ROOT, "used-bytes": True}], id="true-for-a-number"),
        pytest.param([{**ROOT, "used-bytes": "5"}], id="text-for-a-number"),
        pytest.param([{**ROOT, "used-bytes": 5.0}], id="a-fraction"),
        pytest.param([{**ROOT, "used-bytes": -1}], id="negative"),
        pytest.param([{**ROOT, "mountpoint": 3}], id="a-number-for-text"),
        pytest.param([{**ROOT, "disk": {}}], id="an-object-for-a-list"),
        pytest.param([{**ROOT, "disk": ["vda"]}], id="text-for-a-disk"),
    ],
)
def test_a_garbled_filesystem_makes_the_answer_none(answer: Any) -> None:
    with pytest.raises(ValueError, match=r" instead of | is negative"):
        filesystems(answer)


def test_interfaces_as_the_schema_has_them() -> None:
    assert interfaces([ETH0, {"name": "lo"}]) == [
        Interface("eth0", "52:54:00:ab:00:01", ("192.0.2.7",)),
        Interface("lo", "", ()),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("eth0", id="text"),
        pytest.param([ETH0, []], id="a-list-in-the-list"),
        pytest.param([{**ETH0, "hardware-address": 5}], id="a-number-for-a-mac"),
        pytest.param([{**ETH0, "ip-addresses": "192.0.2.7"}], id="text-for-addresses"),
        pytest.param([{**ETH0, "ip-addresses": ["192.0.2.7"]}], id="text-for-an-address"),
        pytest.param([{**ETH0, "ip-addresses": [{"ip-address": 3}]}], id="a-number-for-an-address"),
    ],
)
def test_a_garbled_interface_makes_the_answer_none(answer: Any) -> None:
    with pytest.raises(ValueError, match=r" instead of "):
        interfaces(answer)


def test_trims_as_the_schema_has_them() -> None:
    answer = {"paths": [{"path": "/", "trimmed": 5, "minimum": 0}, {"path": "/boot", "error": "no"}]}
    assert trims(answer) == [PathTrim("/", 5, ""), PathTrim("/boot", None, "no")]


@pytest.mark.parametrize(
    "answer",
    [[], {}, {"paths": {}}, {"paths": [1]}, {"paths": [{"path": "/", "trimmed": True}]}, {"paths": [{"error": 1}]}],
)
def test_garbled_trims_make_the_answer_none(answer: Any) -> None:
    with pytest.raises(ValueError, match=r" instead of |no paths"):
        trims(answer)
