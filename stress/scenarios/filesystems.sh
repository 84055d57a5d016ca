# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='ext4 and xfs under verified load, trimmed, and clean to fsck on the server'
drivers='nbswap mainline'
boot=shared
mem=256
modules='loop ext4 xfs'
config=XFS_FS
programs='fsload /usr/sbin/fstrim'

prepare() {
	disk "$WORK/ext4" 400M
	disk "$WORK/xfs" 400M
	mkfs.ext4 -q -E nodiscard "$WORK/ext4"
	mkfs.xfs -q -K "$WORK/xfs"
	serve ext4 "$WORK/ext4"
	serve xfs "$WORK/xfs" $((PORT + 1))
}

one() {
	PORT=$2
	attach 0 "$1"
	mkdir -p /mnt
	check "$1: mounts" mount -t "$1" "/dev/${PREFIX}0" /mnt
	if [ "$DRIVER" = nbswap ]; then
		refuse "$1: disconnect is refused while mounted" 'in use|busy' nbd-client -d "/dev/${PREFIX}0"
	fi
	check "$1: load" fsload -n 3 -t 10 /mnt
	check "$1: a file of its own" dd if=/dev/urandom of=/mnt/ballast bs=1M count=64 conv=fsync
	check "$1: unmounts" umount /mnt
	check "$1: disconnects" nbd-client -d "/dev/${PREFIX}0"
	attach 0 "$1"
	check "$1: mounts again" mount -t "$1" "/dev/${PREFIX}0" /mnt
	check "$1: everything is there" fsload -n 3 -v /mnt
	say "$1-full"
	await "$1-counted"
	rm /mnt/ballast
	# xfs frees the blocks of a removed file later, at unmount at the latest
	umount /mnt
	mount -t "$1" "/dev/${PREFIX}0" /mnt
	check "$1: trim" fstrim /mnt
	check "$1: unmounts again" umount /mnt
	check "$1: disconnects again" nbd-client -d "/dev/${PREFIX}0"
}

guest() {
	one ext4 "$PORT"
	one xfs $((PORT + 1))
}

host() {
	for _fs in ext4 xfs; do
		report_wait "^say $_fs-full" "$FROM" 120 || return 0
		du -k "$WORK/$_fs" | cut -f1 > "$WORK/$_fs.full"
		vm_say "go $_fs-counted"
	done
}

after() {
	check 'ext4: clean to e2fsck' e2fsck -fn "$WORK/ext4"
	check 'xfs: clean to xfs_repair' xfs_repair -n "$WORK/xfs"
	for _fs in ext4 xfs; do
		_freed=$(($(cat "$WORK/$_fs.full") - $(du -k "$WORK/$_fs" | cut -f1)))
		metric "${_fs}_trim_freed_kb=$_freed"
		check "$_fs: trim gives the space back to the server" test $_freed -gt 50000
	done
}
