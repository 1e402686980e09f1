"""Hypervisors in network namespaces of one machine: each has its own root, sshd and libvirtd, and guests that are off.

`network` has their addresses and the route that keeps this machine out of them, `root` their files, `site` the
namespaces of the client, from which they are reached, `host` one hypervisor, `faults` the ways in which it fails, and
`safety` refuses to run on anything that is not the lab's.
"""
