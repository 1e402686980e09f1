from fixers.boot_names import boot_by_uuid
from reclaim.base.errors import NotAssessable
from reclaim.handles.guest import Guest
from reclaim.inside import generated
from reclaim.requirement import requirement

#: how many remarks a row has room for
_SHOWN = 20


@requirement(
    "boot-names",
    "The boot loader uses device names that survive a change of bus",
    stage="names",
    fixer=boot_by_uuid,
    after=("guest-access",),
    reference="https://chrisirwin.ca/posts/discard-with-kvm/",
)
def check_boot_names(guest: Guest) -> str:
    """`root=/dev/vda1` finds no root once the disk is called sda, and grub-pc installs to a disk that is gone."""
    from reclaim.inside.boot import (  # noqa: PLC0415 (start-up)
        cmdline,
        grub,
        loaders,
        other_services,
    )

    facts = guest.facts
    places = loaders.places(facts)
    wrong = [str(place) for place in places if place.names]
    for question, names in grub.gone_install_devices(facts).items():
        wrong += [f"{question}: {name} is not there" for name in names]
    direct = guest.definition.root.findtext("os/kernel")
    wrong += [
        f"<cmdline> of the definition: {name}"
        for name in cmdline.names(guest.definition.kernel_parameters)
    ]
    wrong += cmdline.clones(facts)
    managed = [
        remark
        for place in places
        for remark in generated.managed(place.path, place.before)
    ]
    assert not wrong, "; ".join([*wrong, *managed])
    if not direct and (why := loaders.why_not_known(facts)):
        raise NotAssessable(why)
    remarks = other_services.remarks(facts)
    more = [f"and {len(remarks) - _SHOWN} more"] if len(remarks) > _SHOWN else []
    remarks = [*remarks[:_SHOWN], *more]
    beside = (
        f"; other references, to be checked after a change: {'; '.join(remarks)}"
        if remarks
        else ""
    )
    return f"the names in kernel command lines, resume, crypttab and the like survive a change of bus{beside}"
