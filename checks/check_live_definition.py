from fixers.live_definition import run_as_defined
from reclaim.base.errors import NotApplicable
from reclaim.definition.compare import storage_differences
from reclaim.handles.guest import Guest
from reclaim.requirement import requirement


@requirement(
    "live-definition",
    "The running QEMU has the storage settings of the definition",
    stage="power",
    fixer=run_as_defined,
    after=("guest-access",),
    reference="https://libvirt.org/manpages/virsh.html#define",
)
def check_live_definition(guest: Guest) -> str:
    """A changed definition counts from the next cold start; a reboot inside the guest keeps the QEMU process."""
    live = guest.live
    if live is None:
        assert guest.left_off is None, guest.left_off
        raise NotApplicable("it is off: the next start uses the definition")
    if not guest.is_persistent:
        raise NotApplicable("it is transient: it has no definition to differ from")
    differences = storage_differences(live, guest.definition)
    assert not differences, "; ".join(differences)
    return "machine, buses, controllers and discard run as they are defined"
