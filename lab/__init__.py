"""Throwaway guests for the demo and the tests: as guests were in 2013, real and wasteful.

Everything the lab makes lies below one folder (`lab.paths`) and in domains whose names begin `reclaim-lab-`.
"""
