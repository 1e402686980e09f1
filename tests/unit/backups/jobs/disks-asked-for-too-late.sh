#!/bin/bash
virsh snapshot-create-as web s --disk-only --atomic
for disk in $(virsh domblklist web --details | awk '/disk/ {print $4}'); do
  cp $disk /backup/
done
virsh blockcommit web vda --active --pivot
