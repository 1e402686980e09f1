#!/bin/bash
virsh blockcopy web vda /scratch/web.copy --transient-job
rsync -aS /scratch/web.copy nas:/pool/web.qcow2
