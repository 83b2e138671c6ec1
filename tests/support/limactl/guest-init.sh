#!/bin/sh
# PID 1 of the guest behind the double: what a cloud image does with Lima's cidata, as far as `plain` goes. The user of
# Lima has the number of root, so that its sudo can be a script; only /data, the machine's disk, outlives a restart.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
for module in /lib/guest-modules/*; do insmod "$module"; done

ip link set lo up
ip addr add 192.168.5.15/24 dev eth0
ip link set eth0 up
ip route add default via 192.168.5.2

user=$(cat /cidata/user)
echo "$user:x:0:0:$user:/home/$user:/bin/bash" >>/etc/passwd
echo "$user:*:1::::::" >>/etc/shadow
mkdir -p "/home/$user/.ssh" /root /run/sshd /etc/ssh/sshd_config.d /var/empty
mv /cidata/authorized_keys "/home/$user/.ssh/authorized_keys"
hostname -F /cidata/hostname
rm -r /cidata
chmod 755 / # a file system in memory begins as open as /tmp, which sshd does not trust
chmod 700 /root "/home/$user" "/home/$user/.ssh"

cmp -s -n 65536 /dev/vda /dev/zero && /usr/sbin/mke2fs -q -t ext4 -m 0 -E nodiscard,lazy_itable_init=1 /dev/vda
mkdir -p /data
mount -t ext4 -o discard /dev/vda /data || echo "the disk can't be mounted"

ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
printf '%s\n' 'Include /etc/ssh/sshd_config.d/*.conf' 'HostKey /etc/ssh/ssh_host_ed25519_key' 'PidFile /run/sshd.pid' \
	>/etc/ssh/sshd_config
/usr/sbin/sshd
echo "the guest is up after $(cut -d' ' -f1 /proc/uptime) s"

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
