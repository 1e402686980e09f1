#!/bin/bash
virsh blockcopy web vda /scratch/web.copy --wait --finish --transient-job
if [ -n "$1" ]; then
  rsync -aS /scratch/web.copy nas:/pool/web.qcow2
fi
