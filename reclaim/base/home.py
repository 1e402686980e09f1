"""The folders of this reclaim: its checks and fixers, and the place of its reports if no other is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from reclaim.base.errors import ReclaimError

PACKAGE = Path(__file__).resolve().parent.parent
#: an installed reclaim has checks and fixers inside its package, a checkout has them beside it
_SHIPPED = PACKAGE / "shipped"
IS_CHECKOUT = not _SHIPPED.is_dir()
HOME = PACKAGE.parent if IS_CHECKOUT else _SHIPPED
CHECKS = HOME / "checks"
#: root's reports: no other user can write there
SAFE = "/var/lib/reclaim/reports"


def reports() -> Path:
    """Return the folder of the reports if the user names none. Raises ReclaimError if the user has no home.

    The state of a user lies below `$XDG_STATE_HOME` (XDG Base Directory Specification; a relative path is ignored).
    """
    if IS_CHECKOUT:
        return HOME / "reports"
    if os.geteuid() == 0:
        return Path(SAFE)
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        above = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    except RuntimeError as exc:
        raise ReclaimError(
            "there is no place for reports, since this user has no home: give --reports DIR"
        ) from exc
    return above / "reclaim" / "reports"


def make_importable() -> None:
    """Put the folder of `checks` and `fixers` first on the path of this process."""
    if sys.path[:1] != [str(HOME)]:
        sys.path.insert(0, str(HOME))
