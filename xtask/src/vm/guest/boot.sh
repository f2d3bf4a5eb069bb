#!/bin/sh
# The first process of a machine, in memory: it mounts the first disk and hands over to the init there.
export PATH=/bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
for module in /modules/*.ko; do insmod "$module"; done
# The disk appears a moment after its driver.
until [ -b /dev/vda ]; do sleep 0.1; done
mount -o rw /dev/vda /root
mount --move /dev /root/dev
mount --move /proc /root/proc
exec switch_root /root /sbin/init
