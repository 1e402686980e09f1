#!/bin/sh
virt-clone --original db --name db-copy --nonsparse --file /backup/db.img
