from reclaim.base.errors import Withheld
from reclaim.changes import domfstrim
from reclaim.changes.change import Change
from reclaim.changes.domfstrim import TrimTimer
from reclaim.handles.guest import Guest


def trim_from_host(guest: Guest) -> list[Change]:
    """Put a weekly timer on the hypervisor that runs `virsh domfstrim` for the guest while it is on."""
    hypervisor = guest.hypervisor
    uri = domfstrim.local_uri(hypervisor)
    if uri is None:
        raise Withheld(
            f"{hypervisor.uri} is not the libvirt of the system: run virsh domfstrim from a timer of your own"
        )
    if not domfstrim.has_systemd(hypervisor):
        raise Withheld(
            "no systemd runs on the hypervisor: put `virsh domfstrim` with its UUID into /etc/cron.weekly"
        )
    virsh = domfstrim.found_virsh(hypervisor)
    if virsh is None:
        raise Withheld(
            "virsh is not installed on the hypervisor: it comes with libvirt-clients, or libvirt-client"
        )
    if domfstrim.is_installed(guest):
        raise Withheld(
            f"{domfstrim.unit_of(guest.uuid)}.timer is installed and does not run: systemctl enable --now it"
        )
    return [TrimTimer(guest.name, guest.uuid, uri, virsh, domfstrim.price(guest))]
