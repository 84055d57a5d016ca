# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='for 2 s nobody but those entitled to the reserve gets a page; then all memory is given back'
long=y
drivers='nbswap mainline'
mem=192
programs='memhog ioprobe'
kmods=eater
timeout=200
# What others cannot allocate while all is taken from them is no alarm
expect='page allocation failure'
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }
# An unpatched kernel's virtio_net may have gone to wait for memory for good
[ "${NIC:-}" != virtio ] || patched || { may_die=y expect="${expect}|blocked for more|INFO: task"; }

HOLD=2

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	starved_guest $HOLD
}

host() {
	starved_ready
	_from=$(report_size)
	sleep 5
	probed "$_from"
	_calm=$IOS
	metric "ios_before=$IOS"
	hold_begins
	hold_ends $HOLD
	sleep 2
	_from=$(report_size)
	sleep 5
	probed "$_from"
	metric "ios_after=$IOS"
	metric "slowest_after_ms=$WORST"
	if [ "$IOS" -ge $((_calm / 3)) ]; then
		ok 'the device is as fast as before, from 2 s after the hold'
	else
		not_ok "the device is as fast as before, from 2 s after the hold: $IOS requests in 5 s, $_calm before"
	fi
	progress 20 'swap goes on after it'
}

after() {
	_symptom=
	report_since "$FROM" | grep -qE '^not ok (the device|swap goes on)' && _symptom='swap does not go on'
	if [ "$DRIVER" = mainline ]; then
		finding mainline may "$_symptom"
	elif [ "$NIC" = virtio ] && ! patched; then
		finding 'virtio, unpatched' may "$_symptom"
	fi
}
