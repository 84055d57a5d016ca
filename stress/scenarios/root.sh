# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154,SC2209
desc='root on the device: the initramfs connects, switches root, reboots cleanly'
mem=192
modules=ext4
start=exec
may_die=y

prepare() {
	_tree=$WORK/tree
	mkdir -p "$_tree/bin" "$_tree/sbin" "$_tree/dev" "$_tree/proc" "$_tree/sys" "$_tree/var"
	cp /usr/bin/busybox "$_tree/bin/"
	# Only what the guest runs as its first process in the new root
	cat > "$_tree/sbin/init" <<-'END'
		#!/bin/busybox sh
		export PATH=/bin
		/bin/busybox --install -s /bin
		mount -t devtmpfs dev /dev
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		exec < /dev/ttyS1 > /dev/ttyS1 2>&1
		echo "ok second root runs: $(grep ' / ' /proc/mounts | grep -c nb0) mount of it"
		dd if=/dev/urandom of=/var/data bs=1M count=20 2> /dev/null
		md5sum < /var/data > /var/sum
		sync
		echo 3 > /proc/sys/vm/drop_caches
		[ "$(md5sum < /var/data)" = "$(cat /var/sum)" ] && echo "ok data comes back"
		echo "say up"
		read -r _
		echo "# server was restarted"
		echo 3 > /proc/sys/vm/drop_caches
		[ "$(md5sum < /var/data)" = "$(cat /var/sum)" ] && echo "ok data comes back after a restart of the server"
		mv /var/sum /var/sum-of-second-root
		mount -o remount,ro / && echo "ok root is remounted read-only"
		reboot -f
	END
	chmod 755 "$_tree/sbin/init"
	disk "$WORK/root" 128M
	mkfs.ext4 -q -d "$_tree" "$WORK/root"
	serve root "$WORK/root"
}

# Runs as process 1 of the initramfs
guest() {
	nbd-client "$HOST4" "$PORT" /dev/nb0 -N root -persist -systemd-mark 2>&1 | sed 's/^/# /'
	mount -t ext4 /dev/nb0 /mnt || return
	echo "ok root mounted"
	umount /proc /sys/kernel/debug /sys /tmp
	exec switch_root /mnt /sbin/init
}

host() {
	report_wait '^say up' "$FROM" 60 || return 0
	server_kill root
	sleep 2
	server_up root
	vm_say 'go'
}

after() {
	until_true 30 vm_dead || not_ok 'the guest reboots'
	report_since "$FROM" > "$RUN/root.txt"
	for _line in 'root mounted' 'second root runs: 1' 'data comes back$' \
		'data comes back after a restart' 'root is remounted read-only'; do
		grep -q "^ok $_line" "$RUN/root.txt" || not_ok "the guest says: $_line"
	done
	rm -f "$RUN/root.txt"
	check 'reboot was orderly' console_has 'reboot: Restarting system'
	check 'e2fsck finds it clean' e2fsck -fn "$WORK/root"
	check 'what the guest wrote is there' sh -c "debugfs -R 'cat /var/sum-of-second-root' '$WORK/root' | grep -q ."
}
