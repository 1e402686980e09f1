#!/bin/bash
virsh dompmsuspend web disk
rsync -aS /var/lib/libvirt/images/web.qcow2 /backup/
virsh dompmwakeup web
