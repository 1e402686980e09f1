#!/bin/bash
OFF="$(virsh list --all | grep "shut off" | awk '{print $2}')"
FILES=`for g in $OFF; do virsh domblklist $g | grep qcow2 | awk '{print $2}'; done`
for f in $FILES; do tar czvf /backups/$(basename $f).tgz $f; done
