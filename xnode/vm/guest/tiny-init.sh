#!/bin/sh
# PID 1 of the tiny guest: busybox and dropbear in memory, the machine's disk at /data. Keys come in /seed, an archive
# appended to this one; only /data outlives a restart.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
for module in /lib/guest-modules/*; do insmod "$module"; done

ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
resolver=$(sed -n 's/.*xnode\.resolver=\([0-9.]*\).*/\1/p' /proc/cmdline)
[ -z "$resolver" ] || echo "nameserver $resolver" >/etc/resolv.conf

mkdir -p /root/.ssh /etc/dropbear
mv /seed/authorized_keys /root/.ssh/authorized_keys
mv /seed/host_key /etc/dropbear/host_key
hostname -F /seed/hostname
read -r id </proc/sys/kernel/random/uuid
echo "${id//-/}" >/etc/machine-id
rm -r /seed
chmod 700 /root /root/.ssh

# An empty disk is formatted at the first boot; one that can't be mounted is left as it is. (By its path: busybox has a
# lesser mke2fs.)
cmp -s -n 65536 /dev/vda /dev/zero &&
	/usr/sbin/mke2fs -q -t ext4 -L data -m 0 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 /dev/vda
mkdir -p /data
mount -t ext4 -o discard /dev/vda /data || echo "the disk can't be mounted"
echo "This guest runs in memory: only what is in /data, its disk, outlives a stop or a reboot." >/etc/motd

while :; do
	dropbear -F -E -s -r /etc/dropbear/host_key -p 22
	sleep 1
done &
echo "XNODE-GUEST-READY after $(cut -d' ' -f1 /proc/uptime) s"

down() {
	sync
	umount /data
	poweroff -f
}
trap down USR2 TERM
button=$(sed -n '/Power Button/,/^H:/s/.*\(event[0-9]*\).*/\1/p' /proc/bus/input/devices | head -n 1)
[ -n "$button" ] && (dd if="/dev/input/$button" bs=24 count=1 >/dev/null 2>&1 && kill -USR2 1) &
while :; do
	wait
	sleep 1 &
done
