# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='conntrack does not see us, unless a firewall wants it; fragments in memory of the reserve are dropped'
programs=/usr/sbin/nft
modules='nf_conntrack nf_tables nft_ct'
kmods=fragments
timeout=240

NODE=/dev/nb0
CT=/proc/sys/net/netfilter

prepare() {
	disk "$WORK/swap" 64M
	serve swap "$WORK/swap"
}

# The firewall: rules for what comes in and for what goes out
firewall() {
	nft -f - <<-END
		flush ruleset
		table inet t {
			chain in {
				type filter hook input priority 0; policy $1;
				iif lo accept
				meta l4proto 58 accept
				$2
			}
			chain out {
				type filter hook output priority 0; policy $1;
				oif lo accept
				meta l4proto 58 accept
				$3
			}
		}
	END
}

# tracked: entries of connections that we have made to the server.  A packet of
# its that is late for a closed one may leave one in the other direction.
tracked() {
	grep -cE "^[^=]*src=[^ ]* dst=[^ ]* sport=[0-9]* dport=$PORT " /proc/net/nf_conntrack || :
}

# counted CHAIN: packets of the rule with a counter
counted() {
	nft list chain inet t "$1" | sed -n 's/.*counter packets \([0-9]*\).*/\1/p'
}

parameter() {
	echo "$1" > /sys/module/nbd/parameters/untrack
}

connect() {
	nbd-client "$@" "$PORT" "$NODE" -N swap -t 5
}

disconnect() {
	nbd-client -d "$NODE"
}

use() {
	dd if=/dev/urandom of="$NODE" bs=64k count=16 conv=fsync 2> /dev/null
}

# losses, lost N: connections that broke so far, and whether they are more than N
losses() {
	nbd-client status "${NODE##*/}" --json | sed -n 's/.*"losses": *\([0-9]*\).*/\1/p' | head -n 1
}

lost() {
	[ "$(losses)" -gt "$1" ]
}

said() {
	dmesg | grep -q -e "$1"
}

is_ready() {
	nbd-client status "${NODE##*/}" --json | grep -q '"state": *"ready"'
}

# With conntrack at work and nothing dropped
guest_open() {
	firewall accept 'ct state untracked counter' 'ct state untracked counter'
	for _host in $HOST4 $HOST6; do
		check "connect to $_host" connect "$_host"
		check 'use it' use
		same 'no connection to the server is tracked' "$(tracked)" 0
		check 'disconnect' disconnect
	done
	check 'what comes passed untracked' test "$(counted in)" -gt 20
	check 'what goes passed untracked' test "$(counted out)" -gt 20
	same 'no trace of it is left' "$(tracked)" 0
	check 'nobody is warned' test -z "$(dmesg | grep 'ct state untracked')"

	# The control: conntrack would have seen it
	parameter N
	check 'connect with untrack=N' connect "$HOST4"
	check 'it is tracked' test "$(tracked)" -ge 1
	check 'disconnect' disconnect
	parameter Y
}

# A table without room: a new connection is dropped unless it is not tracked
guest_full() {
	_max=$(cat $CT/nf_conntrack_max)
	echo 1 > $CT/nf_conntrack_max
	ping -c 1 "$HOST4" > /dev/null || :
	check 'connect with the table of connections full' connect "$HOST4"
	check 'use it' use
	check 'disconnect' disconnect
	parameter N
	refuse 'but not with untrack=N' 'no answer' connect "$HOST4"
	parameter Y
	echo "$_max" > $CT/nf_conntrack_max
}

# A firewall that accepts nothing else than what conntrack knows
guest_stateful() {
	firewall drop 'ct state established accept' 'ct state new,established accept'
	check 'untracked packets are dropped: connects all the same' connect "$HOST4"
	check 'use it' use
	check 'it is tracked' test "$(tracked)" -ge 1
	check 'the administrator is told the rule' said 'accept "ct state untracked"'
	_before=$(losses)
	say restart
	until_true 20 lost "$_before" || :
	await restarted
	check 'a restarted server is found again' until_true 20 is_ready
	check 'use it' use
	check 'disconnect' disconnect
	check 'over IPv6 too' connect "$HOST6"
	check 'disconnect' disconnect
	nft flush ruleset
}

# collected VERSION: fragments that the kernel has tried to put together
collected() {
	case $1 in
	4) awk '/^Ip: [0-9]/ { print $15 }' /proc/net/snmp ;;
	6) awk '/^Ip6ReasmReqds/ { print $2 }' /proc/net/snmp6 ;;
	esac
}

# fragments VERSION RESERVE: how many of 50 are collected
fragments() {
	_was=$(collected "$1")
	echo "$1 $2 50 $NETDEV" > /sys/module/fragments/parameters/receive
	echo $(($(collected "$1") - _was))
}

# That fragments in memory of the reserve are collected again
collects() {
	[ "$(fragments 4 1)" = 50 ]
}

guest_fragments() {
	NETDEV=$(basename /sys/class/net/e*)
	same 'without a device fragments in memory of the reserve are collected' "$(fragments 4 1)" 50
	check 'connect' connect "$HOST4"
	for _v in 4 6; do
		same "IPv$_v: fragments in memory of the reserve are dropped" "$(fragments $_v 1)" 0
		same "IPv$_v: others are collected" "$(fragments $_v 0)" 50
	done
	check 'disconnect' disconnect
	# Not at once: the next connect would have to wait until they are gone
	check 'the hooks go some ten seconds after the last device' until_true 20 collects
}

guest() {
	NODE=/dev/${PREFIX}0
	guest_fragments
	guest_open
	guest_full
	guest_stateful
}

host() {
	report_wait '^(say restart|end )' "$FROM" 200 || return 0
	server_kill swap
	sleep 2
	server_up swap
	vm_say 'go restarted'
}
