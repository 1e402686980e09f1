#!/bin/bash
rsync -a --copy-devices /dev/vgvm/mail /backup/mail.img
