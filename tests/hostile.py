"""Names that do harm where they are shown as they are."""

from __future__ import annotations

import html

TAG = "<img src=x onerror=alert(1)>"
#: CSI and NEL as single characters, which XML allows; a mark that turns the direction of text
ESCAPES = "esc\u009b31m\u0085red\u202egnp"


def domain(name: str, image: str | None = None) -> str:
    """A definition called *name*, with one disk on *image*."""
    disk = (
        f'<disk type="file" device="disk"><source file="{html.escape(image)}"/><target dev="vda" bus="virtio"/></disk>'
        if image
        else ""
    )
    return (
        f'<domain type="test"><name>{html.escape(name)}</name><memory>1024</memory>'
        f"<os><type>hvm</type></os><devices>{disk}</devices></domain>"
    )
