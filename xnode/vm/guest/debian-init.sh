#!/bin/sh
# PID 1 of the Debian guest: a Debian userland with an SSH server and no service manager, which boots in 5 to 8 s under
# emulation. The initrd has mounted /proc, /sys and /dev, set the network up and put the keys in place.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
hostname "$(cat /etc/hostname)"
[ -e /etc/hosts ] || echo "127.0.0.1 localhost" >/etc/hosts
grep -qw "$(hostname)" /etc/hosts || echo "127.0.1.1 $(hostname)" >>/etc/hosts
[ -s /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id

while :; do
	dropbear -F -E -s -r /etc/dropbear/host_key -p 22
	sleep 1
done &
echo "XNODE-GUEST-READY after $(cut -d' ' -f1 /proc/uptime) s"
resize2fs /dev/vda >/dev/null 2>&1 &

down() {
	sync
	mount -o remount,ro /
	echo "$1" >/proc/sysrq-trigger
}
trap 'down o' USR2
trap 'down b' TERM
button=$(sed -n '/Power Button/,/^H:/s/.*\(event[0-9]*\).*/\1/p' /proc/bus/input/devices | head -n 1)
[ -n "$button" ] && (dd if="/dev/input/$button" bs=24 count=1 >/dev/null 2>&1 && kill -USR2 1) &
while :; do
	wait
	sleep 1 &
done
