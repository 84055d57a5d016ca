# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='every allocation fails that may not wait and is not entitled to the reserve: swap goes on at half its rate'
long=y
drivers='nbswap mainline'
config=MEM_ENTITLEMENT_TEST
relay=y
programs='memhog /bin/ip'
# NBSWAP_SECONDS: of the plain phase, ten minutes if not told
SECONDS_PLAIN=${NBSWAP_SECONDS:-600}
timeout=$((3 * SECONDS_PLAIN + 600))

# The control: the same on a kernel without the network patches, or with the
# reference driver, is recorded, with the places that were refused
if [ "${DRIVER:-}" = mainline ] || ! patched; then
	may_die=y expect='.'
	SECONDS_PLAIN=60 timeout=780
fi
expect="${expect:+$expect|}page allocation failure"

ENTITLEMENT=/sys/kernel/debug/mem_entitlement

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# What was refused to whom swap depends on: in the card's driver, in TCP and IP, in
# the driver, but for its question whether others get memory.  "optional" is what a
# caller has another way for; what is beneath an interrupt, or a softirq that ran when
# bottom halves were enabled again, was only interrupted.
refused_on_the_path() {
	awk '
	/^[0-9]/ { if (bad) print entry; entry = $0; bad = 0; below = 0; optional = / optional$/; next }
	/^\t(asm_(sysvec|common_interrupt|exc)|handle_softirqs|__do_softirq)/ { below = 1 }
	/^\t/ && !below {
		entry = entry " <-" $1
		if (/<-nbd_rescue/ || /\tnbd_rescue/) optional = 1
		if (!optional && /\[nbd\]|tcp_|ip_queue_xmit|ip6_xmit|neigh_|napi_poll|net_rx_action|dev_queue_xmit/) bad = 1
	}
	END { if (bad) print entry }' $ENTITLEMENT/refused
}

# To be asked often: there is room for so many places, and whatever disturbs has its own
collect() {
	refused_on_the_path >> /tmp/refused
	sed -n '1s/.* lost \([0-9]*\).*/\1/p' $ENTITLEMENT/refused >> /tmp/lost
	echo > $ENTITLEMENT/refused
}

# disturb WHAT: until the next word of the host
disturb() {
	case $1 in
	neighbours)
		while sleep 0.1; do /bin/ip neigh flush all || :; done > /dev/null 2>&1 &
		_loop=$!
		;;
	routes)
		# Every change of the table makes all routes stale
		while sleep 0.1; do
			/bin/ip route replace 192.0.2.0/24 dev "$NETDEV" || :
			/bin/ip route del 192.0.2.0/24 dev "$NETDEV" || :
		done > /dev/null 2>&1 &
		_loop=$!
		;;
	threads) echo 1 > "/sys/class/net/$NETDEV/threaded" ;;
	esac
}

quiet() {
	[ -z "$_loop" ] || kill "$_loop"
	_loop=
	echo 0 > "/sys/class/net/$NETDEV/threaded"
}

# The host says what is to be done
obey() {
	_loop=
	while read -r _verb _word; do
		[ "$_verb" = go ] || continue
		quiet
		case $_word in
		over) return ;;
		fail)
			echo > $ENTITLEMENT/refused
			echo 100 > $ENTITLEMENT/nonreserve_fail
			;;
		pass)
			echo 0 > $ENTITLEMENT/nonreserve_fail
			collect
			;;
		*) disturb "$_word" ;;
		esac
		say "did-$_word"
	done
}

guest() {
	mount -t debugfs debugfs /sys/kernel/debug 2> /dev/null || :
	NETDEV=$(basename /sys/class/net/e*)
	attach 0 swap -swap
	swap_on 0
	say swapping
	memhog -n 4 -m $((MEM_MB * 3)) -t 3600 -s $((60 * SLOW)) &
	_hog=$!
	: > /tmp/refused
	: > /tmp/lost
	obey
	echo 0 > $ENTITLEMENT/nonreserve_fail
	collect
	metric "refusals_without_room=$(awk '{ n += $1 } END { print n + 0 }' /tmp/lost)"
	same 'nothing on the path was refused' "$(wc -l < /tmp/refused)" 0
	cut -c1-700 /tmp/refused | head -n 20 | sed 's/^/#   refused /'
	kill -TERM "$_hog"
	hog_result wait "$_hog"
	nobody_killed
	swap_off 0
}

# tell WORD: and wait until it is done
tell() {
	_at=$(report_size)
	vm_say "go $1"
	report_wait "^say did-$1" "$_at" 60
}

# disturbed WHAT: the rate of pages in and out under it, in RATE
disturbed() {
	case $1 in
	loss) netem 'loss 5' ;;
	nothing) ;;
	*) tell "$1" || : ;;
	esac
	measure "$2_$1" $(($3 * SLOW))
	RATE=$((IN_PER_S + OUT_PER_S))
	case $1 in
	loss) netem clear ;;
	nothing) ;;
	*) tell quiet || : ;;
	esac
}

# half WHAT SECONDS: the rate with failures against the one without, which whatever
# disturbs costs, too.  A busy host may be slow for a while by itself, but not three
# times in a row.
half() {
	for _try in 1 2 3; do
		disturbed "$1" free 10
		_free=$RATE
		tell fail || return 0
		disturbed "$1" failing "$2"
		tell pass || :
		[ $((RATE * 2)) -lt "$_free" ] || break
	done
	check "disturbed by $1 swap goes on at half of its rate: $RATE of $_free pages/s" \
		test $((RATE * 2)) -ge "$_free"
}

host() {
	hog_filled 240 || return 0
	half nothing "$SECONDS_PLAIN"
	for _what in loss neighbours routes threads; do
		half $_what 10
	done
	tell fail || return 0
	_restarts=0
	while [ $_restarts -lt 10 ] && vm_alive; do
		server_kill swap
		sleep 1
		server_up swap
		goes_on 10 || break
		_restarts=$((_restarts + 1))
	done
	metric "restarts=$_restarts"
	check 'it goes on after each of 10 restarts of the server' test $_restarts = 10
	hog_over
}

after() {
	report_since "$FROM" | grep -qE '^not ok .*(goes on|nothing on the path)' &&
		_symptom='not entitled' || _symptom=
	if [ "$DRIVER" = mainline ]; then
		finding mainline must "$_symptom"
	elif ! patched; then
		finding 'a kernel without the patches' must "$_symptom"
	fi
}
