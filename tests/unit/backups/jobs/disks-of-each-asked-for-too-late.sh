#!/bin/bash
for vm in $(virsh list --name); do
  virsh snapshot-create-as $vm s --disk-only --atomic
  for disk in $(virsh domblklist $vm --details | awk '/disk/ {print $4}'); do
    rsync -aS $disk /backup/
  done
  virsh blockcommit $vm vda --active --pivot
done
