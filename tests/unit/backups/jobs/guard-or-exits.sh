#!/bin/bash
[ "$(virsh domstate web)" = "shut off" ] || exit 0
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
