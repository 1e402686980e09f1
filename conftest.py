"""Loads reclaim into pytest. Fixtures of your own site that a check may ask for go here."""

pytest_plugins = ["reclaim.plugin"]
