# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='every frame vanishes for 60 s, nobody resets a connection: all goes on'
drivers='nbswap mainline'
programs=memhog
relay=y
long=y
timeout=400
HOLE=60

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	swap_hog -n 4 -m $((MEM_MB * 3)) -t 3600 -s $((150 * SLOW))
}

host() {
	hog_filling 40 || return 0
	netem blackhole
	outage $HOLE 'meanwhile'
	netem clear
	check 'frames were lost' test "$(netem_count lost)" -gt 0
	hog_recovers 5
}

after() {
	control_verdict may "$(stalled)"
}
