# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh disable=SC2034,SC2154
desc='every allocation of load, connect, reconfigure and disconnect fails once'
mem=256
timeout=1800
long=y
params=nbds_max=2
kmods=failnth
config='FAILSLAB FAIL_PAGE_ALLOC KPROBES DEBUG_KMEMLEAK'
programs=nbdnl
# sysfs_slab_add() does not put the kobject that it could not add, and the name stays
kernel_leaks=sysfs_slab_add
# The guest part reads which
expect='kmemleak: [0-9]+ new suspected'
servers=nbswap

prepare() {
	disk "$WORK/raw" 16M
	serve raw "$WORK/raw"
}

PARAMETERS=/sys/module/failnth/parameters

# patiently COMMAND...: an answer must come, though it may take its time
patiently() {
	timeout $((30 * SLOW)) "$@"
}

is_live() {
	nbd-client status /dev/nb0 --json | grep -q '"live"'
}

is_connected() {
	is_live && [ -e /sys/block/nb0/pid ]
}

is_free() {
	! is_live && [ ! -e /sys/block/nb0/pid ] && [ "$(cat /sys/block/nb0/size)" = 0 ]
}

carries_data() {
	patiently dd if=/dev/nb0 of=/dev/null bs=64k count=1 iflag=direct
}

end_device() {
	! is_live || patiently nbd-client -d /dev/nb0 > /dev/null || :
	[ -z "$HOLDER" ] || kill "$HOLDER" 2> /dev/null || :
	HOLDER=
}

# One sweep is four functions: NAME_before makes the state that NAME_do begins
# from, NAME_done and NAME_refused look at what it left, NAME_after clears up.
load_before() { :; }
load_do() { insmod /lib/modules/nbd.ko nbds_max=1; }
# A device that could not be made is, when it is asked for
load_done() {
	test -b /dev/nb0 || { connect_do && is_connected && end_device; } || return 1
	rmmod nbd
}
load_refused() { ! grep -q '^nbd ' /proc/modules; }
load_after() { :; }

connect_before() { :; }
connect_do() { nbd-client "$HOST4" "$PORT" /dev/nb0 -N raw -C 2 -connect-timeout 10; }
connect_done() { is_connected && carries_data; }
connect_refused() { is_free; }
connect_after() { end_device; }

sockets_before() { :; }
sockets_do() { nbdnl connect 0 "$HOST4" "$PORT" raw; }
sockets_done() { HOLDER=$(tail -n 1 /tmp/out.do) && is_connected && carries_data; }
sockets_refused() { is_free; }
sockets_after() { end_device; }

# The device keeps its requests while a new socket is handed over
reconnect_before() {
	HOLDER=$(nbdnl connect 0 "$HOST4" "$PORT" raw)
	kill "$HOLDER"
	until_true 10 sh -c 'nbd-client status /dev/nb0 --json | grep -q \"down\"' || :
}
reconnect_do() { nbdnl reconnect 0 "$HOST4" "$PORT" raw; }
reconnect_done() { HOLDER=$(tail -n 1 /tmp/out.do) && carries_data; }
reconnect_refused() { is_live && reconnect_do > /tmp/out.do && reconnect_done; }
reconnect_after() { end_device; }

reconfigure_before() { is_connected || connect_do > /dev/null; }
reconfigure_do() { nbdnl reconfigure 0 $((20 + N % 7)) 0; }
reconfigure_done() { carries_data; }
reconfigure_refused() { carries_data; }
reconfigure_after() { :; }

status_before() { reconfigure_before; }
status_do() { nbd-client status /dev/nb0 --json; }
status_done() { grep -q live /tmp/out.do; }
status_refused() { carries_data; }
status_after() { :; }

disconnect_before() { reconfigure_before; }
disconnect_do() { nbd-client -d /dev/nb0; }
disconnect_done() { is_free; }
disconnect_refused() { is_connected && carries_data; }
disconnect_after() { end_device; }

# fail SWEEP WHAT: with what was made to fail and what was said
fail() {
	not_ok "$1: $2, when allocation $N fails: $SITE"
	sed 's/^/#   /' /tmp/out.do
	BAD=$((BAD + 1))
}

# once SWEEP: with allocation $N. Return: 1 when there is no such allocation
once() {
	"$1_before"
	echo "$N" > $PARAMETERS/nth
	rc=0
	"$1_do" > /tmp/out.do 2>&1 || rc=$?
	came=$(cat $PARAMETERS/failed)
	SITE=$(cat $PARAMETERS/site)
	echo 0 > $PARAMETERS/nth
	[ "$came" != Y ] || [ "$rc" = 0 ] || REFUSED=$((REFUSED + 1))
	if [ "$rc" != 0 ] && [ "$came" != Y ]; then
		fail "$1" 'fails although nothing was made to fail'
	elif [ "$rc" = 0 ]; then
		"$1_done" > /tmp/out.check 2>&1 || fail "$1" 'says that it is done and is not'
	elif ! [ -s /tmp/out.do ]; then
		fail "$1" "fails with status $rc and without a word"
	else
		"$1_refused" > /tmp/out.check 2>&1 || fail "$1" 'is refused and leaves something'
	fi
	"$1_after"
	[ "$came" = Y ] || return 1
	echo "$SITE" >> /tmp/sites
}

# What a device in use holds and a free one must not
nothing_held() {
	same "$1: no user of the module is left" "$(cat /sys/module/nbd/refcnt)" 0
	check "$1: no socket is left" until_true 10 grep -q '^TCP: inuse 0 orphan 0 ' /proc/net/sockstat
}

# sweep SWEEP: until an allocation is asked for that does not come: then it must succeed
sweep() {
	N=1 BAD=0 REFUSED=0 HOLDER=
	: > /tmp/sites
	while [ $BAD -lt 5 ] && once "$1"; do
		N=$((N + 1))
	done
	[ $BAD != 0 ] || ok "$1: refused or done, and well in either case, $((N - 1)) times"
	case $1 in
	# They take over what they are given, without any
	reconfigure | reconnect) ;;
	*) check "$1: allocations were made to fail" [ $N -gt 1 ] ;;
	esac
	metric "$1_allocations=$((N - 1))"
	metric "$1_refused=$REFUSED"
	metric "$1_sites=$(sort -u /tmp/sites | wc -l)"
}

guest() {
	# The probe is to know the driver from its first instruction on
	rmmod nbd
	check 'the driver loads' insmod /lib/modules/nbd.ko nbds_max=2
	for _sweep in connect reconfigure status disconnect sockets reconnect; do
		sweep $_sweep
		case $_sweep in
		reconfigure | status) ;;
		*) nothing_held $_sweep ;;
		esac
	done
	check 'module unload' rmmod nbd
	sweep load
}
