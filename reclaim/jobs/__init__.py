"""Backup jobs, read without being run: text → commands → steps (copies, holds, parts not understood) → verdict.

Imports go one way: words, calls, wrappers, grammar, values, shell, formats | rsync, virsh, tools, streams | judging.
"""
