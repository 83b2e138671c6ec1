#!/bin/sh
# Makes the cloud guest's root file system, in $1, ready to boot: the boot loader's parts, and little that takes time.
set -eu
root=$1

chroot "$root" grub-mkimage -O i386-pc -o /boot/core.img -p "(hd0,msdos1)/boot/grub" \
	biosdisk part_msdos ext2 linux normal configfile
cp "$root/usr/lib/grub/i386-pc/boot.img" "$root/boot/boot.img"
rm -rf "$root/usr/lib/grub"
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<-"END"
	set timeout=0
	menuentry guest {
		linux /boot/vmlinuz root=/dev/vda1 rw console=ttyS0 net.ifnames=0 quiet panic=-1 no_timer_check
		initrd /boot/initrd
	}
END

# Each machine has its own.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf"
: >"$root/etc/machine-id"

# What is asked of cloud-init, and nothing else: each of its stages is some seconds of Python under emulation.
cat >"$root/etc/cloud/cloud.cfg.d/90-guest.cfg" <<-"END"
	datasource_list: [NoCloud]
	cloud_init_modules: [bootcmd, growpart, resizefs, set_hostname, users-groups, ssh]
	cloud_config_modules: []
	cloud_final_modules: []
END
printf 'policy: enabled\ndatasource: NoCloud\n' >"$root/etc/cloud/ds-identify.cfg"
chroot "$root" systemctl enable systemd-networkd
for unit in cloud-config.service cloud-final.service cloud-init-hotplugd.socket apt-daily.timer \
	apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty.target \
	systemd-timesyncd.service systemd-pstore.service systemd-networkd-wait-online.service \
	systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-hwdb-update.service \
	systemd-journal-catalog-update.service systemd-journal-flush.service systemd-firstboot.service \
	systemd-sysusers.service systemd-binfmt.service systemd-modules-load.service sys-kernel-debug.mount \
	sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount modprobe@.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
find "$root/usr/lib/udev/rules.d" "$root/lib/udev/rules.d" -name "*.rules" ! -name "50-udev-default.rules" \
	! -name "75-net-description.rules" ! -name "80-net-setup-link.rules" ! -name "99-systemd.rules" -delete
rm -f "$root/usr/lib/udev/hwdb.bin" "$root/lib/udev/hwdb.bin"
