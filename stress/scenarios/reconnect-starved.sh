# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='free memory held where only the entitled get any; in the hold the server dies and comes back after 1 s'
long=y
drivers='nbswap mainline'
mem=192
programs='memhog ioprobe'
kmods=eater
timeout=200
# What others cannot allocate while all is taken from them is no alarm
expect='page allocation failure'
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }
# An unpatched kernel fills a virtio ring with memory that is not from the reserve
[ "${NIC:-}" != virtio ] || { may_die=y expect="${expect}|blocked for more|INFO: task"; }

HOLD=24

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# At a fifth of min_free_kbytes not even an atomic request gets a page, down to
# three eighths it would.  Nor does a page fault, so memhog waits for the end of
# the hold; ioprobe, on a part of the device behind the swap, needs no page.
guest() {
	attach 0 swap -swap
	(
		_rc=0
		ioprobe -t $((50 + HOLD)) "/dev/${PREFIX}0" 950 4 || _rc=$?
		echo "$_rc" > /tmp/probe.end
	) &
	await filled
	mkswap "/dev/${PREFIX}0" 921600 > /dev/null
	swapon "/dev/${PREFIX}0"
	_level=$(($(cat /proc/sys/vm/min_free_kbytes) / 5))
	metric "hold_kb=$_level"
	exec 3<&0
	(
		await hold
		echo "$_level $HOLD" > /sys/module/eater/parameters/hold
	) <&3 &
	say swapping
	hog -n 4 -m 220 -t $((30 + HOLD)) -s $((90 * SLOW))
	until_true 60 test -s /tmp/probe.end || :
	same 'ioprobe: every page was right and none failed' "$(cat /tmp/probe.end)" 0
	swap_off 0
}

# probed FROM: IOS requests and the slowest of them, WORST ms, of the probe since byte FROM
probed() {
	# shellcheck disable=SC2046 # two words
	set -- $(report_since "$1" | sed -n 's/^# probe .* ios=\([0-9]*\) worst_ms=\([0-9]*\) .*/\1 \2/p' |
		awk '{ n += $1; if ($2 > w) w = $2 } END { print n + 0, w + 0 }')
	IOS=$1 WORST=$2
}

# outage NAME: the server is away for a second
outage() {
	_from=$(report_size)
	server_kill swap
	sleep 1
	server_up swap
	sleep 6
	probed "$_from"
	metric "gap_$1_ms=$WORST"
	metric "ios_$1=$IOS"
}

host() {
	report_wait '^say filled' "$FROM" 60
	vm_say 'go filled'
	swapping 50
	# Without the hold: mainline would be gone by then
	_free=0
	mainline || {
		outage free
		_free=$WORST
	}
	vm_say 'go hold'
	until_true 20 console_has 'eater: holds free memory' || not_ok 'the hold begins'
	sleep 2
	_from=$(report_size)
	sleep 5
	probed "$_from"
	metric "ios_hold=$IOS"
	metric "slowest_hold_ms=$WORST"
	if [ "$IOS" -gt 100 ] && [ "$WORST" -le $((2000 * SLOW)) ]; then
		ok 'the device is served in the hold'
	else
		not_ok "the device is served in the hold: $IOS requests in 5 s, the slowest took $WORST ms"
	fi
	outage starved
	# 1 s of it is the outage; a host that is busy may be as slow without the hold
	_limit=$((3000 * SLOW))
	[ $((_free + 2000)) -le $_limit ] || _limit=$((_free + 2000))
	if [ "$IOS" -gt 100 ] && [ "$WORST" -le $_limit ]; then
		ok 'and again within 2 s after the server is back, in the hold'
	else
		not_ok "and again within 2 s after the server is back, in the hold: $IOS requests, the slowest took $WORST ms, without the hold $_free ms"
	fi
	if console_has 'eater: gives back'; then
		not_ok 'the hold lasted until then'
	else
		ok 'the hold lasted until then'
	fi
	! control_ends || return 0
	until_true $((HOLD + 10)) console_has 'eater: gives back' || not_ok 'the hold ends'
	note "$(tail -c "+$((CONSOLE_FROM + 1))" "$VM_CONSOLE" | tr -d '\r' | sed -n 's/.*\(eater: gives.*\)/\1/p')"
	progress 20 'swap goes on after it'
}

# starved WHO must|may
starved() {
	_symptom=
	! report_since "$FROM" | grep -qE '^not ok (the device|and again)' || _symptom='not served in the hold'
	finding "$1" "$2" "$_symptom"
}

after() {
	if [ "$DRIVER" = mainline ]; then
		starved mainline must
	elif [ "$NIC" = virtio ]; then
		starved 'virtio, unpatched' may
	fi
}
