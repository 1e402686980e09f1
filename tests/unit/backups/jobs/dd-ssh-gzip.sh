#!/bin/sh
dd if=/dev/vgvm/mail bs=4M | gzip -1 | ssh nas 'cat > /pool/mail.img.gz'
