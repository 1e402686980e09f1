#!/bin/bash
dd if=/dev/mapper/vgvm-mail of=/backup/mail.img
