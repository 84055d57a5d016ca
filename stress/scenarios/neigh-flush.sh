# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
# The real ip: busybox's own knows no more than to show and to flush
desc='the neighbour table emptied ten times a second under swap, the server at other hardware addresses'
drivers='nbswap mainline'
programs='memhog /bin/ip'
long=y
timeout=400

MAC1=02:00:00:77:00:01
MAC2=02:00:00:77:00:02
MAC3=02:00:00:77:00:03

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# is_at ADDRESS PATTERN: what the guest's table says of the server
is_at() {
	/bin/ip neigh show to "$1" | grep -qiE -e "$2"
}

gone() {
	! /bin/ip neigh show | grep -q PERMANENT
}

# kept WORD: while the host waits for it to go on
kept() {
	[ "$DRIVER" = mainline ] || "$@"
}

guest_v4() {
	kept check 'the server is a permanent neighbour' until_true 3 is_at "$HOST4" PERMANENT
	while sleep 0.1; do
		/bin/ip neigh flush all > /dev/null 2>&1 || :
	done &
	_flush=$!
	await flushed
	kept check 'and still is, with the table being emptied' is_at "$HOST4" PERMANENT
	/bin/ip neigh del "$HOST4" dev "$NETDEV" || :
	kept check 'removed by hand, it is back' until_true 3 is_at "$HOST4" PERMANENT
	kill $_flush
	say removed
	await moved1
	kept check 'it is followed to where it announces itself' until_true 3 is_at "$HOST4" "$MAC1.*PERMANENT"
	say followed
	await moved2
	kept check 'it is followed without an announcement' until_true 3 is_at "$HOST4" "$MAC2.*PERMANENT"
	await over
	hog_end
	kept check 'no permanent neighbour is left' gone
}

guest_v6() {
	say v6
	nbd-client "$HOST6" "$PORT" "/dev/${PREFIX}0" -N swap -swap > /dev/null
	check 'over IPv6 it is a permanent neighbour too' until_true 3 is_at "$HOST6" PERMANENT
	swap_on 0
	memhog -n 4 -m $((MEM_MB * 2)) -r -t 3600 -s 120 &
	_hog=$!
	await moved3
	check 'it is followed by neighbour discovery' until_true 12 is_at "$HOST6" "$MAC3.*PERMANENT"
	await over
	hog_end
	check 'no permanent neighbour is left of it' gone
}

# An administrator's own entry is not ours to change
guest_admin() {
	/bin/ip neigh replace "$HOST4" lladdr $MAC3 dev "$NETDEV" nud permanent
	attach 0 swap -swap
	sleep 2
	check 'disconnect' nbd-client -d "/dev/${PREFIX}0"
	check 'a permanent entry of the administrator stays' is_at "$HOST4" "$MAC3.*PERMANENT"
	/bin/ip neigh del "$HOST4" dev "$NETDEV"
}

# The last thing: without a network card there is no more to do
guest_unplug() {
	attach 0 swap -swap
	until_true 3 is_at "$HOST4" PERMANENT
	_pci=$(readlink -f "/sys/class/net/$NETDEV/device")
	[ -e "$_pci/remove" ] || _pci=${_pci%/*}
	echo 1 > "$_pci/remove" &
	check 'the network card can be taken away' until_true 10 test ! -e "/sys/class/net/$NETDEV"
	wait $!
	check 'disconnect by force' nbd-client -d "/dev/${PREFIX}0" -force
}

guest() {
	NETDEV=$(basename /sys/class/net/e*)
	hog_start -n 4 -m $((MEM_MB * 2)) -r -t 3600 -s 120
	guest_v4
	[ "$DRIVER" != mainline ] || return 0
	guest_v6
	guest_admin
	guest_unplug
}

# move MAC NOTIFY: the server's end of the wire
move() {
	in_ns sysctl -qw net.ipv4.conf.tap0.arp_notify="$2"
	ip -n "$NS" link set tap0 address "$1"
}

# seen WORD: the guest, which has to swap in what it looks with, has looked
seen() {
	mainline || report_wait "^say $1" "$FROM" 30
	sleep 3
}

# on NAME SECONDS TEXT: after a move.  A few pages are always at hand: what counts
# is the longest time without one.
on() {
	_at=$(report_size)
	vm_say "go $1"
	sleep $(($2 * SLOW + 2))
	check "$3: swapping goes on" goes_on "$2"
	_gap=$(live_max gap_ms "$_at")
	metric "${1}_gap_ms=$_gap"
	check "$3: no gap longer than $2 s ($_gap ms, undisturbed $BASE_GAP_MS ms)" \
		test "$_gap" -le $(($2 * 1000 * SLOW + BASE_GAP_MS))
}

host() {
	hog_filled 120 || {
		vm_kill
		return 0
	}
	sleep 5
	vm_say 'go flushed'
	check 'flushed ten times a second: swapping goes on' goes_on 3
	seen removed
	move $MAC1 1
	on moved1 3 'announced at another address'
	seen followed
	move $MAC2 0
	# It is asked for after 1 s; what was lost meanwhile TCP sends again 1.4 s or, if
	# the answer comes later than that, 3 s after the first time, and a bit
	on moved2 4 'at another address, without a word'
	sleep 3
	hog_over
	[ "$DRIVER" != mainline ] || return 0
	report_wait '^say v6' "$FROM" 60
	_v6=$(report_size)
	report_wait '^# live .*filled=1' "$_v6" 120
	move $MAC3 0
	on moved3 10 'at another address over IPv6'
	hog_over
}

after() {
	control_verdict may "$(stalled)"
	check 'nothing waited for the network card to be let go' not_on_console 'unregister_netdevice: waiting'
}

not_on_console() {
	! console_has "$1"
}
