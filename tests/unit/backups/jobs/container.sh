#!/bin/bash
docker run --rm -v /var/lib/libvirt/images:/in -v /backup:/out busybox cp -a /in/. /out/
