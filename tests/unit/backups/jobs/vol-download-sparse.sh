#!/bin/sh
virsh vol-download --pool default --vol db.img --file /backup/db.img --sparse
