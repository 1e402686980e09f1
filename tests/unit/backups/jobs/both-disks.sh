#!/bin/bash
virsh snapshot-create-as --domain shop --name hold --disk-only --atomic --quiesce --no-metadata
cp --sparse=always /srv/vm/shop.qcow2 /srv/vm/shop-data.img /backup/
for t in vda vdb; do virsh blockcommit shop $t --active --pivot; done
