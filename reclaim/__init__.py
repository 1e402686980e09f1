"""Audit and mend the layers through which a KVM guest gives freed space back to its host."""

__version__ = "0.1.0"
