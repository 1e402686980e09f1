#!/bin/bash
virsh vol-download --pool default db.img /backup/db.img
