#!/bin/busybox sh
# The first file system of the Debian guest: loads the drivers, mounts the root disk, hands the keys over, goes on there.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /lib/guest-modules/*; do insmod "$module"; done
mount -t ext4 -o rw,discard /dev/vda /root || { echo "the root disk can't be mounted"; poweroff -f; }
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
resolver=$(sed -n 's/.*xnode\.resolver=\([0-9.]*\).*/\1/p' /proc/cmdline)

# What the consumer added stays; what the lease brings is always there.
mkdir -p -m 700 /root/root/.ssh
touch /root/root/.ssh/authorized_keys
while read -r line; do
	grep -qxF "$line" /root/root/.ssh/authorized_keys || echo "$line" >>/root/root/.ssh/authorized_keys
done </seed/authorized_keys
chmod 600 /root/root/.ssh/authorized_keys
mkdir -p -m 700 /root/etc/dropbear
cp /seed/host_key /root/etc/dropbear/host_key
chmod 600 /root/etc/dropbear/host_key
[ -z "$resolver" ] || [ -s /root/etc/resolv.conf ] || echo "nameserver $resolver" >/root/etc/resolv.conf
[ -s /root/etc/hostname ] || cp /seed/hostname /root/etc/hostname
rm -r /seed

for folder in dev sys proc; do mount --move /$folder /root/$folder; done
exec switch_root /root /usr/local/sbin/guest-init
