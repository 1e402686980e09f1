#!/bin/bash
virsh shutdown db
for f in $(virsh dumpxml db | grep 'source file' | cut -d"'" -f2); do
  rsync -a $f /backup/db/
done
virsh start db
