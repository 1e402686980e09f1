"""Another persistent definition of a guest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import libvirt

from reclaim.base.errors import ChangedSince, ChangeFailed
from reclaim.base.masked import news
from reclaim.base.text import libvirt_words
from reclaim.changes.power import its_own
from reclaim.definition import compare, schema
from reclaim.definition.domain import Definition, Edit
from reclaim.handles.guest import Guest


@dataclass(frozen=True)
class DefinitionChange:
    """Another persistent definition. A running guest uses it from its next cold start."""

    kind: ClassVar[str] = "definition"
    name: str
    before: str
    after: str
    #: disk targets that the change renames
    renames: dict[str, str] = field(default_factory=dict)
    #: what is lost or moved elsewhere by it, for the evidence
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        return f"definition of {self.name}"

    @property
    def diff(self) -> str:
        return compare.diff_definitions(Definition(self.before), Definition(self.after))

    def apply(self, guest: Guest) -> dict[str, str]:
        note = _define(guest, self.before, self.after)
        guest.renamed.update(self.renames)
        guest.forget(inside=False)
        outcome = {"defined": guest.persistent.xml}
        return {**outcome, "note": note} if note else outcome

    def undo(self, guest: Guest, outcome: dict[str, str]) -> str:
        now = _current(guest)
        before, left = (
            its_own(guest, xml)
            for xml in (self.before, outcome.get("defined", self.after))
        )
        if compare.same(now, Definition(before)):
            return "the definition is as it was before"
        if "defined" not in outcome and not compare.missing_from(now, Definition(left)):
            left = (
                now.xml
            )  # the run died before it could write down what libvirt made of it
        if not compare.same(now, Definition(left)):
            raise ChangedSince(
                f"{guest.name}: the definition has changed since that run; reclaim left it as it is",
                compare.diff_definitions(Definition(left), now),
            )
        _expect_offered(guest, before)
        _define(guest, left, before)
        for renamed in self.renames:
            guest.renamed.pop(renamed, None)
        guest.forget(inside=False)
        return "the definition is as it was" + (
            "; it takes effect at the next cold start" if guest.is_running else ""
        )


def _expect_offered(guest: Guest, before: str) -> None:
    """Raise ChangeFailed if libvirt cannot take *before*, since its machine type is gone."""
    if absent := guest.hypervisor.why_unstartable(Definition(before)):
        raise ChangeFailed(
            f"{guest.name}: {absent}, so libvirt refuses the old definition: the present one stays"
        )


def changed_definition(edit: Edit) -> DefinitionChange:
    """The change that an edit makes."""
    return DefinitionChange(
        edit.origin.name,
        edit.origin.xml,
        edit.definition.xml,
        dict(edit.renames),
        tuple(edit.notes),
    )


def _current(guest: Guest) -> Definition:
    """The persistent definition as it is at this moment. Raises ChangeFailed if there is none."""
    guest.forget(inside=False)
    try:
        definition = guest.persistent if guest.is_persistent else None
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        raise ChangeFailed(
            f"{guest.name}: it has been undefined; nothing was changed"
        ) from exc
    if definition is None:
        raise ChangeFailed(
            f"{guest.name}: it is transient: there is no definition to change"
        )
    return definition


def _define(guest: Guest, expected: str, wanted: str) -> str:
    """Define *wanted* if *expected* is defined now, and see that libvirt kept all of it. Return a note, or ""."""
    current = _current(guest)
    if its_own(guest, wanted) != wanted:
        name = Definition(wanted).name
        raise ChangeFailed(
            f"{guest.name}: it has been renamed from {name}; nothing was changed: run again"
        )
    if not compare.same(current, Definition(expected)):
        raise ChangeFailed(
            f"{guest.name}: the definition has changed since it was read; run again"
        )
    define = guest.hypervisor.connection.defineXMLFlags
    note = ""
    try:
        if not _is_defined_by_schema(guest, wanted, current):
            define(wanted, 0)
            note = refused_by_schema(current)
    except libvirt.libvirtError as exc:
        raise ChangeFailed(
            f"{guest.name}: libvirt refuses the definition: {libvirt_words(exc)}"
        ) from exc
    guest.forget(inside=False)
    lost = compare.missing_from(guest.persistent, Definition(wanted))
    if lost:
        dropped = news(lost[0], expected)
        try:
            define(current.xml, 0)
        except libvirt.libvirtError as exc:
            raise ChangeFailed(
                f"{guest.name}: libvirt dropped {dropped} from the new definition, and refuses the old one: "
                f"{libvirt_words(exc)}"
            ) from exc
        guest.forget(inside=False)
        raise ChangeFailed(
            f"{guest.name}: libvirt dropped {dropped}; the definition is as it was"
        )
    return note


def _is_defined_by_schema(guest: Guest, wanted: str, current: Definition) -> bool:
    """Define *wanted* by libvirt's schema. Return False if the schema refuses it, and refuses *current* as well.

    Raises libvirtError if libvirt refuses *wanted* for another reason, or the schema refuses only *wanted*.
    """
    define = guest.hypervisor.connection.defineXMLFlags
    try:
        define(wanted, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    except libvirt.libvirtError as refusal:
        if refusal.get_error_code() != libvirt.VIR_ERR_XML_INVALID_SCHEMA:
            raise
        try:
            define(current.xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        except libvirt.libvirtError as earlier:
            if earlier.get_error_code() == libvirt.VIR_ERR_XML_INVALID_SCHEMA:
                return False
        raise
    return True


def refused_by_schema(current: Definition) -> str:
    """Return a note about a definition that libvirt's schema refuses as it is, or "" if the schema takes it."""
    element = schema.refused_element(current)
    if element is None:
        return ""
    culprit = f" for {element}" if element else ""
    return (
        f"libvirt's schema refused the definition before this change too{culprit}: "
        "it is defined without the schema"
    )
