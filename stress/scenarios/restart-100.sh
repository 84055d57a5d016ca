# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='server killed 100 times at random moments, away for 0 to 2 s, now and then 5'
drivers='nbswap mainline'
programs=memhog
long=y
timeout=1500

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
	timeout=150
fi

ROUNDS=100

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	swap_hog -n 4 -m $((MEM_MB * 2)) -t 3600 -s $((60 * SLOW)) -i 200
}

# Sorted, one a line, on stdin; so many per cent of them are not larger
percentile() {
	awk -v p="$1" '{ v[NR] = $1 } END { i = int(NR * p / 100 + 0.999); print v[i < 1 ? 1 : i] + 0 }'
}

one_restart() {
	random 1000
	pause_ms $((RANDOM_NUMBER + 100))
	server_kill swap
	random 2001
	_down=$RANDOM_NUMBER
	random 20
	[ "$RANDOM_NUMBER" != 0 ] || _down=5000
	pause_ms "$_down"
	server_up swap
	if ! goes_on 30 100; then
		not_ok "swapping goes on after restart $1, server down for $_down ms"
		return 1
	fi
	echo "$WENT_ON_MS" >> "$RUN/recovery"
}

host() {
	random_seed
	hog_filled 180 || return 0
	rm -f "$RUN/recovery"
	_i=0
	while [ $_i -lt $ROUNDS ] && one_restart $((_i + 1)); do
		_i=$((_i + 1))
	done
	metric "restarts=$_i"
	check "swapping goes on after each of $ROUNDS restarts" test $_i = $ROUNDS
	hog_over
	[ -s "$RUN/recovery" ] || return 0
	sort -n "$RUN/recovery" -o "$RUN/recovery"
	metric "recovery_p50_ms=$(percentile 50 < "$RUN/recovery")"
	metric "recovery_p99_ms=$(percentile 99 < "$RUN/recovery")"
	metric "recovery_max_ms=$(percentile 100 < "$RUN/recovery")"
	rm -f "$RUN/recovery"
}

after() {
	control_verdict must "$(stalled)"
}
