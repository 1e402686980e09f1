from reclaim.base.errors import AgentBlocked, Pending, Withheld
from reclaim.changes.change import Change
from reclaim.changes.definition_change import changed_definition
from reclaim.definition import bound
from reclaim.definition.domain import Definition
from reclaim.handles.agent import AGENT_CHANNEL
from reclaim.handles.guest import Guest

_INSTALL = (
    "in the guest, install and start its agent: apt install qemu-guest-agent (Debian, Ubuntu), "
    "dnf install qemu-guest-agent (RHEL, Fedora), zypper install qemu-guest-agent (SUSE), "
    "pacman -S qemu-guest-agent (Arch), apk add qemu-guest-agent (Alpine)"
)
#: guest-exec is off by default there, and what it starts is confined; a later package may write the file anew
_ALLOW_RHEL = (
    "in the guest, add guest-exec and guest-exec-status to --allow-rpcs in FILTER_RPC_ARGS (RHEL 9 and later), or take "
    "them out of BLACKLIST_RPC (RHEL 7 and 8), in /etc/sysconfig/qemu-ga; setsebool -P "
    "virt_qemu_ga_read_nonsecurity_files on (SELinux lets its fstrim see nothing else); then restart qemu-guest-agent"
)
_ALLOW = (
    "in the guest, allow guest-exec and guest-exec-status: FILTER_RPC_ARGS or BLACKLIST_RPC in "
    "/etc/sysconfig/qemu-ga, or allow-rpcs/block-rpcs in /etc/qemu/qemu-ga.conf; then restart qemu-guest-agent"
)


def add_agent_channel(guest: Guest) -> list[Change]:
    """Add the channel on which the guest's agent listens; the agent itself is the guest's to install."""
    if isinstance(guest.look_inside(), AgentBlocked):
        system = guest.agent.system()
        raise Withheld(_ALLOW_RHEL if system and system.filters_commands else _ALLOW)
    if guest.ssh is not None:
        raise Withheld(
            "the inventory names ssh for it: fix the access by ssh, or install an agent"
        )
    if _has_channel(guest.definition):
        if guest.live is not None and not _has_channel(guest.live):
            raise Pending(
                f"the agent's channel is there from the guest's next power cycle; {_INSTALL}"
            )
        raise Withheld(_INSTALL)
    if guest.definition.root.find("devices/controller[@type='virtio-serial']") is None:
        bound.refuse_a_new_pci_device(guest.definition)
    edit = guest.definition.edit()
    channel = edit.add_device("channel", {"type": "unix"})
    channel.append(
        channel.makeelement("target", {"type": "virtio", "name": AGENT_CHANNEL})
    )
    return [changed_definition(edit)]


def _has_channel(definition: Definition) -> bool:
    targets = definition.root.iterfind("devices/channel/target")
    return any(target.get("name") == AGENT_CHANNEL for target in targets)
