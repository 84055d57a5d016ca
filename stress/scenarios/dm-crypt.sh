# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='swap on dm-crypt on the device, while the server is killed and restarted'
long=y
drivers='nbswap mainline'
mem=192
programs='memhog /usr/sbin/dmsetup'
modules='dm_crypt xts'
timeout=300
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# As cryptsetup makes a plain mapping, with a key of this test
guest() {
	attach 0 swap -swap
	_key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
	export DM_DISABLE_UDEV=1
	check 'dm-crypt on the device' dmsetup create secret --table \
		"0 $(cat "/sys/block/${PREFIX}0/size") crypt aes-xts-plain64 $_key 0 /dev/${PREFIX}0 0"
	mkswap /dev/mapper/secret > /dev/null
	more_free
	swapon /dev/mapper/secret
	say swapping
	hog_begin -n 4 -m $((MEM_MB * 2)) -s $((60 * SLOW))
	hog_finish
	check 'swapoff' swapoff /dev/mapper/secret
	check 'the mapping goes' dmsetup remove secret
	check 'disconnect' nbd-client -d "/dev/${PREFIX}0"
}

disturb() {
	swapping
	for _i in 1 2; do
		sleep 3
		server_kill swap
		sleep 3
		server_up swap
		progress 30 "progress after restart $_i"
		! control_ends || return 0
		metric "recovery_${_i}_s=$RECOVERED"
	done
}

host() {
	disturb
	if mainline; then hog_over; else hog_enough; fi
}

# The signature of the swap space would stand there in clear
after() {
	control_verdict must
	[ "$DRIVER" = mainline ] || check 'what reached the server is encrypted' sh -c \
		"test \$(stat -c %b '$WORK/swap') -gt 20000 && ! head -c 4096 '$WORK/swap' | grep -q SWAPSPACE2"
}
