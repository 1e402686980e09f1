"""What is changed in the process of a run before it begins, to have what cannot be had otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from tests.faults.points import Cut, Watch, hung_up, persisting


def no_holes_can_be_punched(_watch: Watch, _asked: dict[str, Any]) -> None:
    """As on a filesystem that has none, where a copy is written anew beside itself."""
    from reclaim.files import holes  # noqa: PLC0415 (in the child alone)

    vars(holes)["can_punch"] = lambda _folder: False


#: answered by the binding itself, without a word to the daemon
_LOCAL = ("name", "UUID", "UUIDString", "ID", "connect", "c_pointer", "domain", "close", "isAlive", "getURI")


class _Calls:
    """Counts every call to libvirt, and lets one thing happen at one of them."""

    def __init__(self, watch: Watch, cut: Cut | None, persist: Callable[[Any], None]) -> None:
        self.watch = watch
        self.cut = cut
        self.persist = persist
        self.dead: set[int] = set()
        self.is_away = False
        self.is_inside = False

    def make(self, name: str, handle: Any, call: Callable[[], Any]) -> Any:
        """Do *call* of *handle*, unless its connection is dead by now."""
        if self.is_inside:
            return call()
        label = f"call {name}"
        self.watch.counts[label] += 1
        number = self.watch.counts[label]
        self.watch.seen.append((label, number))
        connection = handle if isinstance(handle, libvirt.virConnect) else handle.connect()
        if self.cut and (self.cut.label, self.cut.number) == (label, number):
            self._let_it_happen(connection)
        if self.is_away or id(connection) in self.dead:
            raise hung_up()
        self.is_inside = True  # what the binding calls by itself is not counted
        try:
            return call()
        finally:
            self.is_inside = False

    def _let_it_happen(self, connection: Any) -> None:
        assert self.cut is not None
        if self.cut.act in ("away", "restarted"):
            self.dead.add(id(connection))
        self.is_away = self.cut.act == "away"
        self.is_inside = True
        try:
            if self.cut.act == "edited":
                _give_a_title(connection)
            elif self.cut.act == "undefined":
                connection.lookupByName("web").undefine()
            elif self.cut.act == "renamed":
                connection.lookupByName("web").rename("shop")
            if not self.is_away:
                self.persist(connection)  # the next process has to find it so
        finally:
            self.is_inside = False


def _give_a_title(connection: Any) -> None:
    """As somebody does by hand meanwhile."""
    xml = connection.lookupByName("web").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    connection.defineXML(xml.replace("</uuid>", "</uuid>\n  <title>by hand</title>", 1))


def libvirt_calls(watch: Watch, asked: dict[str, Any]) -> None:
    """Count every call to libvirt; the cut says at which of them what happens."""
    from reclaim.handles.hypervisor import Hypervisor  # noqa: PLC0415 (in the child alone)

    calls, watch.cut = _Calls(watch, watch.cut, persisting(Path(asked["node"]))), None
    reconnect = Hypervisor.reconnect
    # it is back at once, or never
    setattr(Hypervisor, "reconnect", lambda one, _seconds: reconnect(one, 0))  # noqa: B010
    for kind in (libvirt.virConnect, libvirt.virDomain):
        for name, call in list(vars(kind).items()):
            if callable(call) and not name.startswith("_") and name not in _LOCAL:
                setattr(kind, name, _counted(calls, name, call))
    alive = libvirt.virConnect.isAlive
    libvirt.virConnect.isAlive = lambda one: 0 if calls.is_away or id(one) in calls.dead else alive(one)
    for name in ("open", "openReadOnly"):
        setattr(libvirt, name, _opening(calls, getattr(libvirt, name)))


def _counted(calls: _Calls, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda handle, *more: calls.make(name, handle, lambda: call(handle, *more))


def _opening(calls: _Calls, call: Callable[..., Any]) -> Callable[..., Any]:
    def opened(*more: Any) -> Any:
        if calls.is_away:
            raise hung_up()
        found = call(*more)
        calls.dead.discard(id(found))  # another one, where a dead one was
        return found

    return opened
