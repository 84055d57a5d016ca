# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='every process but memhog stopped, then the server restarted: no userspace needed'
drivers='nbswap mainline'
programs=memhog
timeout=300
DOWN='2 6 12'

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
	timeout=150
	DOWN=2
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# memhog stops everybody, this shell too, once memory is filled; process 1 cannot
# be stopped, but only waits for us.  At the end it wakes them again.
guest() {
	attach 0 swap -swap
	swap_on 0
	sleep 1000 &
	_bystander=$!
	# The driver's own client must have nothing left that runs
	[ "$DRIVER" = mainline ] || check 'no nbd-client runs' sh -c '! pidof nbd-client'
	say swapping
	hog -n 4 -m $((MEM_MB * 2)) -t 120 -s $((60 * SLOW)) -z
	kill $_bystander
	nobody_killed
	swap_off 0
}

host() {
	hog_filled 120 || return 0
	if ! report_wait '^# event [1-9][0-9]* other processes stopped' "$FROM" 30; then
		not_ok 'the other processes are stopped'
		return 0
	fi
	ok 'the other processes are stopped'
	sleep 2
	_nr=0
	for _down in $DOWN; do
		_nr=$((_nr + 1))
		server_kill swap
		sleep "$_down"
		server_up swap
		check "swapping goes on after restart $_nr, server down for $_down s" goes_on 20
		metric "recovery_${_nr}_ms=$WENT_ON_MS"
		sleep 1
	done
	hog_over
}

after() {
	control_verdict must "$(stalled)"
}
