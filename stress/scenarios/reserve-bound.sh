# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='free memory held at ever lower levels, down to nearly nothing: the device is served, and takes no more than R'
long=y
config=MEM_ENTITLEMENT_TEST
mem=192
programs='memhog ioprobe holdlevels'
timeout=300
expect='page allocation failure'

STEP=10

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

lower_and_lower() {
	_min=$(min_watermarks)
	metric "min_kb=$_min"
	# What atomic requests leave alone begins at three eighths
	levels $STEP "$_min" $((_min / 2)) $((_min * 3 / 8)) $((_min / 4)) $((_min / 8)) \
		$((_min / 16)) 400
}

guest() {
	mount -t debugfs debugfs /sys/kernel/debug 2> /dev/null || :
	attach 0 swap -swap
	check 'the kernel keeps the reserve' grep -q 'Registered: *[1-9]' /proc/mem_reserve
	levelled_guest $((60 + 8 * (STEP + 1))) lower_and_lower
	swap_off 0
}

host() {
	report_wait '^say filled' "$FROM" 60
	vm_say 'go filled'
	swapping 50
	_from=$(report_size)
	sleep 5
	probed "$_from"
	metric "ios_before=$IOS"
	_calm=$IOS
	_from=$(report_size)
	vm_say 'go hold'
	report_wait '^# level .* over' "$_from" $((7 * (STEP + 1) + 40)) || not_ok 'the levels are over'
	report_since "$_from" | grep '^# probe' > "$RUN/probes"
	report_since "$_from" | sed -n 's/^# level kb=\([0-9]*\) end registered=\([0-9]*\) floor=\([0-9]*\) used=[0-9]* max=\([0-9]*\)/\1 \2 \3 \4/p' > "$RUN/levels"
	_slowest=$(sed -n 's/.* worst_ms=\([0-9]*\) .*/\1/p' "$RUN/probes" | sort -n | tail -n 1)
	_still=$(grep -c ' ios=0 ' "$RUN/probes") || :
	metric "slowest_ms=$_slowest"
	check "the device is served at every level: slowest request $_slowest ms" \
		test "$_slowest" -le $((3000 * SLOW))
	metric "seconds_without_a_request=$_still"
	while read -r _kb _registered _floor _max; do
		# What the level itself takes of the reserve is not ours
		_ours=$((_max - (_floor > _kb ? _floor - _kb : 0)))
		metric "used_at_${_kb}_kb=$_ours"
		[ "$_kb" -gt "$_floor" ] ||
			check "at $_kb kB the device takes no more than is registered: $_ours of $_registered kB" \
				test $_ours -le "$_registered"
	done < "$RUN/levels"
	check 'seven levels were held' test "$(wc -l < "$RUN/levels")" = 7
	rm -f "$RUN/levels" "$RUN/probes"
	progress 20 'swap goes on after it'
	hog_over
}
