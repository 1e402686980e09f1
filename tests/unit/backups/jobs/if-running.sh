#!/bin/bash
state=$(virsh domstate web)
if [ "$state" = running ]; then was=1; virsh shutdown web; sleep 120; fi
qemu-img convert -O qcow2 /var/lib/libvirt/images/web.qcow2 /backup/web.qcow2
[ "$was" = 1 ] && virsh start web
