"""libvirt's Python binding, mended for messages that are no UTF-8: a guest's agent has a part in libvirt's messages.

The binding makes a str of each, and fails if the bytes are no UTF-8. A handler of errors that is written in Python is
then left out with the exception set, which comes out of the next call as SystemError. An error cannot be raised then.
"""

from __future__ import annotations

import ctypes
from typing import Any

import libvirt


class _Error(ctypes.Structure):
    """struct _virError (libvirt/virterror.h)"""

    _fields_ = (
        ("code", ctypes.c_int),
        ("domain", ctypes.c_int),
        ("message", ctypes.c_char_p),
        ("level", ctypes.c_int),
        ("conn", ctypes.c_void_p),
        ("dom", ctypes.c_void_p),
        ("str1", ctypes.c_char_p),
        ("str2", ctypes.c_char_p),
        ("str3", ctypes.c_char_p),
        ("int1", ctypes.c_int),
        ("int2", ctypes.c_int),
    )


_library = ctypes.CDLL("libvirt.so.0")
_library.virGetLastError.restype = ctypes.POINTER(_Error)
_library.virSetErrorFunc.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_as_bound = libvirt.libvirtmod.virGetLastError


def _last_error() -> Any:
    """Return the last error of this thread, as the binding does, with bytes replaced that are no UTF-8."""
    try:
        return _as_bound()
    except UnicodeDecodeError:
        error = _library.virGetLastError().contents
        texts = [
            None if text is None else text.decode("utf-8", "replace")
            for text in (error.str1, error.str2, error.str3)
        ]
        message = (error.message or b"").decode("utf-8", "replace")
        return (
            error.code,
            error.domain,
            message,
            error.level,
            *texts,
            error.int1,
            error.int2,
        )


def prepare() -> None:
    """Keep libvirt from printing errors, also those that are handled, and let each be raised as libvirtError."""
    # it is called with the error, in whatever thread that comes up: a function of C that looks at nothing
    _library.virSetErrorFunc(
        None, ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)
    )
    libvirt.libvirtmod.virGetLastError = _last_error
