# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='the disk of the server is full and WRITEs are refused for 20 s, then it has room: no page is lost'
drivers='nbswap mainline'
programs=memhog
long=y
timeout=400
ROOM=48 # MB
# The kernel tells of each page it could not write
expect='Write-error on swap|I/O error'
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

# A file that promises more than its file system holds; that is mounted where the server
# runs alone (ip netns exec makes a mount namespace) and gone with it
prepare() {
	mkdir "$WORK/small"
	server_define swap "$WORK/small/swap" "$PORT"
	_c=$WORK/server/swap/command
	echo "sh -c \"mount -t tmpfs -o size=${ROOM}M full '$WORK/small' &&" \
		"truncate -s 1G '$WORK/small/swap' && exec $(cat "$_c")\"" > "$_c.new"
	mv "$_c.new" "$_c"
	server_up swap
}

guest() {
	swap_hog -n 4 -m $((MEM_MB * 3)) -t 3600 -s $((150 * SLOW))
}

make_room() {
	nsenter -t "$(cat "$WORK/server/swap/pid")" -m mount -o remount,size=1G "$WORK/small"
}

# The kernel writes page after page and finds them refused.  It does not think of killing
# anybody for that, with the reference driver neither.
host() {
	swapping 20 || not_ok 'memhog swaps'
	check 'a write is refused' until_true 90 console_has 'error on swap'
	linger 20
	check 'the server is given room' make_room
	hog_recovers 10
}

after() {
	control_verdict may "$(stalled)"
}
