# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='50,000 UDP packets a second to a closed port: slower while it lasts, never still'
drivers='nbswap mainline'
programs=memhog
long=y
timeout=300

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	swap_hog -n 4 -m $((MEM_MB * 2)) -r -t 3600 -s $((60 * SLOW))
}

host() {
	hog_filled 120 || return 0
	measure before 10
	ip netns exec "$NS" "$TOP/build/stress/bin/flood" udp -p 50000 -s 200 -t 20 "$GUEST4" 9 > "$RUN/flood" &
	measure flooded 18
	wait $!
	_gap=$GAP_MS
	metric "packets_per_s=$(sed -n 's/.*packets=\([0-9]*\) failed=[0-9]* ms=\([0-9]*\).*/\1 \2/p' "$RUN/flood" |
		awk '{ printf "%d", $1 * 1000 / $2 }')"
	rm -f "$RUN/flood"
	check "no stall: longest gap $_gap ms, undisturbed $BASE_GAP_MS ms" \
		test "$_gap" -le $((5000 * SLOW + BASE_GAP_MS))
	check 'swapping goes on at once without it' goes_on 5
	metric "back_ms=$WENT_ON_MS"
	measure after 8
	hog_over
}

after() {
	control_verdict may "$(stalled)"
}
