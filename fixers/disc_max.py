from reclaim.change import Change
from reclaim.errors import Withheld
from reclaim.guest import Guest
from reclaim.machine import VIRTIO_BLK_DISCARD, parse
from reclaim.storage import filesystems


def name_the_layer(guest: Guest) -> list[Change]:
    """Nothing is proposed here: the other requirements mend the disk, and LUKS is the user's decision."""
    layers = {layer.type for one in filesystems(guest.facts) for way in one.ways for layer in way if not layer.disc_max}
    if "crypt" in layers and "disk" not in layers:
        raise Withheld("LUKS passes no discards unless crypttab says `discard`: that shows which blocks are free")
    live = guest.live
    known = parse(live.machine or "") if live else None
    if live and known and known.version and known.version < VIRTIO_BLK_DISCARD:
        if any(disk.bus == "virtio" for disk in live.disks):
            raise Withheld(f"virtio-blk on {known.name} offers no discard: disk-bus and machine-type mend that")
    raise Withheld("the layer named has to be changed by hand")
