#!/bin/bash
virsh destroy mail
rsync -t --copy-devices --write-devices /dev/vgvm/mail /dev/vgspare/mail
virsh start mail
