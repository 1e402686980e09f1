#!/bin/sh
cp --sparse=always /dev/vgvm/mail /backup/mail.img
