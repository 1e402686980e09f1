#!/bin/sh
dd if=/dev/vgvm/mail bs=4M status=none | ssh nas "dd of=/pool/mail.img bs=4M conv=sparse"
