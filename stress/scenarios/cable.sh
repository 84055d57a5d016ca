# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='the cable pulled out of the card three times, for 10 s each, with memory full: all goes on'
drivers='nbswap mainline'
programs=memhog
long=y
timeout=500
TIMES=3 PULLED=10

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
elif [ "${NIC:-}" = e1000e ] && ! patched; then
	# It resets itself, and then waits for memory to receive into
	may_die=y
	expect='blocked for more than|hung task reports'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	_changes=/sys/class/net/$(basename /sys/class/net/e*)/carrier_changes
	_before=$(cat "$_changes")
	swap_hog -n 4 -m $((MEM_MB * 3)) -t 3600 -s $((200 * SLOW))
	same 'the card saw the cable go and come' $(($(cat "$_changes") - _before)) $((2 * TIMES))
}

host() {
	hog_filling 40 || return 0
	_worst=0
	for _i in $(seq $TIMES); do
		vm_monitor 'set_link n0 off'
		outage $PULLED "without the cable, time $_i"
		vm_monitor 'set_link n0 on'
		check "swapping goes on within 10 s, time $_i" goes_on 10
		[ "$WENT_ON_MS" -le "$_worst" ] || _worst=$WENT_ON_MS
		vm_alive || return 0
	done
	metric "slowest_recovery_ms=$_worst"
	hog_verified
	hog_over
}

after() {
	if [ "$DRIVER" = nbswap ] && [ "$NIC" = e1000e ] && ! patched; then
		finding 'e1000e, unpatched' may "$(stalled)"
	fi
	control_verdict may "$(stalled)"
}
