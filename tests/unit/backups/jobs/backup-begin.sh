#!/bin/bash
virsh backup-begin web /etc/web-backup.xml
