"""Runs the project on a fresh machine of another release of Debian: `make hosts`.

`settings` finds how this machine reaches the archives, `root` makes the files of the fresh one, `machine` runs commands
in it, and `__main__` has the steps.
"""
