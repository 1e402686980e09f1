#!/bin/bash
for f in $(ls /var/lib/libvirt/images/*.qcow2); do rsync -a $f /backup/; done
