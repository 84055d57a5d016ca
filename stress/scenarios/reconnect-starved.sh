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
[ "${NIC:-}" != virtio ] || patched || { may_die=y expect="${expect}|blocked for more|INFO: task"; }

HOLD=24
# What of it went wrong is no failure where it is to be expected, but a finding; of the
# reference driver it must
SYMPTOM='the device|and again' SYMPTOM_IS='not served in the hold' MAINLINE=must

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	starved_guest $HOLD
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
	starved_ready
	# Without the hold: mainline would be gone by then
	_free=0 _least=100
	mainline || {
		outage free
		_free=$WORST
		# As many as that is no more than a busy host does without the hold
		[ $((IOS / 3)) -ge $_least ] || _least=$((IOS / 3))
	}
	hold_begins
	sleep 2
	_from=$(report_size)
	sleep 5
	probed "$_from"
	metric "ios_hold=$IOS"
	metric "slowest_hold_ms=$WORST"
	if [ "$IOS" -gt $_least ] && [ "$WORST" -le $((2000 * SLOW)) ]; then
		ok 'the device is served in the hold'
	else
		not_ok "the device is served in the hold: $IOS requests in 5 s, the slowest took $WORST ms"
	fi
	outage starved
	# 1 s of it is the outage; a host that is busy may be as slow without the hold
	_limit=$((3000 * SLOW))
	[ $((_free + 2000)) -le $_limit ] || _limit=$((_free + 2000))
	if [ "$IOS" -gt $_least ] && [ "$WORST" -le $_limit ]; then
		ok 'and again within 2 s after the server is back, in the hold'
	else
		not_ok "and again within 2 s after the server is back, in the hold: $IOS requests, the slowest took $WORST ms, without the hold $_free ms"
	fi
	hold_lasts
	! control_ends || return 0
	hold_ends $HOLD
	progress 20 'swap goes on after it'
}

after() {
	_symptom=
	! report_since "$FROM" | grep -qE "^not ok ($SYMPTOM)" || _symptom=$SYMPTOM_IS
	if [ "$DRIVER" = mainline ]; then
		finding mainline $MAINLINE "$_symptom"
	elif [ "$NIC" = virtio ] && ! patched; then
		finding 'virtio, unpatched' may "$_symptom"
	fi
}
