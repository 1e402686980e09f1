"""Errors, verdicts, and text that is fit to be shown; it knows no guest."""
