"""The one error that the lab raises for what its caller may want to tell a person."""

from __future__ import annotations


class LabError(Exception):
    """Something the lab needed did not happen; the text is a sentence for a person."""
