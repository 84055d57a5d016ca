# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='connect, use and reconnect over IPv6'
boot=shared
mem=256
programs=iohammer
modules=loop

prepare() {
	disk "$WORK/raw" 32M
	serve raw "$WORK/raw"
}

guest() {
	check 'connects' nbd-client "$HOST6" "$PORT" /dev/nb0 -N raw
	nbd-client status nb0 --json > /tmp/status
	check 'the peer is the IPv6 address' grep -q "$HOST6" /tmp/status
	check 'verified I/O' iohammer -n 2 -t 4 /dev/nb0
	say restart
	await restarted
	check 'verified I/O after a restart of the server' iohammer -n 2 -t 4 /dev/nb0
	check 'disconnects' nbd-client -d /dev/nb0
	check 'IPv4 where IPv6 does not answer' nbd-client "fd77::99,$HOST4" "$PORT" /dev/nb0 \
		-N raw -connect-timeout 2
	check 'disconnects again' nbd-client -d /dev/nb0
}

host() {
	report_wait '^say restart' "$FROM" 60
	server_kill raw
	server_up raw
	vm_say 'go restarted'
}
