"""The hypervisor, its guests and their disks, and the ways to reach them."""
