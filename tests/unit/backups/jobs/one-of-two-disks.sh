#!/bin/bash
virsh snapshot-create-as shop hold --disk-only --diskspec vda,file=/srv/vm/hold.qcow2 --diskspec vdb,snapshot=no
cp --sparse=always /srv/vm/shop.qcow2 /backup/
cp --sparse=always /srv/vm/shop-data.img /backup/
virsh blockcommit shop vda --active --pivot
