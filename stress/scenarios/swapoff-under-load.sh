# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='swapoff while memhog runs and the server restarts; a forced disconnect of swap whose server is dead'
long=y
drivers='nbswap mainline'
mem=256
sized=y
programs=memhog
timeout=300
# What swap says once an administrator has taken its device away
expect='I/O error|-error on swap|Error on swap'
[ "${DRIVER:-}" != mainline ] || { may_die=y expect='.'; }

prepare() {
	disk "$WORK/swap" 1G
	serve swap "$WORK/swap"
}

# hog_in_group MB OPTION...: memhog with so much memory and no more
hog_in_group() {
	_limit=$1
	shift
	echo "${_limit}M" > /sys/fs/cgroup/hog/memory.max
	rm -f /tmp/hog.end
	(
		_rc=0
		sh -c 'echo $$ > /sys/fs/cgroup/hog/cgroup.procs; echo $$ > /tmp/hog.pid; exec memhog "$@"' \
			memhog "$@" || _rc=$?
		echo "$_rc" > /tmp/hog.end
	) &
}

tenths() {
	echo "$1 $(uptime_s)" | awk '{ printf "%.1f", $2 - $1 }'
}

# soon TEXT LIMIT SECONDS
soon() {
	note "$1: $3 s"
	if echo "$3 $2 $SLOW" | awk '{ exit !($1 <= $2 * $3) }'; then
		ok "$1 within $2 s"
	else
		not_ok "$1 within $2 s: it took $3 s"
	fi
}

# Everything fits into memory once the group may have it
orderly() {
	hog_in_group 80 -n 4 -m 105 -t 3600 -s $((60 * SLOW))
	say swapping
	await swapoff
	echo max > /sys/fs/cgroup/hog/memory.max
	metric "swapped_kb_before=$(awk '/^SwapTotal/ { t = $2 } /^SwapFree/ { f = $2 } END { print t - f }' /proc/meminfo)"
	say swapoff
	_t0=$(uptime_s)
	check 'swapoff while memhog runs and the server is killed and restarted' swapoff "/dev/${PREFIX}0"
	metric "swapoff_s=$(tenths "$_t0")"
	check 'memhog was running all the while' test ! -e /tmp/hog.end
	kill -TERM "$(cat /tmp/hog.pid)"
	until_true 60 test -s /tmp/hog.end || :
	same 'every page comes back as it was written' "$(cat /tmp/hog.end)" 0
}

sockets() {
	sed -n 's/^TCP: inuse \([0-9]*\) orphan \([0-9]*\) .*/inuse=\1 orphan=\2/p' /proc/net/sockstat
}

# The server is dead and stays dead, requests wait, and memhog waits for them
forced() {
	swapon "/dev/${PREFIX}0"
	# The smaller the group, the less a slow guest tries in vain to write out
	hog_in_group $((60 * MEM_MB / 256)) -n 4 -m $((160 * MEM_MB / 256)) -t 3600 -s $((60 * SLOW))
	say swapping-again
	await dead
	(
		dd if="/dev/${PREFIX}0" of=/dev/null bs=64k count=16 iflag=direct 2> /dev/null && echo read || echo failed
	) > /tmp/reader &
	_reader=$!
	sleep 2
	check 'a read of the device waits for the server' test ! -s /tmp/reader
	# Who must swap to get memory has no end with a device that only fails
	echo max > /sys/fs/cgroup/hog/memory.max
	_t0=$(uptime_s)
	# Mainline's client knows no other way
	_force=-force
	[ "$DRIVER" = nbswap ] || _force=
	# shellcheck disable=SC2086 # one word or none
	check 'disconnect by force' nbd-client -d "/dev/${PREFIX}0" $_force
	soon 'the command is done' 10 "$(tenths "$_t0")"
	wait $_reader
	soon 'the waiting read has ended' 10 "$(tenths "$_t0")"
	same 'with an error' "$(cat /tmp/reader)" failed
	until_true 60 test -s /tmp/hog.end || :
	# The kernel first tries in vain to write out what the group had too much of
	soon 'memhog has been told' 15 "$(tenths "$_t0")"
	refuse 'memhog has lost its pages' '' test "$(cat /tmp/hog.end)" = 0
	metric "told_s=$(tenths "$_t0")"
	_t0=$(uptime_s)
	check 'swapoff of the dead device' swapoff "/dev/${PREFIX}0"
	soon 'that swapoff is done' 10 "$(tenths "$_t0")"
	check 'no request is left in the driver' until_true 10 \
		sh -c "awk '{ exit !(\$1 == 0 && \$2 == 0) }' /sys/block/${PREFIX}0/inflight"
	check 'no socket is left' until_true 10 sh -c '! grep -q ":2A39 " /proc/net/tcp'
	same 'none is an orphan' "$(sockets | sed 's/.*orphan=//')" 0
	check 'module unload' rmmod nbd
	check 'module load' insmod /lib/modules/nbd.ko
}

guest() {
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	echo +memory > /sys/fs/cgroup/cgroup.subtree_control
	mkdir /sys/fs/cgroup/hog
	attach 0 swap -swap
	swap_on 0
	orderly
	forced
}

host() {
	swapping 15
	sleep 2
	vm_say 'go swapoff'
	report_wait '^say swapoff$' "$FROM" 30
	# To see what happens beyond this, the reference driver keeps its server
	if [ "$DRIVER" = nbswap ]; then
		server_kill swap
		sleep 2
		server_up swap
	fi
	report_wait '^say swapping-again' "$FROM" 200
	# Who still fills memory reads nothing back and has nothing to be told
	report_wait '^# live .*filled=1' "$(report_size)" 120 || not_ok 'memory is filled again'
	sleep 2
	server_kill swap
	sleep 2
	vm_say 'go dead'
}

after() {
	control_verdict may
}
