"""Read every definition with virt-manager's own library, with which virt-xml and virt-install read definitions.

    /usr/bin/python3 bench/peers/definitions_virtinst.py URI

The library is no package of PyPI: Debian's virtinst has it in a folder of its own.
"""

import sys

sys.path.insert(0, "/usr/share/virt-manager")

from virtinst import cli  # type: ignore[import-not-found]


def main() -> None:
    connection = cli.getConnection(sys.argv[1])
    for guest in connection.fetch_all_domains():
        values = [f"machine={guest.os.os_type}:{guest.os.machine}"]
        for disk in guest.devices.disk:
            values += [f"{disk.target}.bus={disk.bus}"]
            values += [f"{disk.target}.discard={disk.driver_discard}"]
        for controller in guest.devices.controller:
            if controller.type == "scsi":
                values.append(f"scsi={controller.model}")
        sys.stdout.write(f"{guest.name}\t{' '.join(values)}\n")


main()
