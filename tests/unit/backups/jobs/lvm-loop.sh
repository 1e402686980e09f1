#!/bin/bash
for lv in mail; do
  lvcreate --size 2G --snapshot --name ${lv}-copy /dev/vgvm/$lv || continue
  dd if=/dev/vgvm/${lv}-copy of=/backup/$lv.img bs=1M
  lvremove --force /dev/vgvm/${lv}-copy
done
