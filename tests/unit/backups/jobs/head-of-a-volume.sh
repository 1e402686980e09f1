#!/bin/bash
head -c 20G /dev/vgvm/mail > /backup/mail.img
head -c 1M /dev/vgvm/mail > /backup/mail.head
