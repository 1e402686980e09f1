#!/bin/bash
virsh blockcopy web vda /scratch/web.copy --wait --finish --transient-job
rsync -aS /var/lib/libvirt/images/web.qcow2 nas:/pool/web.qcow2
