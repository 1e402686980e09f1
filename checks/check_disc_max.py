from fixers.disc_max import name_the_layer
from reclaim.base.errors import NotApplicable
from reclaim.handles.guest import Guest
from reclaim.inside.filesystems import deaf_pools, filesystems, first_deaf
from reclaim.requirement import requirement


@requirement(
    "disc-max",
    "Every layer under the guest's filesystems takes discards",
    stage="inside",
    fixer=name_the_layer,
    after=("live-definition",),
    reference="https://man7.org/linux/man-pages/man8/lsblk.8.html",
)
def check_disc_max(guest: Guest) -> str:
    """If a disk, partition, dm or LUKS layer shows DISC-MAX 0, no filesystem above it can give space back."""
    judged = list(filesystems(guest.facts))
    if not judged:
        raise NotApplicable("no mounted filesystem of it lies on a disk")
    # from the disk up: the first layer without discard is the one that swallows it
    named = [
        f"{layer.path} ({layer.type}) under {target}"
        for target, layer in first_deaf(guest.facts).items()
    ]
    assert not named, "DISC-MAX is 0 on " + "; ".join(named)
    # DISC-MAX is that of the volumes; a pool may keep what they discard for its next volume
    pools = [
        f"{pool} under {target}" for target, pool in deaf_pools(guest.facts).items()
    ]
    assert not pools, f"a thin pool passes no discards down: {'; '.join(pools)}"
    return "; ".join(
        f"{filesystem.mount.target}: {min(layer.disc_max for layer in filesystem.ways[0])} bytes"
        for filesystem in judged
    )
