#!/bin/bash
g=$1; d=$(virsh domblklist $g | awk 'NR==3{print $1}'); f=$(virsh domblklist $g | awk 'NR==3{print $2}')
virsh snapshot-create-as $g still --disk-only --diskspec $d,file=/scratch/still.qcow2
rsync -a $f /backup/$g.qcow2
virsh blockcommit $g $d --active --pivot
