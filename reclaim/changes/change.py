"""Changes: small values that can describe, apply and undo themselves. Only the engine applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from reclaim.base.errors import Withheld

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testinfra.host import Host


class Place(Protocol):
    """A place with a name and a shell: a guest, or the hypervisor."""

    @property
    def name(self) -> str: ...

    @property
    def shell(self) -> Host: ...


class Change(Protocol):
    """Something that can be applied to a guest or the hypervisor (its *place*), and taken back."""

    kind: ClassVar[str]

    @property
    def target(self) -> str:
        """The thing that is changed, in words."""
        ...

    @property
    def diff(self) -> str:
        """The change as a diff, or as the command that is run. Shows no secret (`reclaim.base.masked`)."""
        ...

    def apply(self, place: Any, /) -> dict[str, str]:
        """Apply it, or raise ChangeFailed and leave nothing half done.

        Its answer is kept in the journal and given to `undo`; `note` in it is shown to the user.
        """
        ...

    def undo(self, place: Any, /, outcome: dict[str, str]) -> str:
        """Take it back, and return in words how. Raises ChangeFailed if that is not safe."""
        ...


class MendsAPart(list[Change]):
    """Changes that mend a part of a finding; `left` has the rest, with the steps to take by hand."""

    def __init__(self, changes: Iterable[Change], left: str) -> None:
        super().__init__(changes)
        self.left = left


def with_the_rest(changes: list[Change], left: list[str]) -> list[Change]:
    """Return *changes*, and with them what is *left* to the user. Raises Withheld if there are no changes."""
    rest = "; ".join(left)
    if not changes:
        raise Withheld(rest)
    return MendsAPart(changes, rest) if left else changes
