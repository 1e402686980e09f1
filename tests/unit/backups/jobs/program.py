#!/usr/bin/env python3
import shutil

shutil.copy("/var/lib/libvirt/images/web.qcow2", "/backup/")
