#!/bin/bash
set -e
trap 'virsh resume web' EXIT
virsh suspend web
rsync -a --sparse /var/lib/libvirt/images/web.qcow2 /backup/
