#!/bin/bash
for g in $(virsh list --name); do
  virsh snapshot-create-as $g still --disk-only --no-metadata
  for f in $(virsh domblklist $g | awk '/vd/{print $2}'); do pigz -c $f >/backup/$g.gz; done
  virsh blockcommit $g vda --active --pivot
done
