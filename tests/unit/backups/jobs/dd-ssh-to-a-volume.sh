#!/bin/sh
pv /dev/vgvm/mail | ssh root@spare 'dd of=/dev/vgspare/mail bs=4M'
