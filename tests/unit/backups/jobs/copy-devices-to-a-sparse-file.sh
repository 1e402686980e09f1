#!/bin/bash
rsync -aS --copy-devices /dev/vgvm/mail /backup/mail.img
