"""Copies of disks, and the jobs that make them."""
