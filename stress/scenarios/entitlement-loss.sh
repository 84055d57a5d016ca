# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC1091,SC2034,SC2154
. "${STRESS:-}/scenarios/reconnect-starved.sh"
uses=reconnect-starved
desc='free memory held where only those entitled to the reserve get a page, on a wire that loses 1 %'
relay=y
HOLD=24
SYMPTOM='the device|no gap' SYMPTOM_IS='not served in the hold' MAINLINE=may

host() {
	starved_ready
	netem 'loss 1'
	_from=$(report_size)
	sleep 6
	probed "$_from"
	_free=$WORST _least=$((IOS / 2))
	metric "ios_free=$IOS"
	metric "slowest_free_ms=$WORST"
	hold_begins
	sleep 2
	_from=$(report_size)
	sleep 16
	probed "$_from"
	metric "ios_hold=$IOS"
	metric "slowest_hold_ms=$WORST"
	hold_lasts
	# A packet lost twice costs TCP a second or more by itself
	if [ "$IOS" -gt $_least ] && [ "$WORST" -le $((5000 * SLOW + _free)) ]; then
		ok 'the device is served in the hold, whatever is lost'
	else
		not_ok "the device is served in the hold, whatever is lost: $IOS requests in 16 s, the slowest took $WORST ms, without the hold $_free ms"
	fi
	hold_ends $HOLD
	_from=$(report_size)
	sleep 6
	probed "$_from"
	metric "slowest_after_ms=$WORST"
	check "no gap after the hold ($WORST ms, before it $_free ms)" \
		test "$WORST" -le $((5000 * SLOW + _free))
	netem clear
	progress 20 'swap goes on after it'
}
