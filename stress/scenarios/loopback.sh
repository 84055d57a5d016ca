# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='client and server on one machine: works, but swap on it is warned about'
boot=shared
mem=256
servers=nbswap
programs="iohammer ${TOP:-}/build/bin/nbd-server"
modules=loop

guest() {
	truncate -s 4M /tmp/raw
	# The usual misuse on one machine: a file in memory behind a swap device
	nbd-server 10900 /tmp/raw -n > /tmp/server.log 2>&1 &
	server=$!
	until_true 10 sh -c 'netstat -ltn | grep -q :10900'
	check 'connects' nbd-client 127.0.0.1 10900 /dev/nb0
	check 'verified I/O' iohammer -n 2 -t 4 /dev/nb0
	check 'disconnects' nbd-client -d /dev/nb0
	nbd-client 127.0.0.1 10900 /dev/nb0 -swap > /tmp/connect 2>&1
	dmesg | tail -n 40 > /tmp/dmesg
	check 'asking for swap on it gets a warning' \
		grep -qiE 'loopback|this machine|same machine|local' /tmp/connect /tmp/dmesg
	sed 's/^/# /' /tmp/connect
	check 'disconnects again' nbd-client -d /dev/nb0
	# Not by its address alone: the route tells
	check 'connects by the address of the card' nbd-client "$GUEST4" 10900 /dev/nb0
	nbd-client status nb0 --json > /tmp/status
	check 'which is a finding as well' grep -q '"server-local"' /tmp/status
	check 'disconnects once more' nbd-client -d /dev/nb0
	kill $server
	rm -f /tmp/raw
}
