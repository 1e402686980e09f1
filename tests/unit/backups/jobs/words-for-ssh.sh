#!/bin/bash
ssh kvm1 'virsh suspend web && rsync -a /var/lib/libvirt/images/web.qcow2 nas:/pool/'
ssh kvm1 'dd if=/dev/vgvm/mail' | dd of=/backup/mail.img conv=sparse
