"""Another definition: made if nothing changed since it was read, and taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reclaim.base.errors import ChangeFailed
from reclaim.changes.definition_change import DefinitionChange
from tests.support import disk_xml, domain_xml, opened


def _renamed(guest: Any) -> None:
    guest.domain.destroy()
    guest.domain.rename("two")


def _edited(guest: Any) -> None:
    guest.hypervisor.connection.defineXML(guest.persistent.xml.replace("65536", "131072"))


def _gone(guest: Any) -> None:
    guest.domain.destroy()
    guest.domain.undefine()


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [
        pytest.param(_renamed, "somebody has renamed it from one; nothing was changed: run again", id="renamed"),
        pytest.param(_edited, "the definition has changed since it was read; run again", id="edited"),
        pytest.param(_gone, "somebody has undefined it; nothing was changed", id="undefined"),
    ],
)
def test_what_somebody_did_since_it_was_read_is_seen_before_it_is_defined(
    tmp_path: Path, meanwhile: Callable[[Any], None], words: str
) -> None:
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    xml = guest.persistent.xml
    change = DefinitionChange("one", xml, xml.replace("type='qcow2'", "type='qcow2' discard='unmap'"))
    meanwhile(guest)
    with pytest.raises(ChangeFailed, match=words):
        change.apply(guest)
    assert not any("unmap" in one.XMLDesc(0) for one in guest.hypervisor.connection.listAllDomains())
