#!/bin/bash
VM=$1
[ -z "$1" ] && { echo "which guest?"; exit 1; }
DEV=$(virsh domblklist $VM | tail -2 | head -1 | awk '{print $1}')
FILE=$(virsh domblklist $VM | tail -2 | head -1 | awk '{print $2}')
virsh snapshot-create-as --domain $VM $VM-hold --diskspec $DEV,file=/scratch/$VM.qcow2 --disk-only --atomic
rsync -avh --progress $FILE /backup/$VM-$(date +%m-%d-%Y).qcow2
virsh blockcommit $VM $DEV --active --verbose --pivot
virsh snapshot-delete $VM $VM-hold --metadata
rm /scratch/$VM.qcow2
