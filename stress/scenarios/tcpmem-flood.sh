# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='all TCP memory of the guest held by 300 connections nobody reads: swap keeps its pace'
drivers='nbswap mainline'
programs='memhog flood'
timeout=300
SINK=7777

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	flood sink $SINK &
	_sink=$!
	hog_start -n 4 -m $((MEM_MB * 2)) -r -t 3600 -s $((60 * SLOW))
	await over
	kill $_sink
	hog_end
}

# What the sink said last: connections, tcp_pages, limit
sink_says() {
	report_since "$FROM" | sed -n "s/^# beat sink .*$1=\([0-9]*\).*/\1/p" | tail -n 1
}

# Once it is, the last of them may wait for memory to be accepted
tcp_memory_full() {
	[ "$(sink_says connections)" -ge 270 ] && [ "$(sink_says tcp_pages)" -ge $(($(sink_says limit) * 9 / 10)) ]
}

host() {
	hog_filled 120 || return 0
	measure before $((10 * SLOW))
	_base=$IN_PER_S
	ip netns exec "$NS" "$TOP/build/stress/bin/flood" fill "$GUEST4" $SINK > /dev/null &
	_fill=$!
	check 'TCP memory is full' until_true 40 tcp_memory_full
	# A busy host may be slow for a while by itself, but not three times in a row
	for _try in 1 2 3; do
		measure "flooded_$_try" $((15 * SLOW))
		_flooded=$IN_PER_S
		[ $((_flooded * 2)) -lt "$_base" ] || break
	done
	metric "tcp_pages=$(sink_says tcp_pages)"
	metric "tcp_limit=$(sink_says limit)"
	check 'TCP memory was full all the time' tcp_memory_full
	kill $_fill || :
	_times=$(((_base + 1) * 10 / (_flooded + 1)))
	metric "flooded_in_per_s=$_flooded"
	metric "slower_times=$((_times / 10)).$((_times % 10))"
	check "swap-in keeps half of its rate: $_base pages/s before, $_flooded flooded" \
		test $((_flooded * 2)) -ge "$_base"
	hog_over
}

after() {
	mainline || return 0
	_times=$(report_since "$FROM" | sed -n 's/^# metric slower_times=\([0-9]*\).*/\1/p')
	_slow=
	[ "${_times:-0}" -lt 5 ] || _slow="$_times times slower"
	control_verdict must "$_slow"
}
