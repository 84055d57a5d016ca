# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='memhog under memory.max, the client configured under another: swap works, nothing of it is charged there'
long=y
drivers='nbswap mainline'
mem=256
programs=memhog
timeout=300
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# in_group NAME COMMAND...
in_group() {
	_group=/sys/fs/cgroup/$1
	shift
	sh -c 'echo $$ > "$0/cgroup.procs"; exec "$@"' "$_group" "$@"
}

# Bytes of socket memory charged to the group of the client, the most so far
charged() {
	_sock=$(sed -n 's/^sock //p' /sys/fs/cgroup/client/memory.stat)
	[ "$_sock" -le "$MOST" ] || MOST=$_sock
}

connect_in_group() {
	if [ "$DRIVER" = mainline ]; then
		in_group client nbd-client "$HOST4" "$PORT" /dev/nbd0 -N swap -persist -t 10 -swap
	else
		in_group client nbd-client "$HOST4" "$PORT" /dev/nb0 -N swap -swap
	fi
}

guest() {
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	echo +memory > /sys/fs/cgroup/cgroup.subtree_control
	mkdir /sys/fs/cgroup/client /sys/fs/cgroup/hog
	echo 16M > /sys/fs/cgroup/client/memory.max
	echo $((MEM_MB / 4))M > /sys/fs/cgroup/hog/memory.max
	check 'a client in a group of 16 MB connects' connect_in_group
	until_true 10 test -e "/sys/block/${PREFIX}0/pid"
	swap_on 0
	say swapping
	MOST=0
	(
		_rc=0
		in_group hog memhog -n 4 -m $((MEM_MB / 2)) -t 40 -s $((60 * SLOW)) || _rc=$?
		echo "$_rc" > /tmp/hog.end
	) &
	while [ ! -s /tmp/hog.end ]; do
		charged
		sleep 0.5
	done
	same 'every page comes back as it was written' "$(cat /tmp/hog.end)" 0
	metric "client_socket_bytes=$MOST"
	same 'no socket memory is charged to the group of the client' "$MOST" 0
	same 'the group of the client never hit its limit' \
		"$(sed -n 's/^max //p' /sys/fs/cgroup/client/memory.events)" 0
	check 'memhog was held at its limit' test \
		"$(sed -n 's/^max //p' /sys/fs/cgroup/hog/memory.events)" -gt $((100 / SLOW))
	same 'nobody was killed for it' "$(sed -n 's/^oom_kill //p' /sys/fs/cgroup/hog/memory.events)" 0
	swap_off 0
}

host() {
	swapping 8
	for _i in 1 2; do
		sleep 3
		server_kill swap
		sleep 3
		server_up swap
		progress 30 "progress after restart $_i"
		! control_ends || return 0
		metric "recovery_${_i}_s=$RECOVERED"
	done
}

after() {
	control_verdict must
}
