#!/bin/bash
vm=web
disks=$(virsh domblklist $vm --details | awk '$2=="disk"{print $4}')
virsh snapshot-create-as $vm s --disk-only --atomic
for disk in $disks; do rsync -aS $disk /backup/; done
virsh blockcommit $vm vda --active --pivot
