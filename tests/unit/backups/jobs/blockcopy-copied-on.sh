#!/bin/bash
virsh blockcopy web vda /scratch/web.copy --wait --verbose --finish --transient-job
rsync -aS /scratch/web.copy nas:/pool/web.qcow2
rm /scratch/web.copy
