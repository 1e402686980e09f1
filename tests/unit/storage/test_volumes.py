"""Places of the volumes of storage pools, on libvirt's test driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from reclaim.definition.domain import parse_xml
from reclaim.storage import volumes

POOL = "<pool type='{kind}'><name>images</name><target><path>/srv/images</path></target></pool>"
VOLUME = "<volume><name>{name}</name><capacity>1048576</capacity><target><format type='qcow2'/></target></volume>"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[libvirt.virConnect]:
    node = tmp_path / "node.xml"
    node.write_text("<node/>", encoding="utf-8")
    opened = libvirt.open(f"test://{node}")
    yield opened
    opened.close()


@pytest.fixture
def pool(connection: libvirt.virConnect) -> libvirt.virStoragePool:
    made = connection.storagePoolCreateXML(POOL.format(kind="dir"))
    made.createXML(VOLUME.format(name="a.qcow2"))
    return made


def test_a_volume_has_a_path(connection: libvirt.virConnect, pool: libvirt.virStoragePool) -> None:
    assert volumes.path(connection, pool.name(), "a.qcow2") == "/srv/images/a.qcow2"
    assert volumes.place(connection, pool.name(), "a.qcow2") == "/srv/images/a.qcow2"


def test_a_volume_that_libvirt_does_not_list_lies_where_its_pool_has_it(
    connection: libvirt.virConnect, pool: libvirt.virStoragePool
) -> None:
    with pytest.raises(libvirt.libvirtError):
        volumes.path(connection, pool.name(), "later.qcow2")
    assert volumes.place(connection, pool.name(), "later.qcow2") == "/srv/images/later.qcow2"


def test_a_pool_that_is_unknown_is_a_place_of_its_own(connection: libvirt.virConnect) -> None:
    with pytest.raises(libvirt.libvirtError):
        volumes.path(connection, "nowhere", "a.qcow2")
    assert volumes.place(connection, "nowhere", "a.qcow2") == "volume:nowhere/a.qcow2"


def test_any_other_trouble_is_raised(connection: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = libvirt.libvirtError("internal error")
    trouble.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, "internal error")

    def fail(_connection: object, _name: str) -> None:
        raise trouble

    monkeypatch.setattr(libvirt.virConnect, "storagePoolLookupByName", fail)
    with pytest.raises(libvirt.libvirtError, match="internal error"):
        volumes.place(connection, "images", "a.qcow2")


@pytest.mark.parametrize(
    ("xml", "place"),
    [
        pytest.param(POOL.format(kind="dir"), "/srv/images/a", id="folder"),
        pytest.param(POOL.format(kind="logical"), "/srv/images/a", id="volume-group"),
        pytest.param("<pool type='dir'><target><path>/srv/</path></target></pool>", "/srv/a", id="slash-at-the-end"),
        pytest.param("<pool type='dir'><target><path>images</path></target></pool>", "", id="no-whole-path"),
        pytest.param("<pool type='dir'/>", "", id="no-target"),
        pytest.param("<pool type='rbd'><source><name>vms</name></source></pool>", "rbd:vms/a", id="ceph"),
        pytest.param("<pool type='rbd'/>", "", id="ceph-without-a-name"),
        pytest.param(POOL.format(kind="gluster"), "", id="kind-that-is-not-known"),
    ],
)
def test_the_place_that_a_volume_would_have(xml: str, place: str) -> None:
    assert volumes.expected(parse_xml(xml, "pool"), "a") == place
