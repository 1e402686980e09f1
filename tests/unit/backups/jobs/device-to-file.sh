#!/bin/sh
cp /dev/vgvm/mail /backup/mail.img
