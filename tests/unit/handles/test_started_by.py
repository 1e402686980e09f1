"""The mark of the run that started a domain: in the running domain alone, and gone together with its QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.handles import started_by
from tests.support import definition_of, disk_xml, domain_xml, hang_up, opened

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.guest import Guest

RUN = "20260101T000000Z-fix"


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return opened(tmp_path, domain_xml(disk_xml())).guests[0]


def test_the_mark_is_of_one_run(guest: Guest) -> None:
    assert not started_by.is_of(guest.domain, RUN)
    started_by.leave(guest.domain, RUN)
    assert started_by.is_of(guest.domain, RUN)
    assert not started_by.is_of(guest.domain, "20260101T000000Z")
    assert not started_by.is_of(guest.domain, f"{RUN}-2")


def test_a_later_mark_replaces_it(guest: Guest) -> None:
    started_by.leave(guest.domain, RUN)
    started_by.leave(guest.domain, f"{RUN}-2")
    assert started_by.is_of(guest.domain, f"{RUN}-2")
    assert not started_by.is_of(guest.domain, RUN)


@pytest.mark.parametrize("run", ["a&b", "a<b>", 'a"b'])
def test_the_name_of_a_run_may_hold_markup(guest: Guest, run: str) -> None:
    started_by.leave(guest.domain, run)
    assert guest.domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, started_by.URI).count("<") == 1
    assert not started_by.is_of(guest.domain, "a")


def test_the_definition_has_no_mark_and_no_other_metadata_goes(tmp_path: Path) -> None:
    note = "<x:note xmlns:x='urn:x'>kept</x:note>"
    guest = opened(tmp_path, domain_xml(disk_xml(), metadata=note)).guests[0]
    before = definition_of(guest).xml
    started_by.leave(guest.domain, RUN)
    assert definition_of(guest).xml == before
    assert "kept" in guest.domain.XMLDesc(0)
    assert started_by.URI in guest.domain.XMLDesc(0)


def test_the_next_qemu_has_no_mark(guest: Guest) -> None:
    started_by.leave(guest.domain, RUN)
    guest.domain.destroy()
    assert not started_by.is_of(guest.domain, RUN)
    guest.domain.create()
    assert not started_by.is_of(guest.domain, RUN)


def test_a_mark_of_somebody_elses_namespace_is_none_of_ours(guest: Guest) -> None:
    element, live = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_DOMAIN_AFFECT_LIVE
    guest.domain.setMetadata(element, f"<booted run='{RUN}'/>", "other", "urn:other", live)
    assert not started_by.is_of(guest.domain, RUN)


def test_a_libvirt_that_hung_up_costs_the_mark_and_is_no_answer(guest: Guest) -> None:
    hang_up(guest)
    started_by.leave(guest.domain, RUN)
    with pytest.raises(libvirt.libvirtError, match="socket is closed"):
        started_by.is_of(guest.domain, RUN)


def test_a_guest_that_is_off_is_left_unmarked(guest: Guest) -> None:
    guest.domain.destroy()
    started_by.leave(guest.domain, RUN)
    guest.domain.create()
    assert not started_by.is_of(guest.domain, RUN)
