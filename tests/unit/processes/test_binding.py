"""libvirt's binding, and words of its library that are no UTF-8."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.text import libvirt_words
from reclaim.processes import binding

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _prepared() -> None:
    binding.prepare()


def _fail(address: bytes) -> None:
    """Have the library fail, in this thread, with a message that has *address* in it."""
    opened = ctypes.CDLL("libvirt.so.0").virConnectOpen
    opened.argtypes, opened.restype = (ctypes.c_char_p,), ctypes.c_void_p
    assert opened(address) is None


@pytest.mark.parametrize("odd", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_an_error_can_be_raised_whatever_its_words_are(odd: bytes) -> None:
    _fail(b"nobody" + odd + b":///")
    error = libvirt.libvirtError("failed")
    assert "nobody" in libvirt_words(error)
    assert "\ufffd" in libvirt_words(error)
    assert error.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR
    libvirt.open("test:///default").close()  # nothing is left set that the next call ends with


def test_other_errors_are_as_the_binding_has_them(tmp_path: Path) -> None:
    """By a driver that needs no daemon: whoever is not root asks one for what libvirt itself does not know."""
    node = tmp_path / "node.xml"
    node.write_text("<nothing/>", encoding="ascii")
    with pytest.raises(libvirt.libvirtError, match="nothing") as caught:
        libvirt.open(f"test://{node}")
    assert caught.value.get_error_code() == libvirt.VIR_ERR_XML_ERROR


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with pytest.raises(libvirt.libvirtError):
            libvirt.open("nobody:///")

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr() == ("", "")
