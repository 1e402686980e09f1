from fixers.reclaim_proof import name_what_keeps_it
from reclaim.base.errors import NotApplicable, NotAssessable
from reclaim.handles.guest import Guest
from reclaim.requirement import requirement


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
    from reclaim.space.proof import prove  # noqa: PLC0415 (start-up)

    proofs = prove(guest)
    if not proofs:
        raise NotApplicable("no mounted filesystem of it lies on a disk")
    kept = [proof.told for proof in proofs if not proof.problem and not proof.holds]
    assert not kept, "; ".join(kept)
    evidence = "; ".join(proof.told for proof in proofs)
    if all(proof.excluded for proof in proofs):
        raise NotApplicable(evidence)
    if not any(proof.holds for proof in proofs):
        raise NotAssessable(evidence)
    return evidence
