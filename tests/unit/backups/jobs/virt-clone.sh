#!/bin/sh
virsh shutdown web
virt-clone -o web -n web-copy --file /backup/web-copy.qcow2
virsh start web
