from reclaim.base.errors import Withheld
from reclaim.changes.change import Change
from reclaim.handles.guest import Guest


def name_what_keeps_it(guest: Guest) -> list[Change]:
    """Nothing mends a proof: the layer that keeps the bytes is named, and has a requirement of its own."""
    raise Withheld("fix the layer that is named, and prove it again")
