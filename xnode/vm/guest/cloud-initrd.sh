#!/bin/busybox sh
# The first file system of the cloud guest: loads the drivers, mounts the root partition, goes on there.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /lib/guest-modules/*; do insmod "$module"; done
mount -t ext4 -o rw,discard /dev/vda1 /root || { echo "the root partition can't be mounted"; poweroff -f; }

# A machine id, or systemd takes this for a first boot and goes through all units: 10 s under emulation.
[ -s /root/etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/root/etc/machine-id

for folder in dev sys proc; do mount --move /$folder /root/$folder; done
exec switch_root /root /sbin/init
