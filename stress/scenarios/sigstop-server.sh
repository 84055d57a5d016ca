# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='server stopped (SIGSTOP) for 20 s and for 60 s: it answers nothing, then everything'
drivers='nbswap mainline'
programs=memhog
long=y
timeout=400

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
	for _s in 20 60; do
		server_signal swap STOP
		outage $_s "while it is stopped for $_s s"
		server_signal swap CONT
		check "swapping goes on within 5 s of SIGCONT, after $_s s" goes_on 5
		metric "recovery_after_${_s}s_ms=$WENT_ON_MS"
		sleep 4
	done
	hog_verified
	hog_over
}

after() {
	control_verdict may "$(stalled)"
}
