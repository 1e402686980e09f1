from fixers.reclaim_proof import name_what_keeps_it
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.handles.guest import Guest
from reclaim.requirement import requirement
from reclaim.space.proof import prove


@requirement(
    "reclaim-proof",
    "Space that the guest frees comes back to the host",
    stage="inside",
    fixer=name_what_keeps_it,
    after=(
        "disk-discard",
        "image-format",
        "live-definition",
        "disc-max",
        "trim-backlog",
    ),
    option="prove",
    reference="https://www.qemu.org/docs/master/system/qemu-block-drivers.html",
)
def check_reclaim_proof(guest: Guest) -> str:
    """DISC-MAX and a happy fstrim prove nothing: a canary is written, deleted and trimmed, and counted on the host."""
    found = prove(guest)
    if not found:
        raise NotApplicable("no mounted filesystem of it lies on a disk")
    kept = [one.told for one in found if not one.problem and not one.holds]
    assert not kept, "; ".join(kept)
    told = "; ".join(one.told for one in found)
    if all(one.excluded for one in found):
        raise NotApplicable(told)
    if not any(one.holds for one in found):
        raise NotAssessable(told)
    return told
