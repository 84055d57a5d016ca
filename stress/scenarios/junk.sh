# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='floods for others arrive while only the reserve is left: they are dropped, and take no more than R of it'
long=y
config=MEM_ENTITLEMENT_TEST
mem=192
programs='memhog ioprobe holdlevels udphoard flood'
timeout=300
expect='page allocation failure'

SINK=7777
HOLD=40

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# dropped: packets in the reserve that arrived for sockets without a right to it
dropped() {
	awk '/^TcpExt:/ { if (!n++) { for (i = 2; i <= NF; i++) if ($i == "PFMemallocDrop") at = i } else print $at }' /proc/net/netstat
}

# Below three eighths of the watermarks all that is received into is from the reserve
low() {
	_before=$(dropped)
	levels $HOLD $(($(min_watermarks) / 4))
	_after=$(dropped)
	metric "dropped=$((_after - _before))"
	check 'packets for others were dropped for what they lay in' test $((_after - _before)) -gt 1000
}

guest() {
	mount -t debugfs debugfs /sys/kernel/debug 2> /dev/null || :
	attach 0 swap -swap
	udphoard -n 64 &
	_udp=$!
	flood sink $SINK &
	_sink=$!
	levelled_guest $((50 + HOLD)) low
	kill $_udp $_sink
	swap_off 0
}

# under NAME COMMAND...: ten seconds of it
under() {
	_name=$1
	shift
	"$@" > "$RUN/flood" 2>&1 &
	_flood=$!
	sleep 2
	_from=$(report_size)
	sleep 6
	probed "$_from"
	kill $_flood 2> /dev/null || :
	wait $_flood || :
	rm -f "$RUN/flood"
	metric "ios_$_name=$IOS"
	metric "slowest_${_name}_ms=$WORST"
	check "the device is served under it: $_name, $IOS requests in 6 s, the slowest took $WORST ms" \
		test "$IOS" -gt 5 -a "$WORST" -le $((5000 * SLOW))
}

host() {
	report_wait '^say filled' "$FROM" 60
	vm_say 'go filled'
	swapping 50
	_begin=$(report_size)
	vm_say 'go hold'
	report_wait '^# level .* begin' "$_begin" 30 || return 0
	under udp in_ns "$TOP/build/stress/bin/udphoard" -n 64 -r 3000 -t 10 "$GUEST4"
	under tcp in_ns "$TOP/build/stress/bin/flood" fill "$GUEST4" $SINK
	# Longer than a packet may be: fragments
	under fragments in_ns "$TOP/build/stress/bin/flood" udp -p 500 -s 8000 -t 10 "$GUEST4" 9
	report_wait '^# level .* over' "$_begin" $((HOLD + 40)) || not_ok 'the hold is over'
	# shellcheck disable=SC2046 # four words
	set -- $(report_since "$_begin" | sed -n 's/^# level kb=\([0-9]*\) end registered=\([0-9]*\) floor=\([0-9]*\) used=[0-9]* max=\([0-9]*\).*/\1 \2 \3 \4/p')
	_ours=$(($4 - ($3 - $1)))
	metric "used_kb=$_ours"
	metric "registered_kb=$2"
	check "no more than what is registered was taken of the reserve: $_ours of $2 kB" test $_ours -le "$2"
	progress 20 'swap goes on after it'
	hog_over
}
