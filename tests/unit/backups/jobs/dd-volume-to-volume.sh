#!/bin/bash
dd bs=1M if=/dev/vgvm/mail of=/dev/vgspare/mail
