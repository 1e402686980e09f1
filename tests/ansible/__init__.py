"""The collection reclaim.fleet, played against this machine: its hosts are folders."""
