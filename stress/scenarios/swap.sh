# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='memhog at three times the memory of the guest, every page verified, 60 s'
drivers='nbswap mainline'
programs=memhog
timeout=300

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	attach 0 swap -swap
	swap_on 0
	if memhog -n 4 -m $((MEM_MB * 3)) -t 60 -s $((60 * SLOW)); then
		ok 'every page comes back as it was written'
	else
		not_ok 'every page comes back as it was written'
	fi
	# shellcheck disable=SC2046 # two words
	set -- $(grep -E '^pswp(in|out) ' /proc/vmstat | cut -d' ' -f2)
	metric "swapped_in=$1"
	metric "swapped_out=$2"
	check 'more was swapped out than the guest has memory' \
		test "$2" -gt $(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) / 4))
	check 'swapoff' swapoff "/dev/${PREFIX}0"
	check 'disconnect' nbd-client -d "/dev/${PREFIX}0"
}
