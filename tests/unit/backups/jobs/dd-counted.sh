#!/bin/bash
dd if=/dev/vgvm/mail of=/backup/mail.img bs=1M count=20480
