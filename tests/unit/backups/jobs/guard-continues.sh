#!/bin/bash
for vm in web db; do
  state=$(virsh domstate $vm)
  if [ "$state" != "shut off" ]; then
    echo "$vm runs"
    continue
  fi
  cp /var/lib/libvirt/images/$vm.* /backup/
done
