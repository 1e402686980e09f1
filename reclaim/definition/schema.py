"""libvirt's schema of a definition: which element of one does not meet it.

libvirt holds definitions that its own schema refuses: older versions took them, and `virsh define` asks the schema
only with --validate. The schema's own words name no element (`Extra element devices in interleave`).
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

from lxml import etree

from reclaim.base import masked
from reclaim.definition.domain import Definition, Element

#: libvirt's library brings it, here and on the hypervisor
_PLACES = (
    Path("/usr/share/libvirt/schemas/domain.rng"),
    Path("/usr/local/share/libvirt/schemas/domain.rng"),
)


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
    """Return the child of *parent* without which the schema takes *root*, else those that it does not take alone."""
    children = list(parent)
    for position, child in enumerate(children):
        parent.remove(child)
        is_taken = schema.validate(root)
        parent.insert(position, child)
        if is_taken:
            return [child]
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
    """Return *element* without its children as XML, and the elements that it is in."""
    alone = etree.Element(element.tag, dict(element.attrib))
    above = [etree.QName(outer).localname for outer in element.iterancestors()]
    text = etree.tostring(masked.mask(alone), encoding="unicode")
    return f"{text} in {'/'.join(reversed(above))}"
