# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='every option of the client, status, disconnect, and what must be refused'
boot=shared
mem=256
servers='nbswap nbd-server'
modules=loop
programs='nbdnl nbdioctl'

prepare() {
	disk "$WORK/one" 64M
	disk "$WORK/two" 32M
	serve one "$WORK/one"
	serve two "$WORK/two" $((PORT + 1))
	serve ro "$WORK/two" $((PORT + 2)) 'readonly = true'
}

# value KEY: of the device whose status was taken last
value() {
	sed -n "s/.*\"$1\": *\(\"[^\"]*\"\|[^,}]*\).*/\1/p" /tmp/status | tr -d '"' | head -n 1
}

status_of() {
	nbd-client status "$1" --json > /tmp/status
}

basic() {
	check 'connects' nbd-client "$HOST4" "$PORT" /dev/nb0 -N one
	same 'size of the export' "$(cat /sys/block/nb0/size)" 131072
	check 'pid is shown in sysfs' test -s /sys/block/nb0/pid
	check '-c says connected' nbd-client -c /dev/nb0
	# 3 and 4: switched off
	[ -z "$WBT" ] || check 'writeback throttling is off: reclaim must not sleep' \
		test "$(cat /sys/kernel/debug/block/nb0/rqos/wbt/enabled)" -ge 3
	status_of nb0
	same 'status: state' "$(value state)" live
	same 'status: export' "$(value export)" one
	same 'status: size' "$(value size)" 67108864
	nbd-client status > /tmp/text
	check 'status as text names the device' grep -q nb0 /tmp/text
	nbd-client status --json | tr -d '\n' > /tmp/json
	echo "# json $(cat /tmp/json)"
	check 'data is written' dd if=/bin/busybox of=/dev/nb0 bs=64k count=8 conv=fsync
	refuse 'a second connect is refused' 'in use|busy|already' \
		nbd-client "$HOST4" "$PORT" /dev/nb0 -N one
	check 'disconnects' nbd-client -d /dev/nb0
	check 'pid is gone from sysfs' test ! -e /sys/block/nb0/pid
	refuse '-c says not connected' '' nbd-client -c /dev/nb0
	same 'size is gone' "$(cat /sys/block/nb0/size)" 0
}

# PF_MEMALLOC_NOIO
no_io() {
	awk '{ exit !(int($9 / 524288) % 2) }' "/proc/$1/stat"
}

# Every way in which somebody can hold the device
busy() {
	nbd-client "$HOST4" "$PORT" nb0 -N one > /dev/null
	mkswap /dev/nb0 > /dev/null
	swapon /dev/nb0
	refuse 'disconnect is refused while it is swap' 'in use|busy' nbd-client -d /dev/nb0
	refuse 'module unload is refused while configured' '' rmmod nbd
	nbd-client -d /dev/nb0 2> /dev/null &
	# As long as it waits for an opener that may go away
	check 'who disconnects asks for no memory that is swapped out for it' until_true 5 no_io $!
	wait $! || :
	swapoff /dev/nb0
	refuse 'module unload is refused while connected and idle' '' rmmod nbd
	exec 5< /dev/nb0
	refuse 'disconnect is refused while it is open' 'in use|busy' nbd-client -d /dev/nb0
	status_of nb0
	same 'status counts the opener' "$(value openers)" 1
	check 'disconnect by force goes through' nbd-client -d /dev/nb0 -force
	refuse 'reads fail after that' '' dd bs=4096 count=1 if=/dev/fd/5 of=/dev/null
	refuse 'nothing else is connected under who has it open' 'still in use' \
		nbd-client "$HOST4" "$PORT" nb0 -N two
	exec 5<&-
	check 'it can be connected anew' until_true 5 nbd-client "$HOST4" "$PORT" nb0 -N one
	check 'and disconnected' nbd-client -d nb0
}

# More memory is kept free for swap devices, and no longer than they are there
reserve() {
	_before=$(cat /proc/sys/vm/min_free_kbytes)
	check '-swap' nbd-client "$HOST4" "$PORT" nb0 -N one -swap
	status_of nb0
	_one=$(cat /proc/sys/vm/min_free_kbytes)
	same '-swap keeps free what the driver asks for' "$_one" $((($(value min_free) + 1023) / 1024))
	check 'which has room for what it may use' test "$(value reserve)" -gt 1000000 -a \
		$((8 * $(value reserve) / 3)) -lt "$(value min_free)"
	same 'and nothing boosts the watermarks' "$(cat /proc/sys/vm/watermark_boost_factor)" 0
	# The driver rounds for zones; what it asked for must satisfy it
	refuse 'and the driver finds it enough' '' grep -q '"min-free"' /tmp/status
	check 'a second swap device' nbd-client "$HOST4" $((PORT + 1)) nb1 -N two -swap
	check 'keeps more of it free' test "$(cat /proc/sys/vm/min_free_kbytes)" -gt "$_one"
	echo 2000 > /proc/sys/vm/min_free_kbytes
	status_of nb0
	check 'too little is a finding' grep -q '"min-free"' /tmp/status
	_code=0
	nbd-client doctor nb0 > /tmp/doctor || _code=$?
	same 'doctor: exit status' "$_code" 1
	check 'doctor: the command that mends it' \
		grep -q "sysctl -w vm.min_free_kbytes=$_one" /tmp/doctor
	nbd-client doctor --json > /tmp/json || :
	echo 1 > /sys/class/net/eth0/threaded
	status_of nb0
	check 'a card polled by threads is a finding' grep -q '"napi-threaded"' /tmp/status
	echo 0 > /sys/class/net/eth0/threaded
	status_of nb0
	refuse 'and no longer when it is not' '' grep -q '"napi-threaded"' /tmp/status
	check 'doctor: all devices' grep -q '"nb1"' /tmp/json
	refuse 'doctor: no such device' 'no NBD device' nbd-client doctor sda
	nbd-client -d nb0 > /dev/null
	same 'what the administrator has set stands' "$(cat /proc/sys/vm/min_free_kbytes)" 2000
	nbd-client -d nb1 > /dev/null
	echo "$_before" > /proc/sys/vm/min_free_kbytes
	nbd-client "$HOST4" "$PORT" nb0 -N one -swap > /dev/null
	nbd-client "$HOST4" $((PORT + 1)) nb1 -N two -swap > /dev/null
	nbd-client -d nb0 > /dev/null
	check 'less when one has gone' test "$(cat /proc/sys/vm/min_free_kbytes)" -le "$_one"
	nbd-client -d nb1 > /dev/null
	same 'and no more when both have' "$(cat /proc/sys/vm/min_free_kbytes)" "$_before"
	check 'then the watermarks are boosted again' test "$(cat /proc/sys/vm/watermark_boost_factor)" -gt 0
}

options() {
	check '-R' nbd-client "$HOST4" "$PORT" /dev/nb1 -N one -R
	same '-R makes it read-only' "$(cat /sys/block/nb1/ro)" 1
	nbd-client -d /dev/nb1
	check 'a read-only export' nbd-client "$HOST4" $((PORT + 2)) /dev/nb1 -N ro
	same 'is read-only' "$(cat /sys/block/nb1/ro)" 1
	nbd-client -d /dev/nb1
	check '-b 4096' nbd-client "$HOST4" "$PORT" /dev/nb1 -N one -b 4096
	same '-b sets the logical block size' "$(cat /sys/block/nb1/queue/logical_block_size)" 4096
	nbd-client -d /dev/nb1
	check 'default block size' nbd-client "$HOST4" "$PORT" /dev/nb1 -N one
	same 'read-only is not left over' "$(cat /sys/block/nb1/ro)" 0
	same 'block size is not left over' "$(cat /sys/block/nb1/queue/logical_block_size)" 512
	nbd-client -d /dev/nb1
	check '-B' nbd-client "$HOST4" "$PORT" /dev/nb1 -N one -B 1048576
	same '-B sets the size' "$(cat /sys/block/nb1/size)" 2048
	nbd-client -d /dev/nb1
	check '-C 4' nbd-client "$HOST4" "$PORT" /dev/nb1 -N one -C 4
	status_of /dev/nb1
	same '-C 4 makes four links' "$(grep -o '"peer"' /tmp/status | wc -l)" 4
	same 'all of them ready' "$(grep -o '"state": *"ready"' /tmp/status | wc -l)" 4
	check 'four links carry data' dd if=/dev/nb1 of=/dev/null bs=1M count=16
	nbd-client -d /dev/nb1
	check 'options in front, two dashes, -swap -persist -systemd-mark' nbd-client --timeout 7 \
		--swap -persist --systemd-mark --name one "$HOST4" "$PORT" nbd1
	status_of nb1
	same '-t reaches the driver' "$(value timeout)" 7
	nbd-client -d nbd1
	check '-dead-timeout, -identifier' nbd-client "$HOST4" "$PORT" nb1 -N one -dead-timeout 9 -i disk7
	status_of nb1
	same '-dead-timeout reaches the driver' "$(value dead_timeout)" 9
	same '-identifier is shown in sysfs' "$(cat /sys/block/nb1/backend)" disk7
	nbd-client -d nb1
	check '-link-timeout, -fence-delay, -spread' nbd-client "$HOST4" "$PORT" nb1 -N one \
		-link-timeout 2.5 -fence-delay 0 -spread
	status_of nb1
	same '-link-timeout reaches the driver' "$(value link_timeout_ms)" 2500
	same '-fence-delay reaches the driver' "$(value fence_delay_ms)" 0
	check '-spread reaches the driver' grep -q '"spread"' /tmp/status
	check 'set' nbd-client set nb1 -link-timeout 20 -fence-delay 0.5 -dead-conn-timeout 77 -timeout 8
	status_of nb1
	same 'set: -link-timeout' "$(value link_timeout_ms)" 20000
	same 'set: -fence-delay' "$(value fence_delay_ms)" 500
	same 'set: -dead-timeout' "$(value dead_timeout)" 77
	same 'set: -timeout' "$(value timeout)" 8
	check 'a dead timeout is a finding' grep -q '"dead-conn-timeout"' /tmp/status
	same 'with which it is not safe for swap' "$(value swap_safe)" false
	_code=0
	nbd-client doctor nb1 > /tmp/doctor || _code=$?
	same 'of which doctor warns most' "$_code" 3
	check 'set takes it back' nbd-client set nb1 -dead-timeout 0
	status_of nb1
	same 'and it is safe again' "$(value swap_safe)" true
	refuse 'set: a device that is not connected' 'not connected' nbd-client set nb5 -timeout 5
	nbd-client -d nb1
	check '-no-optgo' nbd-client "$HOST4" "$PORT" nb1 -N one -no-optgo
	same '-no-optgo: size' "$(cat /sys/block/nb1/size)" 131072
	nbd-client -d nb1
	check 'second host is used when the first is dead' \
		nbd-client "10.77.0.99,$HOST4" "$PORT" nb1 -N one -connect-timeout 2
	nbd-client -d nb1
}

refusals() {
	refuse 'unknown export: the server'"'"'s word is passed on' 'nothing-like-this' \
		nbd-client "$HOST4" "$PORT" /dev/nb2 -N nothing-like-this
	refuse 'no server: said at once' 'refused' nbd-client "$HOST4" 9 /dev/nb2
	refuse 'no host: given up in time' 'no answer|unreachable|timed out|no route' \
		nbd-client 10.77.0.99 "$PORT" /dev/nb2 -connect-timeout 2
	refuse 'block size beyond the page' '' nbd-client "$HOST4" "$PORT" /dev/nb2 -N one -b 65536
	refuse 'block size that is no power of two' '' nbd-client "$HOST4" "$PORT" /dev/nb2 -N one -b 1536
	refuse 'too many connections' '16' nbd-client "$HOST4" "$PORT" /dev/nb2 -N one -C 17
	refuse 'unknown option' 'no-such-option' nbd-client --no-such-option
	refuse 'size beyond the export' '' nbd-client "$HOST4" "$PORT" /dev/nb2 -N two -B 1G
	check 'nothing is left of a refused connect' \
		nbd-client "$HOST4" $((PORT + 1)) /dev/nb2 -N two
	same 'size of another export' "$(cat /sys/block/nb2/size)" 65536
	nbd-client -d /dev/nb2
}

several() {
	for i in 0 1 2 3; do
		nbd-client "$HOST4" "$PORT" /dev/nb$i -N one > /dev/null
	done
	nbd-client "$HOST4" $((PORT + 1)) /dev/nb4 -N two > /dev/null
	same 'five devices at once' "$(nbd-client status --json | grep -o '"export"' | wc -l)" 5
	check 'a number beyond the module parameter' nbd-client "$HOST4" "$PORT" /dev/nb40 -N one
	check 'its node appears' until_true 5 test -b /dev/nb40
	nbd-client -d /dev/nb40
	for i in 0 1 2 3 4; do
		nbd-client -d /dev/nb$i
	done
	same '-l lists the export' "$(nbd-client -l "$HOST4" "$PORT" | grep -cw one)" 1
	same 'list does too' "$(nbd-client list "$HOST4" "$PORT" | grep -cw one)" 1
	same 'list --json does too' "$(nbd-client list "$HOST4" "$PORT" --json | grep -c '"one"')" 1
	check 'nbd-client -V' nbd-client -V
	check 'nbd-client -h' nbd-client -h
}

# temporary FLAGS: a device that goes away when it is disconnected (1), which the last
# close does as well (2)
temporary() {
	nbd-client "$HOST4" "$PORT" /dev/nb41 -N one > /dev/null
	until_true 5 test -b /dev/nb41
	nbdnl reconfigure 41 10 0 "$1"
}

# disconnected FILE COMMAND...: or it was gone by then
disconnected() {
	_said=$1
	shift
	"$@" > "$_said" 2>&1 || grep -q 'no such device' "$_said" || echo refused >> /tmp/refused
}

# Who asks last has found it, and it is gone meanwhile
destroyed() {
	_left=0
	: > /tmp/refused
	for i in 1 2 3 4 5; do
		temporary 1
		disconnected /tmp/first nbd-client -d /dev/nb41 &
		disconnected /tmp/second nbd-client -d /dev/nb41
		wait $!
		until_true 5 test ! -e /sys/block/nb41 || _left=$((_left + 1))
	done
	same 'two disconnect a device that is destroyed by it: nobody is refused' \
		"$(wc -l < /tmp/refused)" 0
	[ ! -s /tmp/refused ] || sed 's/^/# /' /tmp/first /tmp/second
	same 'and it is destroyed' $_left 0
	_left=0
	for i in 1 2 3 4 5; do
		temporary 3
		exec 5< /dev/nb41
		nbd-client status /dev/nb41 > /dev/null
		exec 5<&-
		until_true 5 test ! -e /sys/block/nb41 || _left=$((_left + 1))
	done
	same 'the last close destroys it' $_left 0
}

ioctls() {
	_rc=0
	nbdioctl /dev/nb0 || _rc=$?
	same 'ioctl: every check was made' $_rc 0
}

# What was written before must be there for whoever connects next
again() {
	nbd-client "$HOST4" "$PORT" /dev/nb0 -N one > /dev/null
	dd if=/bin/busybox of=/dev/nb0 bs=64k count=8 conv=fsync 2> /dev/null
	nbd-client -d /dev/nb0
	nbd-client "$HOST4" $((PORT + 1)) /dev/nb0 -N two > /dev/null
	same 'reconnected to another export: its size' "$(cat /sys/block/nb0/size)" 65536
	refuse 'and not a page of the first one left in the cache' '' cmp -n 65536 /dev/nb0 /bin/busybox
	nbd-client -d /dev/nb0
	nbd-client "$HOST4" "$PORT" /dev/nb0 -N one > /dev/null
	check 'the first export again: its data' cmp -n 524288 /dev/nb0 /bin/busybox
	nbd-client -d /dev/nb0
	check 'module unload' rmmod nbd
	check 'module load' insmod /lib/modules/nbd.ko
}

guest() {
	basic
	busy
	reserve
	options
	refusals
	several
	destroyed
	ioctls
	again
}

after() {
	report_since "$FROM" | sed -n 's/^# json //p' > "$RUN/json"
	check 'status --json is JSON with a device in it' /usr/bin/python3 -c '
import json, sys
devices = json.load(open(sys.argv[1]))
devices = devices["devices"] if isinstance(devices, dict) else devices
assert devices[0]["export"] == "one" and devices[0]["links"][0]["state"] == "ready", devices' "$RUN/json"
	rm -f "$RUN/json"
}
