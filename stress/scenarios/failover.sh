# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='two servers on one backing file: the one that is used dies, swap goes on from the other, twice'
long=y
drivers='nbswap mainline'
programs=memhog
timeout=300
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

SECOND=10.77.0.3

prepare() {
	in_ns ip addr replace $SECOND/24 dev tap0
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
	serve swap@2 "$WORK/swap" $((PORT + 1))
}

# Mainline's client takes one host
guest() {
	if [ "$DRIVER" = mainline ]; then
		attach 0 swap -swap
	else
		check 'connects with a list of addresses' nbd-client \
			"$HOST4:$PORT,$SECOND:$((PORT + 1))" /dev/nb0 -N swap -swap
	fi
	swap_on 0
	say swapping
	hog_begin -n 4 -m $((MEM_MB * 2)) -s $((60 * SLOW))
	hog_finish
	if [ "$DRIVER" = nbswap ]; then
		nbd-client status nb0 --json > /tmp/status
		check 'back at the first address' grep -q "\"peer\": *\"$HOST4" /tmp/status
		metric "losses=$(sed -n 's/.*"losses": *\([0-9]*\).*/\1/p' /tmp/status | head -n 1)"
	fi
	swap_off 0
}

disturb() {
	swapping
	sleep 3
	server_kill swap
	# What was in memory keeps memhog busy for a moment
	sleep 3
	progress 30 'the first server is dead for good: swap goes on from the second'
	! control_ends || return 0
	sleep 4
	server_up swap
	server_kill swap@2
	sleep 3
	progress 30 'the second is dead too: swap goes on from the first'
}

host() {
	disturb
	if mainline; then hog_over; else hog_enough; fi
}

after() {
	control_verdict must
}
