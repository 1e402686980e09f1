"""Read every definition with libvirt's binding and lxml, as a script of one's own does: no verdict, no report.

python bench/peers/definitions_lxml.py URI
"""

import sys

import libvirt
from lxml import etree


def main() -> None:
    connection = libvirt.openReadOnly(sys.argv[1])
    for domain in connection.listAllDomains():
        root = etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        values = [f"machine={root.findtext('os/type')}:{_machine(root)}"]
        for disk in root.iterfind("devices/disk"):
            target, driver = disk.find("target"), disk.find("driver")
            name = "" if target is None else target.get("dev")
            bus = None if target is None else target.get("bus")
            discard = None if driver is None else driver.get("discard")
            values += [f"{name}.bus={bus}", f"{name}.discard={discard}"]
        for controller in root.iterfind("devices/controller[@type='scsi']"):
            values.append(f"scsi={controller.get('model')}")
        sys.stdout.write(f"{domain.name()}\t{' '.join(values)}\n")


def _machine(root: etree._Element) -> str | None:
    kind = root.find("os/type")
    return None if kind is None else kind.get("machine")


main()
