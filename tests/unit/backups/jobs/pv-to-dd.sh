#!/bin/bash
virsh shutdown mail
pv /dev/vgvm/mail | dd bs=4M of=/backup/mail.img
virsh start mail
