"""Text that came from elsewhere, made fit to be shown."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

import libvirt

from reclaim.base.secret import redacted

#: characters of one piece of foreign text that are shown
LIMIT = 4000
#: characters beyond it that are looked at all the same: what is cut off must not keep a secret from being known as one
_BEYOND = 4000
_OURS = Path(__file__).parent.parent


def printable(text: str, *, lines: bool = False) -> str:
    """Return *text* without secrets and control characters: a terminal must not obey a guest. At most LIMIT characters.

    Line breaks stay if *lines* is true, else they become spaces.
    """
    text = redacted(text[: LIMIT + _BEYOND])
    if text.isprintable() and len(text) <= LIMIT:
        return text
    shown = "".join(_escaped(character, lines=lines) for character in text[: LIMIT + 1])
    if len(shown) > LIMIT:
        return shown[:LIMIT] + "…"
    return shown


def _escaped(character: str, *, lines: bool) -> str:
    if character.isprintable():
        return character
    if character == "\n" and lines:
        return character
    if character in "\n\t":
        return " "
    return character.encode("unicode_escape", errors="surrogatepass").decode("ascii")


def size(count: float) -> str:
    """Return *count* bytes as people read them: "512 B", "1.5 MiB"."""
    if round(abs(count)) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        # 1023.96 would be shown as 1024.0
        if round(abs(count), 1) < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def dotted(number: int) -> str:
    """Return libvirt's 9000000 as "9.0.0"."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return *number* with *noun*: "1 disk", "2 disks", "3 entries" with a *plural* that takes more than an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def some(names: Sequence[str], most: int) -> str:
    """Return the first *most* of *names* in one line, and the number of the others: "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def trouble(exc: OSError) -> str:
    """Return the system's message, after the name of the file if the error has one."""
    path = exc.filename2 or exc.filename
    message = exc.strerror or str(exc)
    return f"{path}: {message}" if path else message


def fault(exc: BaseException) -> str:
    """Return a fault of ours in one line: its type and message, and the last of our own lines that led to it."""
    place = ""
    for frame in traceback.extract_tb(exc.__traceback__):
        path = Path(frame.filename)
        if _OURS in path.parents:
            place = f" in {path.name}:{frame.lineno}"
    message = " ".join(str(exc).split())[:300]
    return printable(f"a fault in reclaim{place}: {type(exc).__name__}: {message}")


def last_words(*outputs: str, most: int = 3, silent: str = "no output") -> str:
    """Return the last lines of the first output that is not empty, *most* of them, as one line; *silent* if all are.

    The cause often stands before its effect. Each line is fit to be shown.
    """
    for output in outputs:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        if lines:
            return "; ".join(printable(line)[:200] for line in lines[-most:])
    return silent


def libvirt_words(exc: libvirt.libvirtError) -> str:
    """Return libvirt's message of an error, in one line of at most 300 characters."""
    return " ".join(str(exc.get_error_message() or exc).split())[:300]
