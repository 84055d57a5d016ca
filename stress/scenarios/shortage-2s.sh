# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC1091,SC2034,SC2154
. "${STRESS:-}/scenarios/reconnect-starved.sh"
uses=reconnect-starved
desc='for 2 s nobody but those entitled to the reserve gets a page; then all memory is given back'
HOLD=2
SYMPTOM='the device|swap goes on' SYMPTOM_IS='swap does not go on' MAINLINE=may

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
