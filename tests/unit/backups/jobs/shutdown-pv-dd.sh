#!/bin/bash
stamp=`date +%F`
vg=/dev/vgvm
echo -n "guest: "
read guest
lv=$guest
virsh shutdown $guest 2>/dev/null
sleep 1m
pv $vg/$lv | dd of=/backup/"$guest"_"$stamp" bs=16M
virsh start $guest
