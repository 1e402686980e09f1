"""Changes that a running QEMU takes: they need no power cycle.

libvirt decides. Measured with libvirt 9.0.0 and QEMU 7.2, and read in qemuDomainDiskChangeSupported
(libvirt's src/qemu/qemu_domain.c) as of 2025: `discard` and `discard_no_unref` of a running disk are refused;
`detect_zeroes` is *accepted and nothing happens*. So libvirt's word is never enough: the disk is read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import libvirt
from lxml import etree

from reclaim.base.errors import ChangeFailed, Refused
from reclaim.base.masked import diff_elements
from reclaim.base.text import libvirt_words
from reclaim.definition.compare import DRIVER_SETTINGS, Difference, differences
from reclaim.definition.domain import Definition, DiskView, parse_xml
from reclaim.handles.guest import Guest

ATTACH = "attach"


@dataclass(frozen=True)
class LiveUpdate:
    """A disk of the running QEMU as it is defined: attached if it is missing, else its driver's settings changed.

    `before` is the disk as it runs, None if it is not there.
    """

    kind: ClassVar[str] = "live-update"
    guest: str
    disk: str
    before: str | None
    after: str

    @property
    def target(self) -> str:
        return f"running disk {self.disk} of {self.guest}"

    @property
    def diff(self) -> str:
        before = None if self.before is None else parse_xml(self.before, "disk")
        return diff_elements(
            before, parse_xml(self.after, "disk"), f"{self.disk}, running"
        )

    @property
    def _asks(self) -> list[str]:
        """The settings of the driver, or ATTACH, that libvirt may refuse."""
        if self.before is None:
            return [ATTACH]
        old, new = _driver(self.before), _driver(self.after)
        return [name for name in DRIVER_SETTINGS if old.get(name) != new.get(name)]

    def apply(self, guest: Guest) -> dict[str, str]:
        """Ask libvirt, and believe only the disk as it is afterwards."""
        ask = (
            guest.domain.attachDeviceFlags
            if self.before is None
            else guest.domain.updateDeviceFlags
        )
        try:
            ask(self.after, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as exc:
            raise self._refused(guest, libvirt_words(exc)) from exc
        guest.forget()
        live = guest.live
        disk = (
            next((view for view in live.all_disks if view.target == self.disk), None)
            if live
            else None
        )
        wanted = _driver(self.after)
        if disk is None or any(
            disk.driver.get(name) != wanted.get(name) for name in DRIVER_SETTINGS
        ):
            raise self._refused(
                guest, f"it accepts another {', '.join(self._asks)} and changes nothing"
            )
        return {"note": "applied to the running guest"}

    def _refused(self, guest: Guest, why: str) -> Refused:
        for asked in self._asks:
            guest.hypervisor.refused_live[asked] = why
        return Refused(
            f"{guest.name}: disk {self.disk} was not changed in the running guest: libvirt: {why}"
        )

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        if not guest.is_running:
            return "it is off"
        if self.before is None:
            raise ChangeFailed(
                f"{guest.name}: the guest may use disk {self.disk} by now: detach it by hand"
            )
        LiveUpdate(self.guest, self.disk, self.after, self.before).apply(guest)
        return f"the running disk {self.disk} is as it was"


def live_updates(guest: Guest) -> tuple[list[LiveUpdate], str]:
    """Return the updates that make the running QEMU as it is defined without a power cycle; if there are none, why."""
    live = guest.live
    if live is None:
        return [], ""
    refused = guest.hypervisor.refused_live
    by_disk: dict[str, list[Difference]] = {}
    for difference in differences(live, guest.definition):
        asked = ATTACH if difference.live is None else difference.setting
        if difference.defined is None or asked is None:
            return (
                [],
                "",
            )  # the machine, a bus, a controller: hardware that QEMU has from its start
        if asked in refused:
            return [], f"libvirt: {refused[asked]}"
        by_disk.setdefault(difference.defined.target, []).append(difference)
    return [_update(guest, several) for several in by_disk.values()], ""


def _update(guest: Guest, of_one_disk: list[Difference]) -> LiveUpdate:
    """Return the update for the differences of one disk."""
    first = of_one_disk[0]
    if first.defined is None:
        raise ValueError("the disk is not defined, so there are no settings to apply")
    if first.live is None:
        return LiveUpdate(guest.name, first.defined.target, None, _text(first.defined))
    element = parse_xml(_text(first.live), "disk")
    driver = element.find("driver")
    if driver is None:
        driver = etree.Element("driver")
        element.insert(0, driver)
    for difference in of_one_disk:
        wanted = first.defined.driver.get(str(difference.setting))
        if wanted is None:
            driver.attrib.pop(str(difference.setting), None)
        else:
            driver.set(str(difference.setting), wanted)
    return LiveUpdate(
        guest.name,
        first.live.target,
        _text(first.live),
        etree.tostring(element, encoding="unicode"),
    )


def _text(disk: DiskView) -> str:
    return etree.tostring(disk.element, encoding="unicode", with_tail=False)


def _driver(disk: str) -> dict[str, str]:
    view = Definition(f"<domain><devices>{disk}</devices></domain>").all_disks[0]
    return dict(view.driver)
