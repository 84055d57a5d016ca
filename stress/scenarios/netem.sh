# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='a wire that loses, delays, swaps and doubles frames: slow, but never still'
drivers='nbswap mainline'
programs=memhog
relay=y
long=y
timeout=400

# One setting alone can be asked for
SETTINGS='loss 1|loss 5|loss 20|delay 20|delay 100|reorder 20|duplicate 20'

if [ "${DRIVER:-}" = mainline ]; then
	may_die=y
	expect='.'
fi

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

guest() {
	swap_hog -n 4 -m $((MEM_MB * 2)) -r -t 3600 -s 120
}

# gap_limit SETTING: the longest time without a page, in seconds.  With one frame
# in five lost TCP itself backs off for many seconds.
gap_limit() {
	case $1 in
	'loss 20') echo 45 ;;
	*) echo 5 ;;
	esac
}

# under SETTING: what swapping does on such a wire, and after it
under() {
	_setting=$1
	_name=$(echo "$_setting" | tr ' ' '_')
	netem "$_setting"
	measure "$_name" 12
	netem clear
	case $_setting in
	loss*) _did=$(netem_count lost) ;;
	reorder*) _did=$(netem_count reordered) ;;
	duplicate*) _did=$(netem_count doubled) ;;
	*) _did=$(netem_count frames) ;;
	esac
	check "$_setting: the wire did that" test "$_did" -gt 0
	check "$_setting: no gap longer than $(gap_limit "$_setting") s ($GAP_MS ms, undisturbed $BASE_GAP_MS ms)" \
		test "$GAP_MS" -le $(($(gap_limit "$_setting") * 1000 * SLOW + BASE_GAP_MS))
	check "$_setting: swapping goes on at once on a good wire" goes_on 15
	metric "${_name}_back_ms=$WENT_ON_MS"
}

host() {
	random_seed
	hog_filled 120 || return 0
	measure clear 8
	echo "${NBSWAP_NETEM:-$SETTINGS}" | tr '|' '\n' > "$RUN/settings"
	while read -r _line; do
		under "$_line"
	done < "$RUN/settings"
	rm -f "$RUN/settings"
	hog_over
}

after() {
	control_verdict may "$(stalled)"
}
