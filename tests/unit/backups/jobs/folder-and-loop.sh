#!/bin/bash
cd /var/lib/libvirt/images
for f in ./*; do n=${f##*/}; n=${n%.qcow2}; rsync -ae 'ssh -p 222' $n.* nas:/pool/$n/; done
