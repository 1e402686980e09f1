#!/bin/bash
set -e
read -e -p "Guest: " name
disk=${name}.qcow2
sudo cp /var/lib/libvirt/images/${disk} /backup/${name}
sudo virsh dumpxml $name > /backup/${name}.xml
