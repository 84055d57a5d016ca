# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='64 UDP sockets that nobody reads, 20,000 packets/s for 20 s, under memhog; every setting at its default'
long=y
drivers='nbswap mainline'
mem=192
programs='memhog udphoard'
timeout=240
# Others do without a page for a while
expect='page allocation failure'

# A virtio ring is filled with memory that an unpatched kernel does not take from
# the reserve: what happens there is recorded, not judged.  The reference driver
# stops for ever: that is the negative control.
if [ "${DRIVER:-}" = mainline ]; then
	may_die=y expect='.'
elif [ "${NIC:-}" = virtio ] && ! patched; then
	may_die=y expect='blocked for more|INFO: task|page allocation failure'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	udphoard -n 64 &
	_udphoard=$!
	hog_start -n 4 -m "$(hog_mb 220)" -t 3600 -s $((60 * SLOW))
	metric "min_free_kbytes=$(cat /proc/sys/vm/min_free_kbytes)"
	await over
	hog_end
	kill $_udphoard
}

# Filled first: a page that was never written is had faster than one from swap
host() {
	flooded
	hog_over
}

flooded() {
	hog_filled 150 || return 0
	_calm=$(pages_in 8)
	metric "pages_per_s_before=$((_calm / 8))"
	in_ns "$TOP/build/stress/bin/udphoard" -n 64 -t 20 "$GUEST4" > "$RUN/flood" &
	_flood=$!
	sleep 10
	# How many packets of ours get through such a flood depends on the card
	_under=$(pages_in 8)
	metric "pages_per_s_flood=$((_under / 8))"
	wait $_flood || not_ok 'the flood goes out'
	cat "$RUN/flood" >> "$REPORT"
	rm -f "$RUN/flood"
	sleep 5
	_later=$(pages_in 8)
	metric "pages_per_s_after=$((_later / 8))"
	# The rate of a busy host varies that much by itself
	if [ "$_later" -gt $((_calm / 3)) ]; then
		ok 'swap goes on, at its old rate from 5 s after the flood'
	else
		not_ok "swap goes on, at its old rate from 5 s after the flood: $_later pages in 8 s, $_calm before"
	fi
}

after() {
	_slow=
	report_since "$FROM" | grep -q '^not ok swap goes on' && _slow='swap does not go on'
	if [ "$DRIVER" = mainline ]; then
		finding mainline must "$_slow"
	elif [ "$NIC" = virtio ] && ! patched; then
		finding 'virtio, unpatched' may "$_slow"
	fi
}
