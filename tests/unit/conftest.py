"""Fixtures that several of these tests take."""

from tests.filesystems import btrfs

__all__ = ["btrfs"]
