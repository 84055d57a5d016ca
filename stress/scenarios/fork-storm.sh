# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='memhog and a bounded fork bomb, and the server restarted under both'
long=y
drivers='nbswap mainline'
programs='memhog forkstorm'
timeout=300
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	attach 0 swap -swap
	swap_on 0
	say swapping
	(
		forkstorm -n 32 -k 96 -t $((20 + 20 * SLOW)) > /tmp/storm && _rc=0 || _rc=$?
		echo "$_rc" > /tmp/storm.end
	) &
	hog_begin -n 4 -m $((MEM_MB * 2)) -s $((60 * SLOW))
	hog_finish
	until_true 60 test -s /tmp/storm.end || :
	same 'the fork bomb went on to its end' "$(cat /tmp/storm.end)" 0
	cat /tmp/storm
	check 'thousands of processes were made' test "$(sed -n 's/^# metric forks=//p' /tmp/storm)" -gt $((1000 / SLOW))
	swap_off 0
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

after() {
	control_verdict must
}
