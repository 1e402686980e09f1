#!/bin/bash
virsh shutdown web
for disk in $(virsh domblklist web --details | awk '/disk/ {print $4}'); do
  cp $disk /backup/
done
virsh start web
