"""libvirt's schema of a definition: which element of one does not meet it.

libvirt holds definitions that its own schema refuses: older versions took them, and `virsh define` asks the schema
only with --validate. The schema's own words name no element (`Extra element devices in interleave`).
"""

from __future__ import annotations

import copy
from functools import cache
from itertools import combinations
from pathlib import Path

from lxml import etree

from reclaim.base import masked
from reclaim.definition.domain import Definition, Element

#: libvirt's library brings it, here and on the hypervisor
_PLACES = (
    Path("/usr/share/libvirt/schemas/domain.rng"),
    Path("/usr/local/share/libvirt/schemas/domain.rng"),
)


#: so many children are left out together at most, if there are few: each combination is validated
_AT_ONCE = 3
_FEW = 24


@cache
def _schema() -> etree.RelaxNG | None:
    for path in _PLACES:
        try:
            return etree.RelaxNG(etree.parse(path))
        except (OSError, etree.LxmlError):
            continue
    return None


def refused_element(definition: Definition) -> str | None:
    """Return the innermost element that the schema does not take, with its possible secrets masked.

    If there are several, it is the first with the number of the others. Returns "" if the fault lies with none alone;
    None if the schema takes the definition, or is not at hand.
    """
    schema = _schema()
    if schema is None:
        return None
    root = copy.deepcopy(definition.root)
    if schema.validate(root):
        return None
    place: Element = root
    others = 0
    while faulty := _children_at_fault(schema, root, place):
        place = faulty[0]
        others += len(faulty) - 1
        for other in faulty[1:]:
            other.getparent().remove(other)  # type: ignore[union-attr]
    if place is root:
        return ""
    more = f" and {others} more" if others else ""
    return _shown(place) + more


def _children_at_fault(
    schema: etree.RelaxNG, root: Element, parent: Element
) -> list[Element]:
    """Return the fewest children of *parent* without which the schema takes *root*, else those not taken alone."""
    children = list(parent)
    most = _AT_ONCE if len(children) <= _FEW else 1
    for number in range(1, most + 1):
        for left_out in combinations(children, number):
            parent[:] = [child for child in children if child not in left_out]
            is_taken = schema.validate(root)
            parent[:] = children
            if is_taken:
                return list(left_out)
    parent[:] = []
    faulty = []
    if schema.validate(root):
        for child in children:
            parent[:] = [child]
            if not schema.validate(root):
                faulty.append(child)
    parent[:] = children
    return faulty


def _shown(element: Element) -> str:
    """Return *element* with its text and without its children as XML, and the elements that it is in."""
    alone = etree.Element(element.tag, dict(element.attrib))
    alone.text = (element.text or "").strip() or None
    above = [etree.QName(outer).localname for outer in element.iterancestors()]
    text = etree.tostring(masked.mask(alone), encoding="unicode")
    return f"{text} in {'/'.join(reversed(above))}"
