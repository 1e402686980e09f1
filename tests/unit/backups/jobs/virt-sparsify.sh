#!/bin/bash
virt-sparsify --compress --convert qcow2 /var/lib/libvirt/images/db.img /backup/db.qcow2
