#!/bin/bash
for g in web db; do
  virsh shutdown $g
  until virsh domstate $g | grep -q off; do sleep 1; done
  cp /var/lib/libvirt/images/$g.* /backup/
  virsh start $g
done
