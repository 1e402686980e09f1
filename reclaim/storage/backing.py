"""The files that the header of an image names: its backing file, and the one that holds its data. None is opened.

QEMU's docs/interop/qcow2.rst, qed_spec.rst; block/qcow.c, block/vmdk.c; block.c (path_has_protocol, path_combine,
json: and file: names).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

from reclaim.base.errors import NotAssessable

#: formats whose header can name another file; libvirt's names
CHAINING = frozenset(("qcow2", "qcow", "qed", "vmdk"))
#: bytes of an image that `names` is given first
HEAD = 4096
_MAGIC, _QED, _VMDK = b"QFI\xfb", b"QED\0", b"KDMV"
_BACKING_FORMAT, _DATA_FILE = 0xE2792ACA, 0x44415441
_MAX_NAME = 1023

#: the bytes at an offset, of a length; fewer if the file ends
Read = Callable[[int, int], bytes]


class Names(NamedTuple):
    """The names in a header. `format` is that of `backing`, None if QEMU would look for itself."""

    backing: str | None = None
    format: str | None = None
    data: str | None = None


def names(read: Read, format: str | None, path: str) -> Names:  # noqa: A002
    """Return the names in the header of the image at *path*. *format* is the declared one, or None.

    Raises NotAssessable if the header cannot be read, or is none of that format.
    """
    if format is not None and format not in CHAINING:
        return Names()
    head = read(0, HEAD)
    for magic, least, reader in _READERS:
        if head.startswith(magic) and len(head) >= least:
            return reader(read, head, path)
    if format is None and head:
        return Names()  # QEMU takes it for a raw one
    raise NotAssessable(
        f"{path}: its header cannot be read as that of a {format or 'disk image'}"
    )


#: offset and length of the name in a qcow and a qcow2
_PLACE = struct.Struct(">QI")


def _at(read: Read, offset: int, length: int) -> str | None:
    if not offset or not length:
        return None
    return _text(read(offset, min(length, _MAX_NAME)))


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _of_qcow(read: Read, head: bytes, path: str) -> Names:
    """Return the names in the header of a qcow or a qcow2."""
    if head[4:8] == b"\0\0\0\1":
        return Names(_at(read, *_PLACE.unpack_from(head, 8)))
    return _of_qcow2(read, head, path)


def _of_qcow2(read: Read, head: bytes, path: str) -> Names:
    version = int.from_bytes(head[4:8], "big")
    if version not in (2, 3) or len(head) < 104:
        raise NotAssessable(
            f"{path}: a qcow2 of version {version}, or one that ends in its header"
        )
    offset = 72 if version == 2 else int.from_bytes(head[100:104], "big")
    extensions: dict[int, str] = {}
    while offset + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, offset)
        if kind == 0:
            break
        extensions.setdefault(kind, _text(head[offset + 8 : offset + 8 + length]))
        offset += 8 + -(-length // 8) * 8
    return Names(
        _at(read, *_PLACE.unpack_from(head, 8)),
        extensions.get(_BACKING_FORMAT),
        extensions.get(_DATA_FILE),
    )


def _of_vmdk(_read: Read, head: bytes, _path: str) -> Names:
    hint = re.search(
        rb'^\s*parentFileNameHint\s*=\s*"([^"\n]{1,1023})"', head, re.MULTILINE
    )
    return Names(_text(hint[1]) if hint else None, "vmdk")


def _of_qed(read: Read, head: bytes, _path: str) -> Names:
    features = int.from_bytes(head[16:24], "little")
    offset, length = struct.unpack_from("<II", head, 56)
    if not features & 1:
        return Names()
    return Names(_at(read, offset, length), "raw" if features & 4 else None)


#: the first bytes of a header, the bytes that it has at least, and the function that reads its names
_READERS: tuple[tuple[bytes, int, Callable[[Read, bytes, str], Names]], ...] = (
    (_MAGIC, 24, _of_qcow),
    (_QED, 64, _of_qed),
    (_VMDK, 0, _of_vmdk),
    (b"# Disk DescriptorFile", 0, _of_vmdk),
)


# Where a name leads ---------------------------------------------------------------------------

#: nodes of a `json:` name that are taken apart, and how deep they may lie in one another
_MOST_NODES, _DEEPEST_NODE = 1_000, 32
#: drivers of files and devices of the host, and the setting that names the file (QEMU's qapi/block-core.json)
_LOCAL = {
    "file": "filename",
    "host_device": "filename",
    "host_cdrom": "filename",
    "io_uring": "path",
    "": "filename",
}
#: drivers of images on a network, which several can write to
_CLUSTERS = ("rbd", "gluster", "iscsi", "sheepdog", "nbd", "nfs", "ssh")
#: and of images that are only read, or of this QEMU alone
_HARMLESS = ("http", "https", "ftp", "ftps", "null-co", "null-aio", "vvfat")
#: default ports, which one may write and another leave out
_PORTS = {"nbd": "10809", "ssh": "22", "nfs": "2049"}


class Leaf(NamedTuple):
    """A place, and the format of the image there; None if QEMU would look for itself."""

    place: str
    format: str | None


def locations(name: str, folder: str, format: str | None) -> list[Leaf]:  # noqa: A002
    """Return the paths that *name* leads to, in an image in *folder*; `protocol:…` for a place that is no file here.

    *format* is the declared format of the whole. Raises NotAssessable if a `json:` name cannot be understood.
    """
    if name.startswith("json:"):
        leaves = list(_leaves(_tree(name), folder, format, 0))
        if not leaves or len(leaves) > _MOST_NODES:
            raise NotAssessable(
                f"the name {name[:100]} of its backing file is not understood"
            )
        return leaves
    if name.startswith("blkdebug:"):  # and its own configuration file
        return locations(name.split(":", 2)[-1], folder, format)
    if name.startswith("blkverify:"):
        raw, _, test = name.removeprefix("blkverify:").partition(":")
        return [*locations(raw, folder, "raw"), *locations(test, folder, format)]
    return [Leaf(location(name, folder), format)]


def location(name: str, folder: str) -> str:
    """Return the one place that *name* means, which is no `json:`."""
    if re.match(r"(file|host_device|host_cdrom):", name):
        return location(name.partition(":")[2].removeprefix("//"), folder)
    if ":" in name.partition("/")[0]:
        return network(name)
    return str(PurePosixPath(folder) / name)


def network(name: str) -> str:
    """Return one spelling (`rbd:pool/image`) for names that QEMU and libvirt write in several ways.

    It has no options, monitors and secrets.
    """
    protocol, _, rest = name.partition(":")
    protocol, _, transport = protocol.partition("+")
    is_url = rest.startswith("//")
    if protocol in ("gluster", "iscsi", "sheepdog") and is_url:
        return f"{protocol}:{rest[2:].partition('/')[2]}"  # of one cluster, whichever host is asked
    if protocol == "rbd":
        return f"rbd:{re.split(r'[:@]', rest)[0]}"
    if protocol == "nbd":
        place = _nbd(transport, rest)
        if place:
            return place
    if protocol in _PORTS and is_url:
        return _with_port(protocol, rest)
    return f"{protocol}:{rest}"


def _nbd(transport: str, rest: str) -> str:
    """Return the place of an NBD export at a socket, or written in QEMU's old way; "" for any other URL."""
    if transport == "unix":
        socket = re.search(r"[?&]socket=([^&]+)", rest)
        if socket:
            return f"nbd:{unquote(socket[1])}/{rest.partition('?')[0].lstrip('/')}"
    if rest.startswith("//"):
        return ""
    server, _, export = rest.partition(":exportname=")
    socket_path = server.removeprefix("unix:")
    if socket_path != server:
        return f"nbd:{socket_path}/{export}"
    return network(f"nbd://{server}/{export}")


def _with_port(protocol: str, rest: str) -> str:
    """Return a URL without user and options, with the default port if it has none."""
    host, _, path = rest[2:].partition("/")
    host = host.rpartition("@")[2]
    if not re.search(r":\d+\Z", host):
        host = f"{host.removesuffix(':')}:{_PORTS[protocol]}"
    return f"{protocol}://{host}/{path.partition('?')[0].lstrip('/')}"


def _tree(name: str) -> dict[str, Any]:
    """Return the nodes of a `json:` name. Raises NotAssessable."""
    try:
        tree = json.loads(name.removeprefix("json:"))
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise NotAssessable(
            f"the name {name[:100]} of its backing file is not understood"
        )
    return tree


def _unfolded(node: dict[str, Any]) -> dict[str, Any]:
    """Return *node* with `file.driver` as the driver of its node `file` (QEMU's qdict_crumple)."""
    tree: dict[str, Any] = {}
    for key, value in node.items():
        *above, last = key.split(".")[:_DEEPEST_NODE]
        inner = tree
        for name in above:
            below = inner.setdefault(name, {})
            inner = below if isinstance(below, dict) else {}
        inner[last] = value
    return tree


def _leaves(
    node: dict[str, Any],
    folder: str,
    format: str | None,  # noqa: A002 (QEMU's word)
    depth: int,
) -> Iterator[Leaf]:
    """Yield the files of a node and of those below it. Raises NotAssessable if one is not understood."""
    if depth > _DEEPEST_NODE:
        raise NotAssessable("the name of its backing file is nested too deep")
    node = _unfolded(node)
    driver = str(node.get("driver", ""))
    own = driver if driver in CHAINING or driver == "raw" else format
    place = _place_of(driver, node, folder)
    if place:
        yield Leaf(place, own)
        return
    children = _children(node)
    if not children:
        raise NotAssessable(
            f"the node {driver or 'without a driver'} in the name of its backing file is not understood"
        )
    formats = {"backing": None, "data-file": "raw"}
    for name, child in children:
        yield from _leaves(child, folder, formats.get(name, own), depth + 1)


def _children(node: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the nodes below *node*, each with its name there."""
    children: list[tuple[str, dict[str, Any]]] = []
    for name, value in node.items():
        if name not in _NO_NODES:
            children += [(name, child) for child in _nodes(value)]
    return children


def _place_of(driver: str, node: dict[str, Any], folder: str) -> str:
    """Return the place that a node without children leads to; "" for a node with children."""
    if driver in _HARMLESS:
        return f"{driver}:"
    if driver in _CLUSTERS:
        return _on_a_network(driver, node)
    path = node.get(_LOCAL.get(driver, ""))
    return str(PurePosixPath(folder) / path) if isinstance(path, str) else ""


#: settings of a node that are no nodes (`server` is the place of a node on a network)
_NO_NODES = (
    "server",
    "cache",
    "encrypt",
    "throttle-group",
    "inject-error",
    "set-state",
    "match",
    "detect-zeroes",
)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the nodes in a value: itself, or those of a list, which may be written by numbers."""
    if isinstance(value, dict):
        if not _is_numbered(value):
            yield value
            return
        several: Iterable[Any] = value.values()
    elif isinstance(value, list):
        several = value
    else:
        return
    for node in several:
        if isinstance(node, dict):
            yield node


def _is_numbered(value: dict[str, Any]) -> bool:
    """True if *value* is a list, written with the numbers of its elements as keys."""
    return bool(value) and all(map(str.isdecimal, value))


#: the settings that together name the image of a driver; "path" for the others
_NAMED_BY = {
    "rbd": ("pool", "namespace", "image"),
    "gluster": ("volume", "path"),
    "iscsi": ("target", "lun"),
    "sheepdog": ("vdi",),
    "nbd": ("export",),
}


def _on_a_network(driver: str, node: dict[str, Any]) -> str:
    """Return the place of a node on a network, as `network` spells it."""
    names = _NAMED_BY.get(driver, ("path",))
    if (
        "uri" in node
        or "url" in node
        or (driver in ("rbd", "sheepdog") and not _joined(node, names))
    ):
        uri = node.get("uri") or node.get("url")
        return network(str(uri or f"{driver}:{node.get('filename', '')}"))
    if driver not in _PORTS:
        return f"{driver}:{_joined(node, names)}"
    server = node.get("server")
    if not isinstance(server, dict):
        server = node
    if driver == "nbd" and isinstance(server.get("path"), str):
        return f"nbd:{server['path']}/{_joined(node, ('export',))}"
    host = f"{server.get('host', '')}:{server.get('port', '')}"
    return network(f"{driver}://{host}/{_joined(node, names)}")


def _joined(node: dict[str, Any], names: Iterable[str]) -> str:
    """Return the settings *names* of *node* as a path; absent and empty ones are left out."""
    parts = []
    for name in names:
        if node.get(name) not in (None, ""):
            parts.append(str(node[name]).strip("/"))
    return "/".join(parts)
