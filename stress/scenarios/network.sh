# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='the network for all others: ping, streams that arrive whole, throughput; without a device and beside one'
long=y
servers=nbswap
mem=256
programs=/usr/bin/iperf3
timeout=240

IPERF_PORT=5201
SECONDS_EACH=6
# The guest has room for 8
STREAM_MB=4

prepare() {
	disk "$WORK/swap" 512M
	serve swap "$WORK/swap"
	head -c ${STREAM_MB}M /dev/urandom > "$WORK/stream"
	ip netns exec "$NS" iperf3 -s -p $IPERF_PORT > /dev/null 2>&1 &
	IPERF=$!
	in_ns busybox nc -l -p $((IPERF_PORT + 1)) -e cat "$WORK/stream" &
	in_ns busybox nc -l -p $((IPERF_PORT + 2)) -e dd of="$WORK/back" status=none &
}

# Both ways, kB/s of what arrived
throughput() {
	for _way in out in; do
		[ $_way = in ] && _r=-R || _r=
		# shellcheck disable=SC2086 # none or one word
		iperf3 -c "$HOST4" -p $IPERF_PORT -t $((SECONDS_EACH * SLOW)) -f K $_r > /tmp/iperf 2>&1 || :
		_rate=$(awk '/receiver$/ { printf "%d", $(NF - 2) }' /tmp/iperf)
		check "iperf3 $_way, $1: ${_rate:-no} kB/s" test "${_rate:-0}" -gt 100
		metric "tcp_${_way}_$1_kb_per_s=${_rate:-0}"
	done
}

guest() {
	check 'every ping of the guest is answered' sh -c "ping -q -c 50 -i 0.1 $HOST4 | grep ' 0% packet loss'"
	check 'a stream from the host is over' sh -c "nc $HOST4 $((IPERF_PORT + 1)) < /dev/null > /tmp/stream"
	note "stream $(sha256sum < /tmp/stream)"
	check 'and one to it' sh -c "nc $HOST4 $((IPERF_PORT + 2)) < /tmp/stream"
	say streamed
	throughput alone
	attach 0 swap -swap
	swap_on 0
	throughput beside
	swap_off 0
	throughput after
}

host() {
	report_wait '^say streamed' "$FROM" 60 || not_ok 'the streams are over'
	_sum=$(sha256sum < "$WORK/stream")
	check 'a stream to the guest arrives whole' reported "# stream $_sum"
	check 'and so does one from it' until_true 10 cmp -s "$WORK/stream" "$WORK/back"
	check 'every ping of the host is answered' \
		sh -c "ip netns exec '$NS' busybox ping -q -c 50 -i 0.1 '$GUEST4' | grep ' 0% packet loss'"
}

after() {
	kill "$IPERF"
}
